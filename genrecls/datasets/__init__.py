"""Corpora: what is in them and where they come from."""
