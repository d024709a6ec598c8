"""The models of source C on the wave as on the feature; tests/test_models.py has what every model keeps."""

import re
from typing import Any

import pytest
import torch

from genrecls.errors import ConfigError, GenreclsError
from genrecls.models.building import build
from genrecls.models.dropout import begin_step
from genrecls.models.initialisation import initialise
from genrecls.models.registry import entry
from genrecls.models.shapes import InputShape, Smallest

SOURCE = InputShape(bins=201, frames=552, genres=10, samples=110_250)
SMALL = InputShape(bins=9, frames=14, genres=3, samples=117)
NAMES = ["mlp", "mlp2", "cel", "cel2", "cel3"]
CONVOLUTIONAL = ["cel", "cel2", "cel3"]


def made(name: str, shape: InputShape = SMALL, **changes: object) -> Any:
    model = build(settings(name, **changes), shape)
    initialise(model, 1)
    return model


def fragments(name: str, kind: str, batch: int = 4, shape: InputShape = SMALL) -> torch.Tensor:
    assert settings(name, input=kind).inputs == (kind,)
    size = (shape.samples,) if kind == "wave" else (shape.bins, shape.frames)
    return torch.randn(batch, 1, *size, generator=torch.Generator().manual_seed(0))


def settings(name: str, **changes: object) -> Any:
    return entry(name).settings(**changes)


def parameters(name: str, shape: InputShape, **changes: object) -> int:
    # Without memory behind it: the largest has 452 million.
    with torch.device("meta"):
        model = build(settings(name, **changes), shape)
    return sum(value.numel() for value in model.parameters())


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({"nodes": "32-32", "dense_layers": 1}, 2_217_706),
        ({"nodes": "64-64", "dense_layers": 2}, 28_300_938),
        ({"nodes": "128-128-64", "dense_layers": 2}, 7_289_610),
        ({"input": "wave", "nodes": "32-32", "dense_layers": 1}, 8_823_210),
    ],
)
@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_cel_has_the_parameters_of_its_source(name: str, changes: dict[str, object], count: int) -> None:
    assert parameters(name, SOURCE, **changes) == count


def test_parameters_of_mlp_by_hand() -> None:
    for kind, values in (("feature", 201 * 552), ("wave", 110_250)):
        assert parameters("mlp", SOURCE, input=kind) == (values + 1) * 128 + 129 * 128 + 129 * 10
        # Each BatchNorm has two parameters a node.
        expected = (values + 1 + 2) * 1024 + (1024 + 1 + 2) * 512 + (512 + 1 + 2) * 256 + 257 * 10
        assert parameters("mlp2", SOURCE, input=kind, layers=3, nodes="1024-512-256") == expected


@pytest.mark.parametrize(
    ("kind", "given"), [("feature", {}), ("wave", {"input": "wave"}), ("wave", {"input": "wave", "nodes": ""})]
)
def test_the_default_channels_follow_the_input(kind: str, given: dict[str, object]) -> None:
    usual = {"feature": "32-64", "wave": "64-128"}[kind]
    assert settings("cel", **given).channels() == tuple(map(int, usual.split("-")))
    assert parameters("cel", SOURCE, **given) == parameters("cel", SOURCE, input=kind, nodes=usual)


def test_a_short_list_of_nodes_repeats_its_last_entry() -> None:
    hidden = [layer[0].out_features for layer in made("mlp2", layers=5, nodes="24-16").layers]
    assert hidden == [24, 16, 16, 16, 16]


@pytest.mark.parametrize("name", NAMES)
def test_on_the_wave_shapes_gradients_and_fragments_alone(name: str) -> None:
    """What tests/test_models.py asks of each model on its default input."""
    model, wave = made(name, input="wave").train(), fragments(name, "wave")
    begin_step(model, 0, 0)
    logits = model(wave)
    assert logits.shape == (4, 3)
    torch.nn.functional.cross_entropy(logits, torch.arange(4) % 3).backward()
    for parameter, value in model.named_parameters():
        assert value.grad is not None, parameter
        assert torch.isfinite(value.grad).all(), parameter
        assert value.grad.abs().max() > 0, parameter
    model.eval()
    torch.testing.assert_close(model(wave), torch.cat([model(wave[i : i + 1]) for i in range(4)]))


