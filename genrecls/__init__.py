"""genrecls: honest, repeatable, fast experiments in music genre classification."""

__version__ = "0.1.0"
