"""`genrecls models`: the list, the layers of one model, and the picture of them."""

import itertools
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from conftest import CommandLine
from torch import nn

from genrecls import config, dataflow, diagram, summary
from genrecls.models.building import build
from genrecls.models.registry import entries, settings_class
from genrecls.models.shapes import InputShape
from genrecls.summary import Anatomy

SVG = "{http://www.w3.org/2000/svg}"


def test_the_list_has_every_model(cli: CommandLine) -> None:
    made = cli.json("models")
    assert [each["name"] for each in made] == list(entries())
    for each in made:
        entry = entries()[each["name"]]
        assert set(each) == {"name", "inputs", "parameters", "origin", "reported"}
        assert (each["origin"], each["reported"]) == (entry.origin, entry.reported)
        assert each["inputs"] == list(entry.settings().inputs)
    resnet = build(entries()["se-resnet"].settings(), InputShape(128, 129, 10, 66150))
    assert made[0]["parameters"] == sum(value.numel() for value in resnet.parameters()) == 707_258
    lines = cli("models").stdout.splitlines()
    assert len(lines) == 1 + len(made)
    assert lines[1].split()[:3] == ["se-resnet", "feature", "707,258"]


def test_the_layers_of_one_model(cli: CommandLine) -> None:
    made = cli.json("models", "se-resnet", "--width", "8", "--se-ratio", "4", "--n-mels", "64", "--genres", "3")
    layers = {layer["name"]: layer for layer in made["layers"]}
    assert made["inputs"] == {"feature": [1, 64, 129]}
    assert sum(layer["parameters"] for layer in made["layers"]) == made["parameters"]
    assert layers["stem"] == {"name": "stem", "type": "Conv2d", "depth": 1, "output": [8, 32, 65], "parameters": 8 * 49}
    assert layers[""]["output"] == layers["head"]["output"] == [3]
    assert layers["stages.1.0.shortcut.0"]["output"] == [8, 8, 17]
    done = cli("models", "se-resnet", "--width", "8", "--se-ratio", "4", "--n-mels", "64", "--genres", "3")
    assert done.stdout.startswith("se-resnet: feature 1 × 64 × 129 to 3 genres\n")
    assert f"{'total':6}" in done.stdout
    assert done.stdout.rstrip().endswith(f"{made['parameters']:,}")


def test_models_of_waves_and_of_both(cli: CommandLine) -> None:
    both = [name for name, entry in entries().items() if set(entry.settings().inputs) == {"wave", "feature"}]
    for name in both:
        inputs = cli.json("models", name, "--fragment", "4", "--sample-rate", "24000")["inputs"]
        assert inputs == {"wave": [1, 96000], "feature": [1, 128, 188]}