@pytest.mark.parametrize("kind", ["feature", "wave"])
@pytest.mark.parametrize("name", NAMES)
def test_both_ends_of_a_fragment_count(name: str, kind: str) -> None:
    model = made(name, input=kind).eval()
    fragment = fragments(name, kind, batch=1)
    # What two max-pools leave out is no end: row 8, and sample 116.
    for part in (slice(0, 4), slice(4, 8) if kind == "feature" else slice(112, 116)):
        other = fragment.clone()
        other[:, :, part] += 1
        assert not torch.allclose(model(other), model(fragment))


@pytest.mark.parametrize("kind", ["feature", "wave"])
@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_the_smallest_fragment_of_cel(name: str, kind: str) -> None:
    chosen = settings(name, input=kind, nodes="4-8-4")
    least = entry(name).model.smallest(chosen)
    assert least == Smallest(bins=8, frames=8, samples=8)
    shape = InputShape(bins=8, frames=8, genres=3, samples=8)
    model = build(chosen, shape).eval()
    assert model(fragments(name, kind, 2, shape)).shape == (2, 3)
    # The other input may be of any size.
    beside = {"feature": (8, 8, 1), "wave": (1, 1, 8)}[kind]
    build(chosen, InputShape(beside[0], beside[1], 3, beside[2]))
    for short in {"feature": ((7, 8, 8), (8, 7, 8)), "wave": ((8, 8, 7),)}[kind]:
        with pytest.raises(GenreclsError, match=f"too (short|low) for {name}, which needs 8: choose"):
            build(chosen, InputShape(short[0], short[1], 3, short[2]))


def test_blocks_and_dense_layers_in_their_order() -> None:
    for name, activation in (("cel", "ReLU"), ("cel2", "LeakyReLU"), ("cel3", "ELU")):
        for kind, d in (("feature", "2d"), ("wave", "1d")):
            model = made(name, input=kind, nodes="4-8", dense_layers=3, dropout=0.2)
            for block, outputs in zip(model.blocks, (4, 8), strict=True):
                assert [type(layer).__name__ for layer in block] == [
                    *(f"Conv{d}", f"BatchNorm{d}", activation, f"MaxPool{d}", "ChannelDropout")
                ]
                assert (block[0].out_channels, block[3].kernel_size, block[4].p) == (outputs, 2, 0.2)
            for layer in model.dense:
                assert [type(part).__name__ for part in layer] == ["Linear", activation, "Dropout"]
                assert (layer[0].out_features, layer[2].p) == (8, 0.2)
            assert (len(model.dense), model.head.in_features) == (2, 8)
    assert made("cel2").blocks[0][2].negative_slope == 0.1
    assert made("cel3").blocks[0][2].alpha == 1
    assert len(made("cel", dense_layers=1).dense) == 0
    for layer in made("mlp2").layers:
        assert [type(part).__name__ for part in layer] == ["Linear", "BatchNorm1d", "ReLU", "Dropout"]


def test_the_three_cels_differ_by_their_activation_alone() -> None:
    models = [made(name, nodes="4-8").eval() for name in CONVOLUTIONAL]
    first, *others = (model.state_dict() for model in models)
    assert all(torch.equal(first[key], other[key]) for other in others for key in first)
    x = fragments("cel", "feature")
    logits = [model(x) for model in models]
    assert not any(torch.allclose(logits[i], logits[i - 1]) for i in range(3))


@pytest.mark.parametrize(
    ("name", "changes", "sentence"),
    [
        ("mlp", {"input": "waves"}, "model.input (--input) must be one of feature, wave, not 'waves' (did you mean"),
        ("cel", {"nodes": "32,64"}, "model.nodes (--nodes) must be widths from 1 to 16384 joined by hyphens"),
        ("cel3", {"dense_layers": 0}, "model.dense_layers (--dense-layers) must be from 1 to 16, not 0."),
        ("mlp2", {"nodes": ""}, "model.nodes (--nodes) must be widths from 1 to 16384 joined by hyphens"),
        ("mlp2", {"layers": 0}, "model.layers (--layers) must be from 1 to 64, not 0."),
        (
            "mlp2",
            {"nodes": "1024-512-256"},
            "model.nodes (--nodes 1024-512-256) lists 3 widths for 2 hidden layers: shorten it, or choose --layers 3.",
        ),
    ],
)
def test_settings_that_make_no_model_are_refused(name: str, changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        settings(name, **changes)
