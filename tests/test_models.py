"""One contract for every model, and the parameter counts of the sources."""

import math
from dataclasses import replace

import pytest
import torch

from genrecls.config import ModelSettings
from genrecls.errors import GenreclsError
from genrecls.models import registry
from genrecls.models.dropout import ChannelDropout, begin_step
from genrecls.models.initialisation import initialise
from genrecls.models.registry import InputShape, Model, build, entries, entry

SMALL: dict[str, dict[str, object]] = {"se-resnet": {"width": 8, "se_ratio": 4}}
SHAPE = InputShape(bins=32, frames=64, genres=7, samples=32768)


def settings(name: str, **changes: object) -> ModelSettings:
    return entry(name).settings(**{**SMALL[name], **changes})


def made(name: str, seed: int = 1, shape: InputShape = SHAPE, **changes: object) -> Model:
    model = build(settings(name, **changes), shape)
    initialise(model, seed)
    return model


@pytest.fixture(params=list(entries()))
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def fragments(name: str, batch: int = 4, shape: InputShape = SHAPE) -> list[torch.Tensor]:
    """What the model of that name takes, in its order."""
    sizes = {"wave": (shape.samples,), "feature": (shape.bins, shape.frames)}
    source = torch.Generator().manual_seed(0)
    return [torch.randn(batch, 1, *sizes[kind], generator=source) for kind in settings(name).inputs]


def test_logits_of_the_right_shape(name: str) -> None:
    for shape in (SHAPE, InputShape(bins=40, frames=97, genres=3, samples=50001)):
        logits = made(name, shape=shape).eval()(*fragments(name, 5, shape))
        assert logits.shape == (5, shape.genres)
        assert torch.isfinite(logits).all()


def test_every_parameter_gets_a_gradient(name: str) -> None:
    model = made(name).train()
    begin_step(model, 0, 0)
    torch.nn.functional.cross_entropy(model(*fragments(name)), torch.arange(4)).backward()
    for parameter, value in model.named_parameters():
        assert value.grad is not None, parameter
        assert torch.isfinite(value.grad).all(), parameter
        assert value.grad.abs().max() > 0, parameter


def test_evaluation_sees_each_fragment_alone(name: str) -> None:
    model = made(name).eval()
    batch = fragments(name, 6)
    alone = torch.cat([model(*(part[i : i + 1] for part in batch)) for i in range(6)])
    torch.testing.assert_close(model(*batch), alone, rtol=1e-4, atol=1e-5)


def test_initial_weights_are_keyed_by_seed_and_name(name: str) -> None:
    one, again, other = made(name, 1).state_dict(), made(name, 1).state_dict(), made(name, 2).state_dict()
    drawn = [key for key, value in one.items() if value.unique().numel() > 1]
    assert drawn
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert not any(torch.equal(one[key], other[key]) for key in drawn)


def test_building_leaves_the_global_generator_alone(name: str) -> None:
    before = torch.get_rng_state()
    made(name)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_fragment_that_is_too_small_is_refused(name: str) -> None:
    smallest = entry(name).model.smallest(settings(name))
    taken = settings(name).inputs
    shape = InputShape(smallest.bins, smallest.frames, 3, smallest.samples)
    assert made(name, shape=shape).eval()(*fragments(name, 2, shape)).shape == (2, 3)
    for kind, extent, word in (
        ("wave", "samples", "short"),
        ("feature", "frames", "short"),
        ("feature", "bins", "low"),
    ):
        least = getattr(smallest, extent)
        if kind in taken and least > 1:
            with pytest.raises(GenreclsError, match=f"too {word} for {name}, which needs {least}: choose"):
                build(settings(name), replace(shape, **{extent: least - 1}))


@pytest.mark.parametrize(
    ("changes", "parameters"),
    [
        ({"depth": 18}, 11_262_410),
        ({"depth": 34}, 21_440_714),
        ({"depth": 50}, 26_037_194),
        ({"depth": 18, "se_ratio": 0}, 11_175_370),
    ],
)
def test_se_resnet_has_the_parameters_of_its_source(changes: dict[str, object], parameters: int) -> None:
    chosen = entry("se-resnet").settings(**{"width": 64, "se_ratio": 16, **changes})
    model = build(chosen, InputShape(513, 130, 10, 66150))
    assert sum(value.numel() for value in model.parameters()) == parameters


def test_excitation_scales_channels_between_zero_and_one() -> None:
    from genrecls.models.se_resnet import SqueezeExcitation

    excitation = SqueezeExcitation(8, 2)
    x = torch.rand(3, 8, 5, 6) + 0.5
    gate = excitation(x) / x
    assert ((gate > 0) & (gate < 1)).all()
    torch.testing.assert_close(gate, gate[:, :, :1, :1].expand_as(gate))


def test_convolutions_start_with_kaimings_variance() -> None:
    model = made("se-resnet", width=64, se_ratio=16)
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Conv2d) and module.weight.numel() > 10000:
            fan_out = module.out_channels * math.prod(module.kernel_size)
            assert float(module.weight.detach().var() * fan_out / 2) == pytest.approx(1, abs=0.05), name
            assert float(module.weight.detach().abs().max()) <= math.sqrt(6 / fan_out)


def test_a_layer_without_a_rule_is_not_left_as_it_is() -> None:
    with pytest.raises(TypeError, match="no rule initialises a PReLU"):
        initialise(torch.nn.Sequential(torch.nn.PReLU()), 0)


def test_channel_dropout_takes_whole_channels() -> None:
    dropout = ChannelDropout(0.5).train()
    begin_step(dropout, 0, 0)
    for shape in ((8, 64, 5), (8, 64, 5, 6)):
        kept = dropout(torch.ones(shape)).flatten(2)
        assert set(kept.unique().tolist()) == {0.0, 2.0}
        assert (kept == kept[:, :, :1]).all()


def test_the_registry_names_what_there_is() -> None:
    assert set(entries()) == set(SMALL)
    assert registry.settings_class("se-resnet").name == "se-resnet"
