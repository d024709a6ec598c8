"""A model's graph as an SVG picture: boxes for layers, frames for modules, shapes on the arrows.

Every frame is laid out by itself. Its things stand in rows, each below all that it takes from; the longest way through
stands in the first column, ways beside it in columns to the right. What a frame takes and gives passes through ports in
its border, so that no line crosses a thing that it does not concern.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal
from xml.sax.saxutils import escape

from genrecls.dataflow import Edge, Frame, Graph, Kind, Node, trace
from genrecls.summary import Anatomy, Shape, fragment

_FILLS: dict[Kind, tuple[str, str]] = {
    "input": ("#37474f", "#37474f"),
    "output": ("#37474f", "#37474f"),
    "convolution": ("#dbe9f8", "#5b8fc7"),
    "linear": ("#fde6d0", "#d98d3f"),
    "recurrent": ("#e9def5", "#8e67bd"),
    "pooling": ("#dcf0e3", "#57a574"),
    "operation": ("#ffffff", "#78838c"),
    "other": ("#eef0f2", "#78838c"),
}
"""Fill and border by kind."""
_LINE, _FRAME, _GREY = "#4a5560", "#b8c0c8", "#5f6b75"
_FONT = "Helvetica, Arial, sans-serif"
_GAP = 30.0
"""Height between two rows, with room for a shape."""
_ENTRY_GAP, _EXIT_GAP = 34.0, 14.0
"""The same below the upper border of a frame, where its name stands, and above the lower one."""
_BESIDE = 26.0
"""Width between two columns."""
_PADDING = 12.0
_LABEL = 20.0
"""Height of a frame's name, which lines of the frame keep below."""
_MARGIN = 24.0
_ARROW = 6.0


@dataclass(eq=False)
class _Port:
    """Where what `source` gives enters or leaves a frame."""

    source: Node
    side: Literal["in", "out"]


_Thing = Node | Frame | _Port


@dataclass(frozen=True)
class _Link:
    """A part of an edge that lies within one frame."""

    start: _Thing
    end: _Thing
    source: Node
    shape: Shape


@dataclass
class _Level:
    """What stands in one frame: the things, in the order of their calls, and the links between them."""

    frame: Frame
    things: list[_Thing]
    links: list[_Link] = field(default_factory=list)
    ports: dict[tuple[str, Node], _Port] = field(default_factory=dict)

    def port(self, side: Literal["in", "out"], source: Node) -> _Port:
        """The port for what `source` gives, made where it is not there yet."""
        key = (side, source)
        if key not in self.ports:
            self.ports[key] = _Port(source, side)
            self.things.append(self.ports[key])
        return self.ports[key]

    def link(self, start: _Thing, end: _Thing, edge: Edge) -> None:
        """Add a link once."""
        if not any((each.start, each.end, each.source) == (start, end, edge.source) for each in self.links):
            self.links.append(_Link(start, end, edge.source, edge.shape))


def draw(anatomy: Anatomy) -> str:
    """The SVG of a model. The same model gives the same text."""
    graph = trace(anatomy.model, anatomy.inputs, fragment(anatomy.inputs.values()))
    subtitle = f"{anatomy.parameters:,} parameters, {anatomy.genres} genres"
    return svg(graph, anatomy.entry.name, subtitle)


def svg(graph: Graph, title: str, subtitle: str) -> str:
    """The picture, with a title above it. The same graph gives the same text."""
    levels = _levels(graph)
    block = _Block(graph.root, levels)
    head = 44.0
    width = max(block.left + block.right, _wide(title, 16), _wide(subtitle, 11)) + 2 * _MARGIN
    height = head + block.height + 2 * _MARGIN
    x = _MARGIN + block.left + max(0.0, width - 2 * _MARGIN - block.left - block.right) / 2
    body = [
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>',
        _text(_MARGIN, _MARGIN + 14, title, 16, "#1f2a33", bold=True),
        _text(_MARGIN, _MARGIN + 32, subtitle, 11, _GREY),
        *block.draw(x, _MARGIN + head),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="{_FONT}" role="img">\n'
        f"<title>{escape(title)}</title>\n" + "\n".join(body) + "\n</svg>\n"
    )


