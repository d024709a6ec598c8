"""The models of source D, the four CRNNs; tests/test_models.py has what every model keeps."""

from typing import Any

import pytest
import torch
from torch import nn

from genrecls.models.building import build
from genrecls.models.dropout import Dropout, begin_step
from genrecls.models.initialisation import initialise
from genrecls.models.registry import entry
from genrecls.models.shapes import InputShape, Smallest

SOURCE = InputShape(bins=128, frames=1292, genres=16, samples=661_500)
SMALL = InputShape(bins=18, frames=23, genres=3, samples=1)
NAMES = ["cnn1d-gru", "cnn1d-lstm", "cnn2d-gru", "cnn2d-lstm"]


def made(name: str, shape: InputShape = SMALL, **changes: object) -> Any:
    model = build(entry(name).settings(**{"hidden": 4, **changes}), shape)
    initialise(model, 1)
    return model


def features(batch: int = 4) -> torch.Tensor:
    return torch.randn(batch, 1, SMALL.bins, SMALL.frames, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "hidden", "count"),
    [
        ("cnn1d-gru", 128, 3_009_296),
        ("cnn1d-lstm", 128, 1_696_528),
        ("cnn2d-gru", 128, 14_494_608),
        ("cnn1d-gru", 64, 775_568),
        ("cnn1d-lstm", 64, 1_023_440),
        ("cnn2d-gru", 64, 3_626_448),
        ("cnn2d-lstm", 64, 9_356_304),
    ],
)
def test_crnns_have_the_parameters_of_their_source(name: str, hidden: int, count: int) -> None:
    assert sum(value.numel() for value in made(name, SOURCE, hidden=hidden).parameters()) == count


@pytest.mark.parametrize("name", NAMES)
def test_the_defaults_are_those_of_the_sources_training(name: str) -> None:
    assert entry(name).settings().values() == {"hidden": 64, "rnn_layers": 2, "dropout": 0.3}


@pytest.mark.parametrize("name", NAMES)
def test_recurrent_layers_are_bidirectional_single_layers(name: str) -> None:
    kind = nn.GRU if "gru" in name else nn.LSTM
    units = {"cnn1d-gru": 8, "cnn2d-gru": 4}.get(name, 128)
    for layers in (1, 2, 3):
        model = made(name, rnn_layers=layers)
        found = [module for module in model.modules() if isinstance(module, nn.RNNBase)]
        assert [type(module) for module in found] == [kind] * layers
        assert all(module.bidirectional and module.num_layers == 1 and module.dropout == 0 for module in found)
        assert all(module.hidden_size == units for module in found)
        assert [module.input_size for module in found[1:]] == [2 * units] * (layers - 1)


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("cnn1d-gru", {"convolutions.dropout"}),
        ("cnn1d-lstm", {"convolutions.dropout", "head.2"}),
        ("cnn2d-gru", {"convolutions.dropout", "recurrence.dropouts.0"}),
        ("cnn2d-lstm", {"convolutions.dropout", "recurrence.dropouts.0", "head.2"}),
    ],
)
def test_dropout_is_where_the_source_has_it(name: str, places: set[str]) -> None:
    model = made(name, dropout=0.4)
    dropouts = {path: module for path, module in model.named_modules() if isinstance(module, Dropout)}
    assert {path for path, module in dropouts.items() if module.p == 0.4} == places
    assert all(module.p == 0 for path, module in dropouts.items() if path not in places)
    assert not any(isinstance(module, nn.Dropout | nn.Dropout2d) for module in model.modules())


@pytest.mark.parametrize("name", ["cnn2d-gru", "cnn2d-lstm"])
def test_dropout_between_recurrent_layers_is_keyed(name: str) -> None:
    """Only the mask between the layers differs from step to step where the others are off."""
    model = made(name, dropout=0.5).train()
    for path, module in model.named_modules():
        if isinstance(module, Dropout) and not path.startswith("recurrence"):
            module.p = 0.0
    x, before = features(), torch.get_rng_state()

    def logits(step: int) -> torch.Tensor:
        begin_step(model, 0, step)
        made: torch.Tensor = model(x)
        return made

    assert torch.equal(logits(0), logits(0))
    assert not torch.equal(logits(0), logits(1))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_stack_computes_what_pytorchs_own_does() -> None:
    for name in NAMES:
        stack = made(name).eval().recurrence
        first = stack.layers[0]
        own = type(first)(first.input_size, first.hidden_size, num_layers=2, batch_first=True, bidirectional=True)
        own.load_state_dict(
            {
                parameter.replace("_l0", f"_l{i}"): value
                for i, layer in enumerate(stack.layers)
                for parameter, value in layer.state_dict().items()
            }
        )
        x = torch.randn(3, 6, first.input_size, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(stack(x), own(x)[0])


@pytest.mark.parametrize("name", NAMES)
def test_the_head_sees_the_mean_and_for_lstms_the_maximum_over_time(name: str) -> None:
    model = made(name).eval()
    over_time = model.recurrence(model.convolutions(features()))
    assert over_time.shape[:2] == (4, 23 // 2 // 2)
    summary = over_time.sum(dim=1) / 5
    if "lstm" in name:
        summary = torch.cat((summary, over_time.max(dim=1).values), dim=1)
    torch.testing.assert_close(model(features()), model.head(summary))


def test_frequency_becomes_channels_in_two_dimensions() -> None:
    convolutions = made("cnn2d-gru").eval().convolutions
    maps = convolutions.layers(features())
    assert maps.shape == (4, 16, 18 // 4, 23 // 2 // 2)
    rows = convolutions(features())
    assert rows.shape == (4, 5, 16 * 4)
    for time in range(5):
        torch.testing.assert_close(rows[:, time], maps[..., time].reshape(4, 64))


def test_kernels_and_channels_of_the_convolutions() -> None:
    for name, kind in (("cnn1d-gru", nn.Conv1d), ("cnn2d-lstm", nn.Conv2d)):
        layers = made(name, hidden=8).convolutions.layers
        found = [module for module in layers if isinstance(module, kind)]
        assert [(module.out_channels, module.kernel_size[0], module.padding[0]) for module in found] == [
            *((8, 5, 2), (16, 3, 1), (32, 3, 1))
        ]
        kinds = [type(module).__name__.rstrip("12d") for module in layers]
        assert kinds == ["Conv", "BatchNorm", "ReLU", "MaxPool"] * 2 + ["Conv", "BatchNorm", "ReLU"]


def test_the_smallest_fragment_of_each() -> None:
    for name in NAMES:
        expected = Smallest(frames=4) if "1d" in name else Smallest(bins=4, frames=4)
        assert entry(name).model.smallest(entry(name).settings()) == expected


def test_recurrent_weights_start_within_the_inverse_root_of_the_units() -> None:
    for name in NAMES:
        for layer in made(name).recurrence.layers:
            for parameter, value in layer.named_parameters():
                if parameter.startswith("bias"):
                    assert (value == 0).all()
                else:
                    bound = layer.hidden_size**-0.5
                    assert 0.9 * bound < float(value.detach().abs().max()) <= bound
