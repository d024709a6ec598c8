"""Neural networks, one family a file, found by name through the registry."""
