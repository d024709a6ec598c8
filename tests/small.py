"""A small version of every model, by the settings that make it so."""

SMALL: dict[str, dict[str, object]] = {
    "se-resnet": {"width": 8, "se_ratio": 4},
    "se-cnn": {"channels": "16-32-16", "se_ratio": 4},
    "cnn1d": {"channels": "8-16-16-32", "dense": "32-16"},
    "cnn2d": {"filters": 16, "window": 16, "dense": "32-16"},
    "mixnet": {"channels": "8-16-16-32", "filters": 16, "window": 16, "dense": "32-16"},
    "mlp": {},
    "mlp2": {"layers": 3, "nodes": "24-16"},
    "cel": {"nodes": "8-16"},
    "cel2": {"nodes": "8-16"},
    "cel3": {"nodes": "8-16"},
    "cnn1d-gru": {"hidden": 8},
    "cnn1d-lstm": {"hidden": 8},
    "cnn2d-gru": {"hidden": 8},
    "cnn2d-lstm": {"hidden": 4},
}
