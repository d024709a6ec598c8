"""The training loop that both DataLoader references share: AdamW, cross-entropy; no channels-last, nothing fused."""

import time

import torch
from torch.utils.data import DataLoader, Dataset


def epochs(
    model: torch.nn.Module,
    dataset: "Dataset[tuple[torch.Tensor, int]]",
    epochs: int,
    batch_size: int,
    workers: int,
    precision: str,
) -> dict[str, float]:
    """Train, and give the time of all epochs but the first, in fragments and seconds."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = model.to(device).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    loader = DataLoader(dataset, batch_size=batch_size, shuffle=True, drop_last=True, num_workers=workers)
    amount, began = 0, 0.0
    for epoch in range(epochs):
        if epoch == 1:
            began = time.perf_counter()
        for features, genres in loader:
            features, genres = features.to(device), genres.to(device)
            optimiser.zero_grad()
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                loss = torch.nn.functional.cross_entropy(model(features).float(), genres)
            loss.backward()
            optimiser.step()
            loss.item()
            amount += len(genres) if epoch else 0
    return {"amount": amount, "seconds": time.perf_counter() - began}