def _levels(graph: Graph) -> dict[Frame, _Level]:
    """Cut every edge at the borders that it crosses."""
    levels: dict[Frame, _Level] = {}
    way: dict[Node, list[Frame]] = {}

    def enter(frame: Frame, around: list[Frame]) -> None:
        levels[frame] = _Level(frame, list(frame.children))
        for child in frame.children:
            if isinstance(child, Frame):
                enter(child, [*around, frame])
            else:
                way[child] = [*around, frame]

    enter(graph.root, [])
    for edge in graph.edges:
        up, down = way[edge.source], way[edge.target]
        common = sum(1 for one, other in zip(up, down, strict=False) if one is other)
        start: _Thing = edge.source
        for frame in reversed(up[common:]):
            levels[frame].link(start, levels[frame].port("out", edge.source), edge)
            start = frame
        end: _Thing = edge.target
        for frame in reversed(down[common:]):
            levels[frame].link(levels[frame].port("in", edge.source), end, edge)
            end = frame
        levels[up[common - 1]].link(start, end, edge)
    return levels


class _Block:
    """A thing with its extents about the vertical axis x = 0 on which it stands."""

    def __init__(self, thing: _Thing, levels: dict[Frame, _Level], around: Frame | None = None) -> None:
        self.thing = thing
        self.label = ""
        self.left = self.right = self.height = 0.0
        self.grid: _Grid | None = None
        self.captions: list[str] = []
        if isinstance(thing, Frame):
            self.grid = _Grid(levels[thing], levels)
            self.left, self.right, self.height = self.grid.left, self.grid.right, self.grid.height
            if around is not None:
                # The name stands left of the axis, where a line comes in.
                self.label = _frame_label(thing, around)
                self.left = max(self.left, _wide(self.label, 10)) + _PADDING
                self.right += _PADDING
        elif isinstance(thing, Node):
            self.captions = _captions(thing)
            first, *others = [_wide(line, 12 if i == 0 else 11) for i, line in enumerate(thing.lines)]
            widest = max(first * 1.06, *others, *(_wide(line, 9) for line in self.captions), 0.0)
            small = thing.kind in ("operation", "input", "output")
            self.left = self.right = max(widest / 2 + 11, 18.0 if small else 62.0)
            self.height = 9.0 + 14 * len(thing.lines) + 12 * len(self.captions)

    def axis(self, side: Literal["in", "out"], source: Node) -> float:
        """Where, from its axis, it takes or gives what `source` gives."""
        if self.grid is None:
            return 0.0
        return self.grid.port_x(side, source)

    def draw(self, x: float, y: float) -> Iterator[str]:
        """The SVG elements, with the axis at `x` and the top at `y`."""
        if isinstance(self.thing, Frame):
            assert self.grid is not None
            if self.label:
                yield (
                    f'<rect x="{x - self.left:.1f}" y="{y:.1f}" width="{self.left + self.right:.1f}" '
                    f'height="{self.height:.1f}" rx="6" fill="#6b7f93" fill-opacity="0.06" stroke="{_FRAME}"/>'
                )
                yield _text(x - self.left + 8, y + 14, self.label, 10, _GREY)
            yield from self.grid.draw(x, y)
        elif isinstance(self.thing, Node):
            yield from self._draw_node(self.thing, x, y)

    def _draw_node(self, node: Node, x: float, y: float) -> Iterator[str]:
        fill, border = _FILLS[node.kind]
        radius = self.height / 2 if node.kind in ("operation", "input", "output") and len(node.lines) == 1 else 5
        yield (
            f'<rect x="{x - self.left:.1f}" y="{y:.1f}" width="{2 * self.left:.1f}" height="{self.height:.1f}" '
            f'rx="{radius:.1f}" fill="{fill}" stroke="{border}"/>'
        )
        ink = "#ffffff" if node.kind in ("input", "output") else "#1f2a33"
        at = y + 15.0
        for i, line in enumerate(node.lines):
            yield _text(x, at, line, 11 if i else 12, ink, bold=i == 0 and node.kind != "operation", anchor="middle")
            at += 14
        for line in self.captions:
            yield _text(x, at - 1, line, 9, _GREY, anchor="middle")
            at += 12


