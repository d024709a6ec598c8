"""`fma-large`: 106,574 tracks of 30 s, 49,598 of them with a top genre."""

from genrecls.datasets.fma.corpus import Fma

LOADER = Fma("large")
