"""The graph of a model's forward pass: layers and operations, what flows between them, and the modules around them."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from genrecls.models.building import parameters
from genrecls.summary import Shape

Kind = Literal["input", "output", "convolution", "linear", "recurrent", "pooling", "operation", "other"]

_SIGNS = {"add": "+", "mul": "×", "cat": "concatenate", "amax": "max", "permute": "transpose", "getitem": "slice"}
_RESHAPING = (
    "view",
    "reshape",
    "flatten",
    "unflatten",
    "unsqueeze",
    "squeeze",
    "getitem",
    "expand",
    "contiguous",
    "to",
    "float",
)
"""Operations that are not drawn where they keep every value."""
_ACTIVATIONS = ("relu", "leaky_relu", "elu", "gelu", "sigmoid", "tanh", "softmax")
_PROPER = {"relu": "ReLU", "leaky_relu": "LeakyReLU", "elu": "ELU", "gelu": "GELU"}


@dataclass(eq=False)
class Node:
    """A layer or an operation.

    lines: what it is, with kernel and stride, then the normalisation, activation and dropout that follow it alone.
    name: of the module, "" for an operation. parameters: of all that the lines name. follows: whether it is such a
    thing, which joins the node before it. output: shape without the batch.
    """

    lines: list[str]
    kind: Kind
    name: str = ""
    parameters: int = 0
    follows: bool = False
    output: Shape = ()


@dataclass(eq=False)
class Frame:
    """A module with modules inside, as it was called. times: how many equal ones in a row this one stands for."""

    name: str
    type: str
    children: list["Frame | Node"] = field(default_factory=list)
    times: int = 1

    def nodes(self) -> Iterator[Node]:
        """All nodes inside, in the order of their calls."""
        for child in self.children:
            if isinstance(child, Node):
                yield child
            else:
                yield from child.nodes()


@dataclass(frozen=True)
class Edge:
    """What `target` takes from `source`. shape: as it is taken, without the batch."""

    source: Node
    target: Node
    shape: Shape


@dataclass
class Graph:
    """root: the model, with its inputs and its logits among its children."""

    root: Frame
    edges: list[Edge]


def trace(model: nn.Module, inputs: Iterable[str], fragments: list[torch.Tensor]) -> Graph:
    """The graph of one forward pass in evaluation mode, simplified for people.

    inputs: names of the fragments. Normalisation, activation and dropout join the layer that they alone follow; equal
    modules in a row within an `nn.Sequential` are one that says how often; a module around one thing is left out.
    """
    recorder = _Recorder(model)
    for name, fragment in zip(inputs, fragments, strict=True):
        recorder.add(Node([name], "input"), [], [fragment])
    hooks = []
    for module in model.modules():
        hooks.append(module.register_forward_pre_hook(recorder.enter))
        hooks.append(module.register_forward_hook(recorder.leave))
    try:
        with torch.inference_mode(), recorder:
            logits = model.eval()(*fragments)
    finally:
        for hook in hooks:
            hook.remove()
    recorder.stack.append(recorder.root)
    recorder.add(Node(["logits"], "output"), [logits], [])
    graph = Graph(recorder.root, recorder.edges)
    _join(graph)
    _fold(graph.root, graph)
    _unwrap(graph.root)
    return graph


class _Recorder(TorchFunctionMode):
    """Sees every module by hooks, and every function between them. Tensors are known by their identity."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._names = {module: name for name, module in model.named_modules()}
        self._sources: dict[int, Node] = {}
        self._alive: list[torch.Tensor] = []
        self._layer: nn.Module | None = None
        self.root = Frame("", type(model).__name__)
        self.stack = [self.root]
        self._model = model
        self.edges: list[Edge] = []

    def add(self, node: Node, taken: list[torch.Tensor], given: list[torch.Tensor]) -> None:
        """Note a node, its edges and what it gives."""
        self.stack[-1].children.append(node)
        for tensor in taken:
            edge = Edge(self._sources[id(tensor)], node, tuple(tensor.shape[1:]))
            if edge not in self.edges:
                self.edges.append(edge)
        if given:
            node.output = tuple(given[0].shape[1:])
        for tensor in given:
            self._note(tensor, node)

    def _note(self, tensor: torch.Tensor, node: Node) -> None:
        # An object that is gone may leave its identity to another.
        self._alive.append(tensor)
        self._sources[id(tensor)] = node

    def _known(self, value: object) -> list[torch.Tensor]:
        return [tensor for tensor in _tensors(value) if id(tensor) in self._sources]

    def enter(self, module: nn.Module, _: object) -> None:
        """Before a module."""
        if self._layer is not None or module is self._model:
            return
        if any(True for _ in module.children()):
            self.stack.append(Frame(self._names[module], type(module).__name__))
        else:
            self._layer = module

    def leave(self, module: nn.Module, taken: object, given: Any) -> Any:
        """After a module. Gives another tensor where a layer hands on the one it was given."""
        if module is self._layer:
            self._layer = None
            if _does_nothing(module):
                return given
            tensors = _tensors(given)
            if len(tensors) == 1 and any(tensors[0] is each for each in _tensors(taken)):
                with torch._C.DisableTorchFunction():
                    given = tensors[0].view_as(tensors[0])
                tensors = [given]
            self.add(_layer(module, self._names[module]), self._known(taken), tensors)
        elif self._layer is None and module is not self._model:
            frame = self.stack.pop()
            if frame.children:
                self.stack[-1].children.append(frame)
        return given

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """A function, between modules or within one."""
        given = func(*args, **(kwargs or {}))
        tensors = _tensors(given)
        if self._layer is None and tensors and (taken := self._known([args, kwargs])):
            name = func.__name__.strip("_").removeprefix("r" if func.__name__.startswith("__r") else "")
            same = sum(t.numel() for t in tensors) == taken[0].numel()
            if name == "get" or (name in _RESHAPING and same):
                for tensor in tensors:
                    self._note(tensor, self._sources[id(taken[0])])
            else:
                self.add(_operation(name), taken, tensors)
        return given