class _Grid:
    """The rows and columns of one frame's things."""

    def __init__(self, level: _Level, levels: dict[Frame, _Level]) -> None:
        self._level = level
        self._blocks: dict[_Thing, _Block] = {thing: _Block(thing, levels, level.frame) for thing in level.things}
        self._row = self._ranked()
        self._column: dict[_Thing, int] = {}
        self._lane: dict[_Link, int] = {}
        self._assign_columns()
        self._x = self._axes()
        self._y = self._tops()
        self.left: float = max(block.left - self._x[thing] for thing, block in self._blocks.items())
        lanes = [self._axis[column] + 6 for column in self._lane.values()]
        self.right = max(*(block.right + self._x[thing] for thing, block in self._blocks.items()), *lanes, 0.0)

    def port_x(self, side: Literal["in", "out"], source: Node) -> float:
        """Where the port stands, from the axis."""
        return self._x[self._level.ports[side, source]]

    def _ranked(self) -> dict[_Thing, int]:
        """The row of each thing, from 0: below all it takes from; ports that give are below everything."""
        row: dict[_Thing, int] = {}
        into = {thing: [link.start for link in self._level.links if link.end is thing] for thing in self._level.things}
        first = int(any(side == "in" for side, _ in self._level.ports))

        def rank(thing: _Thing) -> int:
            if thing not in row:
                entrance = isinstance(thing, _Port) and thing.side == "in"
                row[thing] = 0 if entrance else max((rank(each) + 1 for each in into[thing]), default=first)
            return row[thing]

        for thing in self._level.things:
            rank(thing)
        last = max(row.values())
        for thing in row:
            if isinstance(thing, _Port) and thing.side == "out":
                row[thing] = last
        return row

    def _assign_columns(self) -> None:
        links, row = self._level.links, self._row
        out: dict[_Thing, list[_Thing]] = {thing: [] for thing in self._level.things}
        into: dict[_Thing, list[_Thing]] = {thing: [] for thing in self._level.things}
        for link in links:
            out[link.start].append(link.end)
            into[link.end].append(link.start)
        taken: list[list[tuple[int, int]]] = [[]]

        def place(begin: int, end: int) -> int:
            """The first column to the right that is free between two rows."""
            for column, spans in enumerate(taken[1:], 1):
                if all(end <= low or high <= begin for low, high in spans):
                    spans.append((begin, end))
                    return column
            taken.append([(begin, end)])
            return len(taken) - 1

        main = self._longest(out)
        for thing in main:
            self._column[thing] = 0
        for thing in sorted(self._level.things, key=row.__getitem__):
            if thing in self._column:
                continue
            chain = [thing]
            while after := [each for each in out[chain[-1]] if each not in self._column and each not in chain]:
                chain.append(min(after, key=row.__getitem__))
            begin = max((row[each] for each in into[thing]), default=row[thing] - 1)
            end = min((row[each] for each in out[chain[-1]]), default=row[chain[-1]] + 1)
            column = place(begin, end)
            for each in chain:
                self._column[each] = column
        for link in links:
            begin, end = row[link.start], row[link.end]
            across = {thing for thing in self._level.things if begin < row[thing] < end}
            columns = {self._column[link.start], self._column[link.end]}
            own = max(columns)
            if any(self._column[thing] == own for thing in across) or (
                len(columns) == 1 and end - begin > 1 and across
            ):
                self._lane[link] = place(begin, end)

    def _longest(self, out: dict[_Thing, list[_Thing]]) -> list[_Thing]:
        """The longest way from top to bottom; of equal ones that which was called first."""
        below: dict[_Thing, int] = {}
        for thing in sorted(self._level.things, key=lambda each: -self._row[each]):
            below[thing] = 1 + max((below[each] for each in out[thing]), default=0)
        way = [max(self._level.things, key=lambda each: below[each])]
        while out[way[-1]]:
            way.append(max(out[way[-1]], key=lambda each: below[each]))
        return way

    def _axes(self) -> dict[_Thing, float]:
        columns = range(1 + max([*self._column.values(), *self._lane.values()]))
        extents = [
            [self._blocks[thing] for thing, column in self._column.items() if column == number] for number in columns
        ]
        self._axis = [0.0]
        for number in columns[1:]:
            right = self._axis[-1] + max((block.right for block in extents[number - 1]), default=0.0)
            self._axis.append(right + _BESIDE + max((block.left for block in extents[number]), default=-8.0))
        return {thing: self._axis[column] for thing, column in self._column.items()}

    def _tops(self) -> dict[_Thing, float]:
        rows: dict[int, list[_Thing]] = {}
        for thing, number in self._row.items():
            rows.setdefault(number, []).append(thing)
        tops: dict[_Thing, float] = {}
        y, ports = 0.0, False
        for i, number in enumerate(sorted(rows)):
            entry, ports = ports, all(isinstance(thing, _Port) for thing in rows[number])
            if i:
                y += _ENTRY_GAP if entry else _EXIT_GAP if ports else _GAP
            tall = max(self._blocks[thing].height for thing in rows[number])
            for thing in rows[number]:
                tops[thing] = y + (tall - self._blocks[thing].height) / 2
            y += tall
        self.height = y
        return tops

    def draw(self, x: float, y: float) -> Iterator[str]:
        """The SVG elements, with the axis at `x` and the top at `y`: lines first, so that boxes lie over them."""
        said: set[Node] = set()
        for link in self._level.links:
            yield from self._draw_link(link, x, y)
            entrance, exit_ = isinstance(link.start, _Port), isinstance(link.end, _Port)
            if not entrance and not exit_ and link.source not in said:
                said.add(link.source)
                start = self._blocks[link.start]
                at = x + self._x[link.start] + start.axis("out", link.source)
                below = y + self._y[link.start] + start.height
                yield _text(at - 6, below + 19, _shape(link.shape), 10, _GREY, anchor="end")
        for thing, block in self._blocks.items():
            yield from block.draw(x + self._x[thing], y + self._y[thing])

    def _draw_link(self, link: _Link, x: float, y: float) -> Iterator[str]:
        start, end = self._blocks[link.start], self._blocks[link.end]
        x1 = x + self._x[link.start] + start.axis("out", link.source)
        x2 = x + self._x[link.end] + end.axis("in", link.source)
        y1 = y + self._y[link.start] + start.height
        y2 = y + self._y[link.end]
        lane = self._lane.get(link)
        if lane is None and x1 == x2:
            points = [(x1, y1), (x2, y2)]
        else:
            columns = self._column[link.start], self._column[link.end]
            over = x + self._axis[lane if lane is not None else max(columns)]
            if lane is None:
                over = x1 if columns[0] > columns[1] else x2
            leave = y1 + (_LABEL if isinstance(link.start, _Port) else 7)
            points = [(x1, y1), (x1, leave), (over, leave)]
            if over != x2 and isinstance(link.end, Node) and self._free_right(link.end, lane, columns[0]):
                middle = y2 + end.height / 2
                points += [(over, middle), (x2 + end.right, middle)]
            else:
                arrive = y2 if isinstance(link.end, _Port) else y2 - 10
                points += [(over, arrive), (x2, arrive), (x2, y2)]
        yield _line(points, arrow=isinstance(link.end, Node))

    def _free_right(self, thing: _Thing, lane: int | None, column: int) -> bool:
        """Whether nothing stands between a thing and the column that a link comes from."""
        over = lane if lane is not None else column
        return not any(
            self._row[each] == self._row[thing] and self._column[thing] < self._column[each] <= over
            for each in self._level.things
        )


