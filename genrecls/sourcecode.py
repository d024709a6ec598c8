"""Python source as what it does: digests that no comment and no version of Python moves, and which files import which.

Nothing is imported for it, and nothing run.
"""

import ast
import hashlib
import importlib.util
import sysconfig
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

PROSE: dict[str, tuple[int | None, tuple[str, ...]]] = {
    "setting": (1, ("help",)),
    "register": (None, ("origin", "reported")),
}
"""Texts for readers that stand in the code: the function that takes them -> their position among its arguments, and
their names."""
_NOT_DONE = frozenset({"ctx", "kind", "type_comment", "type_ignores"})
"""Fields of syntax that follow from others, or do nothing."""


def syntax_sha256(source: bytes, name: str = "<source>") -> str:
    """SHA-256 of what the source of a module does. name: of its file, for an error.

    It changes with every name, operation, constant, argument and order of statements, and not with comments, docstrings
    and other texts that stand alone, `pass`, formatting, help texts (`PROSE`) or the version of Python that reads it.
    Raises SyntaxError where it is no Python.
    """
    parts: list[str] = []
    _write(ast.parse(source, name), parts)
    return hashlib.sha256("".join(parts).encode("ascii")).hexdigest()


def _write(value: object, parts: list[str]) -> None:
    """Add a syntax tree as text of our own, in which fields are sorted and those that are empty are left out.

    What `ast.dump` writes is another text in another version of Python.
    """
    if isinstance(value, ast.AST):
        parts.append(f"({type(value).__name__}")
        leave_out = _prose(value) if isinstance(value, ast.Call) else ()
        for name in sorted(value._fields):
            if name in _NOT_DONE:
                continue
            inner = getattr(value, name, None)
            if isinstance(value, ast.JoinedStr):
                inner = _joined(value)
            elif isinstance(inner, list):
                inner = [each for each in inner if not _idle(each) and each not in leave_out]
            if inner is not None and inner != []:
                parts.append(f" {name}=")
                _write(inner, parts)
        parts.append(")")
    elif isinstance(value, list):
        parts.append("[")
        for each in value:
            _write(each, parts)
        parts.append("]")
    else:
        parts.append(f"{type(value).__name__}:{value!a};")


def _joined(text: ast.JoinedStr) -> list[object]:
    """The parts of an f-string, in which versions of Python cut the constant ones differently."""
    parts: list[object] = []
    for each in text.values:
        part = each.value if isinstance(each, ast.Constant) else each
        if isinstance(part, str) and parts and isinstance(parts[-1], str):
            parts[-1] += part
        elif part != "":
            parts.append(part)
    return parts


def _idle(node: object) -> bool:
    """Whether it is a statement that does nothing: a docstring, a comment as a text, `pass`."""
    if isinstance(node, ast.Pass):
        return True
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _prose(call: ast.Call) -> list[ast.AST]:
    """The arguments of a call that are texts for readers."""
    at, names = PROSE.get(call.func.id if isinstance(call.func, ast.Name) else "", (None, ()))
    found: list[ast.AST] = [
        each for each in call.keywords if each.arg in names and isinstance(each.value, ast.Constant)
    ]
    if at is not None and at < len(call.args) and isinstance(call.args[at], ast.Constant):
        found.append(call.args[at])
    return found


def closure(starts: list[str], follow: Callable[[str], bool]) -> dict[str, Path]:
    """The modules that these lead to by their imports, themselves included, with the files they are in.

    Packages that a module is in count, for they are imported before it. follow: whether a module counts, and with it
    what it imports. What belongs to Python or is installed beside it (PyTorch, NumPy) never counts, nor does what is
    imported for types alone. Raises SyntaxError where a file is no Python.
    """
    found: dict[str, Path] = {}
    waiting = list(starts)
    while waiting:
        module = waiting.pop()
        if module in found or not follow(module):
            continue
        path = file_of(module)
        if path is None:
            continue
        found[module] = path
        waiting += [*_packages(module), *imported(path, module)]
    return dict(sorted(found.items()))


def _packages(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def imported(path: Path, module: str) -> list[str]:
    """Names of modules that a file imports, anywhere in it, and of what it imports from them.

    module: the file's own name. Relative names are made absolute. Raises SyntaxError.
    """
    tree = ast.parse(path.read_bytes(), str(path))
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    names: list[str] = []
    for node in _nodes(tree):
        if isinstance(node, ast.Import):
            names += [name for each in node.names for name in (*_packages(each.name), each.name)]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            names += [*_packages(origin), origin, *(f"{origin}.{each.name}" for each in node.names)]
    return list(dict.fromkeys(names))


def _nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below, without what is below `if TYPE_CHECKING:`."""
    for each in ast.iter_child_nodes(node):
        if isinstance(each, ast.If) and isinstance(each.test, ast.Name) and each.test.id == "TYPE_CHECKING":
            yield from (below for other in each.orelse for below in (other, *_nodes(other)))
        else:
            yield each
            yield from _nodes(each)


def file_of(module: str) -> Path | None:
    """The file of a module, None where there is none, or it is Python's or installed beside it."""
    top, *rest = module.split(".")
    root = _root(top)
    if root is None:
        return None
    place = root.joinpath(*rest)
    candidates = [place / "__init__.py", place.with_name(f"{place.name}.py")]
    return next((path for path in candidates if path.is_file()), None)


@cache
def _root(top: str) -> Path | None:
    """The folder of a top-level package, or the path of a top-level module without its suffix, if it is no library."""
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None or not spec.has_location:
        return None
    origin = Path(spec.origin)
    if spec.origin.endswith("__init__.py"):
        origin = origin.parent
    libraries = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    if top != __name__.partition(".")[0] and any(origin.is_relative_to(each) for each in libraries if each):
        return None
    return origin.with_suffix("") if origin.is_file() else origin
