"""What every command of the tests would work out anew: imported once, where they are forked from."""

import gc

from genrecls import environment, provenance
from genrecls.models.registry import entries

environment.describe({})
provenance.package_code()
for name in entries():
    provenance.model_code(name)
# What is there now is there for good: a collection in a fork would look at all of it, and with that copy it.
gc.collect()
gc.freeze()
