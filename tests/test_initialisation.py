"""First weights: bounds and variances by scheme and layer, and what they depend on."""

import math

import pytest
import torch
from torch import nn

from genrecls.models.initialisation import initialise

# Layer, and fan-in and fan-out of each drawn weight.
LAYERS = {
    "linear": (lambda: nn.Linear(200, 150), {"weight": (200, 150)}),
    "conv1d": (lambda: nn.Conv1d(40, 60, 9), {"weight": (360, 540)}),
    "conv2d": (lambda: nn.Conv2d(30, 50, (3, 5)), {"weight": (450, 750)}),
    "gru": (
        lambda: nn.GRU(70, 90, bidirectional=True),
        {name: (70 if "ih" in name else 90, 90) for name in ("weight_ih_l0", "weight_hh_l0", "weight_hh_l0_reverse")},
    ),
    "lstm": (
        lambda: nn.LSTM(50, 80, bidirectional=True),
        {name: (50 if "ih" in name else 80, 80) for name in ("weight_ih_l0", "weight_hh_l0", "weight_ih_l0_reverse")},
    ),
}


@pytest.mark.parametrize("scheme", ["default", "kaiming", "xavier"])
@pytest.mark.parametrize("kind", LAYERS)
def test_weights_have_the_variance_of_their_scheme(kind: str, scheme: str) -> None:
    make, drawn = LAYERS[kind]
    layer = make()
    initialise(layer, 3, scheme)
    for name, (fan_in, fan_out) in drawn.items():
        variance = {
            "kaiming": 2 / fan_in,
            "xavier": 2 / (fan_in + fan_out),
            "default": 2 / fan_out if "conv" in kind else 1 / (3 * (fan_in if kind == "linear" else fan_out)),
        }[scheme]
        values = layer.get_parameter(name).detach()
        assert float(values.var()) == pytest.approx(variance, rel=0.03), name
        assert math.sqrt(3 * variance) * 0.99 < float(values.abs().max()) <= math.sqrt(3 * variance) * 1.000001
    for name, values in layer.named_parameters():
        assert name.startswith("bias") == (not values.any()), name


@pytest.mark.parametrize(
    ("scheme", "theirs"),
    [
        ("kaiming", lambda weight: nn.init.kaiming_uniform_(weight, nonlinearity="relu")),
        ("xavier", nn.init.xavier_uniform_),
    ],
)
def test_bounds_are_those_of_torch(scheme: str, theirs: object) -> None:
    assert callable(theirs)
    for make in (lambda: nn.Conv2d(8, 24, (3, 5), groups=4), lambda: nn.Conv1d(16, 4, 31), lambda: nn.Linear(90, 30)):
        ours, other = make(), make()
        initialise(ours, 0, scheme)
        theirs(other.weight)
        spread = [float(layer.weight.detach().abs().max()) for layer in (ours, other)]
        assert spread[0] == pytest.approx(spread[1], rel=0.02)


@pytest.mark.parametrize("scheme", ["default", "kaiming", "xavier"])
def test_a_weight_depends_on_its_own_name_and_shape_alone(scheme: str) -> None:
    one, other = nn.LSTM(30, 20), nn.LSTM(50, 20, num_layers=2, bidirectional=True)
    initialise(one, 1, scheme)
    initialise(other, 1, scheme)
    kept, same, reverse = (
        layer.get_parameter(name)
        for layer, name in ((one, "weight_hh_l0"), (other, "weight_hh_l0"), (other, "weight_hh_l0_reverse"))
    )
    assert torch.equal(kept, same)
    assert not torch.equal(same, reverse)


def test_schemes_scale_the_same_draws() -> None:
    default, xavier = nn.Linear(20, 30), nn.Linear(20, 30)
    initialise(default, 1)
    initialise(xavier, 1, "xavier")
    torch.testing.assert_close(xavier.weight, default.weight * math.sqrt(6 / 50 * 20))


def test_a_projection_in_an_lstm_has_no_rule() -> None:
    with pytest.raises(TypeError, match="no rule initialises a LSTM"):
        initialise(nn.LSTM(8, 8, proj_size=4), 0)
