"""`fma-small`: 8,000 tracks of 30 s, eight genres in equal numbers."""

from genrecls.datasets.fma.corpus import Fma

LOADER = Fma("small")
