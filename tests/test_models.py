"""One contract for every model, and the parameter counts of the sources."""

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from small import SMALL

from genrecls.config import ModelSettings
from genrecls.errors import ConfigError, GenreclsError
from genrecls.models import registry
from genrecls.models.building import Model, build
from genrecls.models.dropout import ChannelDropout, begin_step
from genrecls.models.excitation import SqueezeExcitation
from genrecls.models.initialisation import initialise
from genrecls.models.registry import entries, entry
from genrecls.models.settings.widths import widths
from genrecls.models.shapes import InputShape, Smallest

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


@pytest.fixture
def deterministic() -> Iterator[None]:
    """As in a run: an operation without a deterministic kernel raises."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)


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
    model, batch = made(name, shape=shape), fragments(name, 2, shape)
    assert model.eval()(*batch).shape == (2, 3)
    begin_step(model.train(), 0, 0)
    model(*batch).sum().backward()
    assert all(torch.isfinite(value.grad).all() for value in model.parameters() if value.grad is not None)
    for kind, extent, word in (
        ("wave", "samples", "short"),
        ("feature", "frames", "short"),
        ("feature", "bins", "low"),
    ):
        least = getattr(smallest, extent)
        if kind in taken and least > 1:
            with pytest.raises(GenreclsError, match=f"too {word} for {name}, which needs {least}: choose"):
                build(settings(name), replace(shape, **{extent: least - 1}))


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=pytest.mark.slow)])
def test_training_repeats_bit_for_bit(name: str, precision: str) -> None:
    def trained() -> dict[str, torch.Tensor]:
        model = made(name).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(2):
            begin_step(model, 0, step)
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                logits = model(*fragments(name)).float()
            torch.nn.functional.cross_entropy(logits, torch.arange(4)).backward()
            optimiser.step()
            optimiser.zero_grad()
        return model.state_dict()

    once, again, start = trained(), trained(), made(name).state_dict()
    assert all(torch.isfinite(value).all() for value in once.values())
    assert all(torch.equal(once[key], again[key]) for key in once)
    assert not all(torch.equal(once[key], start[key]) for key in once)


def labelled_fragments(name: str, shape: InputShape) -> tuple[list[torch.Tensor], torch.Tensor]:
    """16 fragments of noise, each with a tone of a height of its own, and their genres in turn."""
    batch = fragments(name, 16, shape)
    for x in batch:
        for i, fragment in enumerate(x[:, 0]):
            if x.dim() == 3:
                fragment += 2 * torch.sin(torch.arange(shape.samples) * math.pi * (i + 1) / 20)
            else:
                fragment[2 * i : 2 * i + 2] += 3
    return batch, torch.arange(16) % shape.genres


@pytest.mark.parametrize(
    "name",
    [each if each in ("mlp2", "cnn1d") else pytest.param(each, marks=pytest.mark.slow) for each in entries()],
)
def test_sixteen_fragments_are_learnt_by_heart(name: str) -> None:
    """The wiring is right: with dropout on and the training genres given, no fragment is left in error."""
    shape = InputShape(bins=32, frames=64, genres=4, samples=8192)
    model = made(name, shape=shape)
    batch, genres = labelled_fragments(name, shape)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.003)
    wrong = 16
    for step in range(300):
        begin_step(model.train(), 0, step)
        torch.nn.functional.cross_entropy(model(*batch), genres).backward()
        optimiser.step()
        optimiser.zero_grad()
        if step % 10 == 9:
            with torch.no_grad():
                wrong = int((model.eval()(*batch).argmax(dim=1) != genres).sum())
            if not wrong:
                break
    assert wrong == 0


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


def test_widths_are_read_from_a_text() -> None:
    assert widths("128-128-64", "model.x (--x)") == (128, 128, 64)
    assert widths("1", "model.x (--x)") == (1,)
    assert widths("16384", "model.x (--x)") == (16384,)


@pytest.mark.parametrize(
    "text", ["", "-", "128-", "-128", "128--64", "0", "64-0", "064", "16385", "64,32", "64 - 32", "a"]
)
def test_a_text_that_is_no_widths_is_refused(text: str) -> None:
    with pytest.raises(
        ConfigError, match=re.escape("model.x (--x) must be widths from 1 to 16384") + f".* not {text!r}"
    ):
        widths(text, "model.x (--x)")


SOURCE_A, SOURCE_B = InputShape(513, 130, 10, 66150), InputShape(20, 256, 8, 2**18)


def at_source(name: str, shape: InputShape, **changes: object) -> Any:
    return build(entry(name).settings(**changes), shape)


@pytest.mark.parametrize(
    ("name", "shape", "changes", "parameters"),
    [
        ("se-cnn", SOURCE_A, {"head": "flatten"}, 771_264),
        ("se-cnn", SOURCE_A, {"head": "average"}, 690_624),
        ("cnn1d", SOURCE_B, {}, 2_461_832),
        ("cnn2d", SOURCE_B, {}, 1_876_040),
        ("mixnet", SOURCE_B, {}, 3_607_496),
    ],
)
def test_defaults_have_the_parameters_of_their_source(
    name: str, shape: InputShape, changes: dict[str, object], parameters: int
) -> None:
    model = at_source(name, shape, **changes)
    assert sum(value.numel() for value in model.parameters()) == parameters


@pytest.mark.parametrize(
    ("name", "smallest"),
    [
        ("se-cnn", Smallest(bins=32, frames=32)),
        ("cnn1d", Smallest(samples=736)),
        ("cnn2d", Smallest(frames=128)),
        ("mixnet", Smallest(frames=128, samples=736)),
    ],
)
def test_the_smallest_fragment_at_the_defaults(name: str, smallest: Smallest) -> None:
    chosen = entry(name).settings()
    assert entry(name).model.smallest(chosen) == smallest
    # One less and a layer would have nothing left, were it built in spite of it.
    least = InputShape(smallest.bins, smallest.frames, 2, smallest.samples)
    model = build(chosen, least).eval()
    for kind in chosen.inputs:
        batch = fragments(name, 1, least)
        cut = [x[..., :-1] if (x.dim() == 3) == (kind == "wave") else x for x in batch]
        with pytest.raises(RuntimeError):
            model(*cut)


def test_se_cnn_has_the_layers_of_its_source_in_their_order() -> None:
    model = at_source("se-cnn", SOURCE_A)
    for block, (inputs, outputs) in zip(
        model.blocks, ((1, 32), (32, 64), (64, 128), (128, 256), (256, 128)), strict=True
    ):
        convolution, pool, dropout, excitation, _ = block
        assert [type(layer).__name__ for layer in block] == [
            *("Conv2d", "MaxPool2d", "Dropout", "SqueezeExcitation", "ReLU")
        ]
        assert convolution.weight.shape == (outputs, inputs, 3, 3)
        assert convolution.bias is not None
        assert (pool.kernel_size, dropout.p) == (2, 0.25)
        assert excitation.squeeze.weight.shape == (outputs // 32, outputs)
    assert model.head.weight.shape == (10, 128 * 16 * 4)
    assert model.head.bias is None


@pytest.mark.parametrize("head", ["average", "flatten"])
def test_only_se_cnns_flattened_head_tells_places_apart(head: str) -> None:
    model: Any = made("se-cnn", head=head).eval()
    model.blocks = torch.nn.Identity()
    maps = torch.rand(2, 16, 4, 8)
    assert torch.allclose(model(maps), model(maps.roll(1, dims=3)), atol=1e-6) == (head == "average")


def test_se_cnn_without_excitation_has_only_convolutions_and_the_head() -> None:
    model = at_source("se-cnn", SOURCE_A, se_ratio=0)
    assert {type(layer) for layer in model.modules() if list(layer.parameters(recurse=False))} == {
        torch.nn.Conv2d,
        torch.nn.Linear,
    }


def test_the_wave_extractor_ends_with_maximum_then_mean() -> None:
    model: Any = made("cnn1d").eval()
    extractor = model.extractor
    wave = fragments("cnn1d")[0]
    kept = extractor.stages(wave)
    assert kept.shape == (4, 32, 9)
    maximum, mean = extractor(wave).split(32, dim=1)
    torch.testing.assert_close(maximum, kept.max(dim=2).values)
    torch.testing.assert_close(mean, kept.sum(dim=2) / 9)


def test_the_feature_extractors_third_convolution_is_not_rectified_before_the_sum() -> None:
    model: Any = made("cnn2d").eval()
    extractor = model.extractor
    x = extractor.first(fragments("cnn2d")[0])
    residual = extractor.residual(x)
    assert x.shape == residual.shape == (4, 16, 1, 61)
    assert (x >= 0).all()
    assert (residual < 0).any()
    taken = torch.relu(x + residual)[:, :, 0]
    # Three windows of 16 of the 61 frames; the other 13 are left out.
    by_hand = torch.stack(
        [
            torch.stack([taken[..., 16 * i : 16 * (i + 1)].amax(-1) for i in range(3)], -1),
            torch.stack([taken[..., 16 * i : 16 * (i + 1)].sum(-1) / 16 for i in range(3)], -1),
        ],
        1,
    )
    torch.testing.assert_close(extractor(fragments("cnn2d")[0]), by_hand.flatten(1))


def test_frames_of_the_feature_extractor_are_the_sources() -> None:
    extractor = at_source("cnn2d", SOURCE_B).extractor.eval()
    lengths = []
    for layer in (*extractor.first, *extractor.residual):
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(lambda _, __, made: lengths.append(made.shape[2:]))
    assert extractor(torch.zeros(1, 1, 20, 256)).shape == (1, 256 * 2 * 2)
    assert lengths == [(1, 253), (1, 254), (1, 253)]


@pytest.mark.parametrize("kernel", [1, 2, 3, 5, 64])
def test_any_kernel_leaves_first_and_third_convolution_equally_long(kernel: int) -> None:
    model: Any = made("cnn2d", kernel=kernel, window=1)
    x = model.extractor.first(fragments("cnn2d")[0])
    assert x.shape[3] == 65 - kernel
    assert model.extractor.residual(x).shape == x.shape


def test_mixnet_hears_the_wave_and_sees_the_feature() -> None:
    model = made("mixnet").eval()
    wave, feature = fragments("mixnet")
    both = model(wave, feature)
    assert not torch.allclose(both, model(wave.flip(0), feature))
    assert not torch.allclose(both, model(wave, feature.flip(0)))


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("cnn1d", [1024, 512, 128, 128, 64, 8]),
        ("cnn2d", [1024, 1024, 256, 64, 8]),
        ("mixnet", [2048, 512, 256, 128, 8]),
    ],
)
def test_dense_layers_of_source_b(name: str, layers: list[int]) -> None:
    model = at_source(name, SOURCE_B, dropout=0.2)
    linear = [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear)]
    assert [linear[0].in_features, *(layer.out_features for layer in linear)] == layers
    for hidden in model.dense:
        assert [type(layer).__name__ for layer in hidden] == ["Linear", "ReLU", "Dropout"]
        assert hidden[2].p == 0.2


@pytest.mark.parametrize(
    ("name", "changes", "sentence"),
    [
        ("se-cnn", {"se_ratio": 33}, r"model\.se_ratio \(--se-ratio\) must be at most 32, the narrowest of"),
        ("se-cnn", {"channels": "8-16"}, r"must be at most 8, the narrowest of model\.channels \(--channels 8-16\)"),
        ("se-cnn", {"channels": "8,16"}, r"model\.channels \(--channels\) must be widths from 1 to 16384 joined by"),
        ("se-cnn", {"head": "mean"}, r"model\.head \(--head\) must be one of flatten, average, not 'mean'"),
        ("cnn1d", {"channels": "64-128"}, r"model\.channels \(--channels\) must be 4 widths in the model cnn1d, not 2"),
        ("mixnet", {"channels": "64"}, r"model\.channels \(--channels\) must be 4 widths in the model mixnet, not 1"),
        ("cnn1d", {"dense": "0"}, r"model\.dense \(--dense\) must be widths from 1 to 16384 joined by hyphens"),
        ("cnn2d", {"dense": ""}, r"model\.dense \(--dense\) must be widths from 1 to 16384 joined by hyphens"),
        ("mixnet", {"dense": "a"}, r"model\.dense \(--dense\) must be widths from 1 to 16384 joined by hyphens"),
        ("cnn2d", {"window": 0}, r"model\.window \(--window\) must be from 1 to 16384, not 0"),
    ],
)
def test_settings_that_make_no_model_are_refused(name: str, changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        entry(name).settings(**changes)
