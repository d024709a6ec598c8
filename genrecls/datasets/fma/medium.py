"""`fma-medium`: 25,000 tracks of 30 s, sixteen genres."""

from genrecls.datasets.fma.corpus import Fma

LOADER = Fma("medium")