def _tensors(value: object) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [tensor for each in value for tensor in _tensors(each)] if isinstance(value, list | tuple) else []


def _does_nothing(module: nn.Module) -> bool:
    return isinstance(module, nn.Identity | nn.Sequential) or getattr(module, "p", None) == 0


def _operation(name: str) -> Node:
    shown = _PROPER.get(name) or _SIGNS.get(name) or name.replace("_", " ")
    return Node([shown], "operation", follows=name in _ACTIVATIONS)


def _layer(module: nn.Module, name: str) -> Node:
    kind, shown, follows = _described(module)
    return Node([shown], kind, name, parameters(module), follows)


def _described(module: nn.Module) -> tuple[Kind, str, bool]:
    """Kind, text, and whether it joins the layer before it."""
    name = type(module).__name__
    if isinstance(module, nn.modules.conv._ConvNd):
        return "convolution", f"{name} {_extent(module.kernel_size)}{_stride(module.stride)}", False
    if isinstance(module, nn.Linear):
        return "linear", f"{name} {module.in_features} → {module.out_features}", False
    if isinstance(module, nn.RNNBase):
        deep = f", {module.num_layers} layers" if module.num_layers > 1 else ""
        return "recurrent", f"{name} {module.hidden_size}{', bidirectional' * module.bidirectional}{deep}", False
    if "Pool" in name and hasattr(module, "kernel_size"):
        size: Any = module.kernel_size
        stride = "" if module.stride == size else _stride(module.stride)
        if name.endswith("2d") and isinstance(size, int):
            size = (size, size)
        return "pooling", f"{name} {_extent(size)}{stride}", False
    if "Dropout" in name:
        return "other", f"{name} {module.p}", True
    activation = type(module).__module__ == nn.ReLU.__module__
    return "other", name, activation or "Norm" in name


def _extent(sizes: Any) -> str:
    return " × ".join(map(str, sizes)) if isinstance(sizes, tuple) else str(sizes)


def _stride(stride: Any) -> str:
    every = stride if isinstance(stride, tuple) else (stride,)
    if all(each == 1 for each in every):
        return ""
    return f", stride {every[0] if len(set(every)) == 1 else _extent(every)}"


def _join(graph: Graph) -> None:
    """Let what follows one node alone, in the same frame, become a line of it."""
    frames = list(_frames(graph.root))
    home = {child: frame for frame in frames for child in frame.children if isinstance(child, Node)}
    for node in [node for node in graph.root.nodes() if node.follows]:
        into = [edge for edge in graph.edges if edge.target is node]
        before = into[0].source
        beside = [edge for edge in graph.edges if edge.source is before]
        if len(into) > 1 or len(beside) > 1 or home[before] is not home[node] or before.kind == "input":
            continue
        before.lines += node.lines
        before.parameters += node.parameters
        before.output = node.output
        home[node].children.remove(node)
        graph.edges.remove(into[0])
        _move(graph, {node: before})


def _frames(frame: Frame) -> Iterator[Frame]:
    yield frame
    for child in frame.children:
        if isinstance(child, Frame):
            yield from _frames(child)


def _move(graph: Graph, counterpart: dict[Node, Node]) -> None:
    """What comes from a node now comes from its counterpart."""
    graph.edges[:] = [Edge(counterpart.get(each.source, each.source), each.target, each.shape) for each in graph.edges]


def _equal(one: Frame | Node, other: Frame | Node) -> bool:
    """Whether two things look the same but for their names and how often they stand there."""
    if isinstance(one, Node) or isinstance(other, Node):
        return (
            isinstance(one, Node)
            and isinstance(other, Node)
            and (one.kind, one.lines, one.parameters, one.output)
            == (other.kind, other.lines, other.parameters, other.output)
        )
    return (
        one.type == other.type
        and len(one.children) == len(other.children)
        and _times(one) == _times(other)
        and all(map(_equal, one.children, other.children))
    )


def _times(frame: Frame) -> list[int]:
    return [child.times for child in frame.children if isinstance(child, Frame)]


def _fold(frame: Frame, graph: Graph) -> None:
    """Draw equal modules in a row of an `nn.Sequential` once."""
    for child in frame.children:
        if isinstance(child, Frame):
            _fold(child, graph)
    if frame.type != nn.Sequential.__name__:
        return
    kept: list[Frame | Node] = []
    for child in frame.children:
        first = kept[-1] if kept else None
        if isinstance(first, Frame) and isinstance(child, Frame) and _equal(first, child):
            counterpart = dict(zip(child.nodes(), first.nodes(), strict=True))
            graph.edges[:] = [edge for edge in graph.edges if edge.target not in counterpart]
            _move(graph, counterpart)
            first.times += 1
        else:
            kept.append(child)
    frame.children = kept


def _unwrap(frame: Frame) -> None:
    """Put a lone thing in the place of the frame around it."""
    for i, child in enumerate(frame.children):
        while isinstance(child, Frame) and len(child.children) == 1 and child.times == 1:
            child = child.children[0]
        frame.children[i] = child
        if isinstance(child, Frame):
            _unwrap(child)
