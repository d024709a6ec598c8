"""Settings of each family of models, and its entries in the registry. Nothing here imports PyTorch."""
