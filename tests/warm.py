"""What every command of the tests would work out anew: imported once, where they are forked from."""

from genrecls import environment, provenance
from genrecls.models.registry import entries

environment.describe({})
provenance.package_code()
for name in entries():
    provenance.model_code(name)