def _frame_label(frame: Frame, around: Frame) -> str:
    name = frame.name.removeprefix(f"{around.name}.")
    return f"{name} · {frame.type}" + (f" · {frame.times} times" if frame.times > 1 else "")


def _captions(node: Node) -> list[str]:
    if not node.name:
        return []
    return [f"{node.name} · {node.parameters:,} parameters" if node.parameters else node.name]


def _shape(shape: Shape) -> str:
    return " × ".join(map(str, shape))


def _wide(text: str, size: float) -> float:
    """The width of a text, as near as a font that is not here can be guessed."""
    return len(text) * size * 0.56


def _text(x: float, y: float, text: str, size: int, ink: str, bold: bool = False, anchor: str = "start") -> str:
    weight = ' font-weight="bold"' if bold else ""
    place = f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{ink}"{weight}{place}>{escape(text)}</text>'


def _line(points: list[tuple[float, float]], arrow: bool) -> str:
    kept = [point for i, point in enumerate(points) if i == 0 or point != points[i - 1]]
    shaft = list(kept)
    head = ""
    if arrow:
        (x0, y0), (x, y) = kept[-2:]
        dx, dy = (x > x0) - (x < x0), (y > y0) - (y < y0)
        shaft[-1] = (x - dx * _ARROW, y - dy * _ARROW)
        left, right = ((x - dx * _ARROW + s * dy * 3.5, y - dy * _ARROW + s * dx * 3.5) for s in (-1, 1))
        corners = " ".join(f"{px:.1f},{py:.1f}" for px, py in ((x, y), left, right))
        head = f'<polygon points="{corners}" fill="{_LINE}"/>'
    way = " ".join(f"{px:.1f},{py:.1f}" for px, py in shaft)
    return f'<polyline points="{way}" fill="none" stroke="{_LINE}" stroke-width="1.2"/>{head}'