def test_the_model_of_a_recipe(cli: CommandLine, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('[model]\nname = "se-resnet"\nwidth = 8\nse_ratio = 0\n[batches]\nfragment = 1.5\n')
    made = cli.json("models", "--recipe", recipe)
    assert made["inputs"] == {"feature": [1, 128, 65]}
    assert made == cli.json("models", "se-resnet", "--width", "8", "--se-ratio", "0", "--set", "batches.fragment=1.5")


@pytest.mark.parametrize(
    ("given", "status", "sentence"),
    [
        (("--genres", "3"), 2, "These options show one model: name it"),
        (("--width", "8"), 2, "These options show one model: name it"),
        (("se-resnext",), 2, "Unknown model 'se-resnext' (did you mean 'se-resnet'?)"),
        (("se-resnet", "--set", "training.seed=1"), 2, "does not apply to models"),
        (("se-resnet", "--set", "batches.batch_size=4"), 2, "does not apply to models"),
        (("se-resnet", "--fragment", "0.1"), 1, "is too short for se-resnet"),
        (("se-resnet", "--diagram", "."), 2, "'.' is a directory"),
    ],
)
def test_wrong_usage(cli: CommandLine, given: tuple[str, ...], status: int, sentence: str) -> None:
    done = cli("models", *given)
    assert done.status == status
    assert sentence in done.stderr
    assert done.stdout == ""


def test_the_diagram_is_written(cli: CommandLine, tmp_path: Path) -> None:
    made = [cli.json("models", "se-resnet", "--se-ratio", "8", "--diagram", tmp_path / f"{i}.svg") for i in range(2)]
    assert made[0]["diagram"] == str(tmp_path / "0.svg")
    assert (tmp_path / "0.svg").read_bytes() == (tmp_path / "1.svg").read_bytes()
    words = [text.text for text in ElementTree.parse(tmp_path / "0.svg").iter(f"{SVG}text")]
    assert {"feature", "logits", "Conv2d 7 × 7, stride 2", "1 × 128 × 129", "residual · Sequential"} <= set(words)
    assert f"{made[0]['parameters']:,} parameters, 10 genres" in words


def test_a_model_that_no_machine_could_hold_is_counted(cli: CommandLine) -> None:
    made = cli.json("models", "mlp2", "--layers", "64", "--nodes", "16384", "--genres", "2")
    assert made["parameters"] > 17e9


@pytest.fixture(scope="module", params=list(entries()))
def taken_apart(request: pytest.FixtureRequest) -> Anatomy:
    settings = config.read({"model": {"name": request.param}}, settings_class)
    return summary.anatomy(settings, 10)


def weight(child: dataflow.Frame | dataflow.Node) -> int:
    if isinstance(child, dataflow.Node):
        return child.parameters
    return child.times * sum(map(weight, child.children))


def test_a_graph_holds_every_parameter_and_leads_to_the_logits(taken_apart: Anatomy) -> None:
    graph = dataflow.trace(taken_apart.model, taken_apart.inputs, summary.fragment(taken_apart.inputs.values()))
    assert weight(graph.root) == taken_apart.parameters
    nodes = list(graph.root.nodes())
    assert [node.lines for node in nodes if node.kind == "input"] == [[name] for name in taken_apart.inputs]
    assert [node.lines for node in nodes if node.kind == "output"] == [["logits"]]
    sources, targets = ({getattr(edge, side) for edge in graph.edges} for side in ("source", "target"))
    assert sources == {node for node in nodes if node.kind != "output"}
    assert targets == {node for node in nodes if node.kind != "input"}


def rectangles(picture: ElementTree.Element) -> list[tuple[float, float, float, float]]:
    found = []
    for each in picture.iter(f"{SVG}rect"):
        x, y, width, height = (float(each.get(name, "0")) for name in ("x", "y", "width", "height"))
        found.append((x, y, x + width, y + height))
    return found


def test_boxes_and_frames_never_overlap(taken_apart: Anatomy) -> None:
    picture = ElementTree.fromstring(diagram.draw(taken_apart))
    boxes = rectangles(picture)
    for (a, b, c, d), (e, f, g, h) in itertools.combinations(boxes, 2):
        apart = c <= e or g <= a or d <= f or h <= b
        inside = (a >= e and b >= f and c <= g and d <= h) or (e >= a and f >= b and g <= c and h <= d)
        assert apart or inside
    width, height = boxes[0][2:]
    for text in picture.iter(f"{SVG}text"):
        assert 0 <= float(text.get("x", "-1")) <= width
        assert 0 <= float(text.get("y", "-1")) <= height


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.Sequential(nn.Linear(4, 4), nn.Identity(), nn.ReLU())
        self.same = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = self.same(x)
        return self.inside(x) + kept


class Small(nn.Module):
    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Residual() for _ in range(blocks)))
        self.rnn = nn.GRU(4, 3, batch_first=True, bidirectional=True)
        self.head = nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, _ = self.rnn(self.blocks(x))
        return self.head(first.mean(dim=1))


def small_graph(blocks: int) -> dataflow.Graph:
    return dataflow.trace(Small(blocks), ["wave"], [torch.zeros(1, 5, 4)])


def test_equal_modules_in_a_row_are_drawn_once() -> None:
    graph = small_graph(3)
    assert [(frame.name, frame.times) for frame in graph.root.children if isinstance(frame, dataflow.Frame)] == [
        ("blocks.0", 3)
    ]
    assert weight(graph.root) == summary.parameters(Small(3))
    assert "blocks.0 · Residual · 3 times" in diagram.svg(graph, "small", "")


def test_layers_are_joined_and_ways_beside_them_kept() -> None:
    graph = small_graph(1)
    lines = {"/".join(node.lines): node for node in graph.root.nodes()}
    assert set(lines) == {
        *("wave", "Dropout 0.5", "Linear 4 → 4/ReLU", "+", "GRU 3, bidirectional", "mean", "Linear 6 → 2", "logits"),
    }
    into_sum = {"/".join(edge.source.lines) for edge in graph.edges if edge.target is lines["+"]}
    assert into_sum == {"Dropout 0.5", "Linear 4 → 4/ReLU"}
    assert {edge.target for edge in graph.edges if edge.source is lines["wave"]} == {
        lines["Linear 4 → 4/ReLU"],
        lines["Dropout 0.5"],
    }
    shapes = {edge.shape for edge in graph.edges if edge.source is lines["GRU 3, bidirectional"]}
    assert shapes == {(5, 6)}


def test_tracing_leaves_the_model_as_it_was() -> None:
    model = Small(2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    dataflow.trace(model, ["wave"], [torch.zeros(1, 5, 4)])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
