"""What docs/ shows is true: commands and code are executed or held against the command line, links lead somewhere."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pages
import pytest
from conftest import SHORT, TINY, CommandLine, Desk
from pages import DOCS, PAGES, ROOT

import reference

TEXTS = {name: pages.page(name) for name in PAGES} | {
    name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md")
}
ELSEWHERE = ("--node-rank", "--signal")
"""Options of other programs that the pages' words name."""
DOWNLOADS = ("download",)
"""The README's test has them."""

# --- Words and links ---


@pytest.mark.parametrize("name", TEXTS)
def test_every_command_that_is_named_is_one(name: str) -> None:
    named = pages.mentioned(TEXTS[name])
    refused = {" ".join(each): why for each in named if (why := pages.refusal(each))}
    assert refused == {}


def test_every_option_that_is_named_is_one() -> None:
    known = {*ELSEWHERE, *re.findall(r"`(--[a-z0-9-]+)", TEXTS["commands.md"])}
    for name, text in TEXTS.items():
        named = set(re.findall(r"(?<!`)`(--[a-z0-9-]+)", pages.without_blocks(text)))
        assert named <= {*known, "--help"}, name


@pytest.mark.parametrize("name", PAGES)
def test_a_reader_types_the_tool_and_make_alone(name: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for words in pages.typed(TEXTS[name]):
        assert words[0] in ("genrecls", "make")
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", makefile, re.MULTILINE)
            assert all(f"$({each.partition('=')[0]})" in makefile or f"$(or $({each}" for each in words[2:])


def test_scripts_that_are_named_exist() -> None:
    for text in TEXTS.values():
        for script in re.findall(r"python (\S+\.py)", text):
            assert (ROOT / script).is_file(), script


def anchors(text: str) -> set[str]:
    """Of a page's headings, as the forge and the site make them."""
    heads = re.findall(r"^#+ (.+)$", pages.without_blocks(text), re.MULTILINE)
    return {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", head.lower()).strip()) for head in heads}


def links(text: str) -> Iterator[str]:
    """What a page's links and pictures lead to."""
    words = re.sub(r"`[^`]+`", "", pages.without_blocks(text))
    yield from re.findall(r"\]\(([^)\s]+)\)", words)


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_somewhere(name: str) -> None:
    home = DOCS if name in PAGES else ROOT
    for link in links(TEXTS[name]):
        parts = urlsplit(link)
        if parts.scheme:
            assert parts.scheme == "https"
            assert re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", parts.netloc), link
            continue
        target = home / parts.path if parts.path else home / name
        assert target.exists(), link
        # The site has what lies in docs/, and nothing else.
        assert home == ROOT or DOCS in target.resolve().parents, link
        if parts.fragment:
            assert parts.fragment in anchors(target.read_text(encoding="utf-8")), link


def test_every_page_and_figure_is_led_to() -> None:
    led = {(DOCS / urlsplit(link).path).resolve() for name in PAGES for link in links(TEXTS[name])}
    assert {DOCS / name for name in PAGES} - led == {DOCS / "index.md"} - led
    figures = set((DOCS / "figures").iterdir())
    assert figures <= led
    assert max(path.stat().st_size for path in figures) < 250_000
    listed = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == PAGES


def test_no_placeholder_is_left() -> None:
    assert not [name for name in PAGES if "@@" in TEXTS[name]]


def test_figures_that_are_quoted_are_those_that_were_measured() -> None:
    measured = (ROOT / "experiments" / "RESULTS.md").read_text(encoding="utf-8")
    table = [line for line in TEXTS["pitfalls.md"].splitlines() if line.startswith("|")]
    quoted = [figure for line in table for figure in re.findall(r"0\.\d{3}(?: \+- 0\.\d{3})?", line)]
    assert len(quoted) == 5
    assert [figure for figure in quoted if f"| {figure} |" not in measured] == []


# --- The command reference ---


def test_the_reference_is_what_the_command_line_says() -> None:
    assert TEXTS["commands.md"] == reference.page(), "run `python docs/reference.py`"


@pytest.mark.parametrize("command", pages.commands())
def test_the_reference_has_every_option(cli: CommandLine, command: str) -> None:
    told = re.search(rf"^###? {command}\n(.*?)^##", TEXTS["commands.md"], re.MULTILINE | re.DOTALL)
    assert told is not None
    own = re.findall(r"^\| `(--[a-z0-9-]+)", told[1], re.MULTILINE)
    settings = re.search(r"^It takes these .*", told[1], re.MULTILINE)
    shared = re.findall(r"`(--[a-z0-9-]+)`", settings[0]) if settings else []
    flags = re.findall(
        r"^  (?:-h, )?(--[a-z0-9-]+)", cli(*command.split(), "--help").stdout.partition("Options:")[2], re.M
    )
    assert sorted([*own, *shared, "--help"]) == sorted(flags)
    explained = TEXTS["commands.md"].partition("## Settings")[2]
    assert all(f"`{flag}`" in explained for flag in shared)


# --- What is shown works ---


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("checkout")
    pages.furnish(root)
    return root


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in PAGES if pages.typed(TEXTS[name])])
def test_the_commands_of_a_page_work(cli: CommandLine, checkout: Path, name: str) -> None:
    pages.Reader(cli, checkout).follow(TEXTS[name], passed_over=DOWNLOADS)


@pytest.mark.slow
def test_the_code_of_the_page_on_python_works(trained: Desk, checkout: Path) -> None:
    run = next(trained.runs.glob("folder-*"))
    (code,) = [block.body for block in pages.blocks(TEXTS["python.md"]) if block.language == "python"]
    done = subprocess.run(
        [sys.executable, "-c", code.replace("RUN", str(run))],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "song.mp3 " in done.stdout


def test_the_diagram_is_what_the_tool_draws(cli: CommandLine, tmp_path: Path) -> None:
    (words,) = [each for each in pages.mentioned(TEXTS["reproducing-a-paper.md"]) if each[:2] == ["models", "mixnet"]]
    assert cli(*words, cwd=tmp_path).status == 0
    assert (tmp_path / "mixnet.svg").read_bytes() == (DOCS / "figures" / "mixnet.svg").read_bytes()


# --- The site ---


class Fetched(HTMLParser):
    """What a browser fetches by itself to show a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "link" and given.get("rel") not in ("canonical", "prev", "next"):
            self.found.append(given.get("href") or "")
        self.found += [given["src"] or ""] if "src" in given else []


@pytest.mark.slow
def test_the_site_builds_strictly_and_needs_no_network(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="the extra docs is not installed (pip install -r requirements-docs.txt)")
    built = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", built], cwd=ROOT, check=True
    )
    for name in PAGES:
        html = (built / name).with_suffix(".html").read_text(encoding="utf-8")
        fetched = Fetched(html).found
        assert fetched
        assert not [place for place in fetched if urlsplit(place).netloc], name
        assert all((built / urlsplit(place).path).exists() for place in fetched if not place.startswith("data:")), name
    for style in built.rglob("*.css"):
        assert not re.search(r"url\(\W*(https?:)?//|@import", style.read_text(encoding="utf-8"))
    assert not list(built.rglob("*.py"))


# --- A model and a corpus of one's own ---


def follow(page: str, copy: Path) -> None:
    """Do what the page shows: its files, and its one line in the file named above it."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    written = re.findall(r"`(genrecls/\S+\.py)`[^\n]*:\n\n```python\n(.*?)```", text, re.DOTALL)
    assert written
    table, line = re.search(r"In `_MODULES` of `(\S+)`:\n\n```text\n(.*?)```", text, re.DOTALL).groups()  # type: ignore[union-attr]
    shutil.copytree(ROOT / "genrecls", copy / "genrecls", ignore=shutil.ignore_patterns("__pycache__"))
    for file, code in written:
        (copy / file).write_text(code, encoding="utf-8")
    known = (copy / table).read_text(encoding="utf-8")
    begun = re.search(r"^_MODULES = [({]\n", known, re.MULTILINE)
    assert begun, f"{table} has no table that a line can be added to"
    (copy / table).write_text(known[: begun.end()] + line + known[begun.end() :], encoding="utf-8")


def refusal(copy: Path, *arguments: object) -> str:
    """The sentence that a command of the copy ends with."""
    words = [sys.executable, "-m", "genrecls", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    done = subprocess.run(words, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr.removeprefix("Error: ").strip()


def run(copy: Path, *arguments: object) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "genrecls", *map(str, arguments), "--json"],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_the_model_of_the_page_trains(tmp_path: Path, corpus: Path) -> None:
    follow("adding-a-model.md", tmp_path)
    given = [*SHORT, "--lr", "0.02", "--epochs", "30", "--equaliser", "0"]
    where = ("--dataset", "folder", "--data-dir", corpus, "--res", tmp_path / "res", "--runs", tmp_path / "runs")
    made = run(tmp_path, "train", "--model", "mean-bins", "--hidden", 8, *given, *where)
    assert made["valid"]["accuracy"] > 0.6
    assert "mean-bins" in made["run"]
    assert {row["name"]: row["parameters"] for row in run(tmp_path, "models")}["mean-bins"] == 128 * 10 + 10
    # Changed as the page has it, the model has no run any more.
    page = (DOCS / "adding-a-model.md").read_text(encoding="utf-8")
    (changed,) = re.findall(r"^            x = torch\.tanh.*\n", page, re.MULTILINE)
    path = tmp_path / "genrecls" / "models" / "mean_bins.py"
    path.write_text(path.read_text(encoding="utf-8").replace("            x = torch.relu(self.hidden(x))\n", changed))
    (shown,) = re.findall(r"```text\nError: (.*?)\n```", page, re.DOTALL)
    expected = " ".join(shown.split()).replace("genrecls/models/mean_bins.py", str(path))
    expected = expected.replace("experiments/runs/gtzan-mean-bins-3f9c1b2a4d5e", made["run"])
    train = ("train", "--model", "mean-bins", "--hidden", 8, *given, *where)
    for command in (train, ("evaluate", made["run"], *where[4:])):
        assert refusal(tmp_path, *command) == expected


@pytest.mark.slow
def test_the_corpus_of_the_page_trains(tmp_path: Path, make_clip: Callable[..., None]) -> None:
    follow("adding-a-corpus.md", tmp_path)
    for artist in range(5):
        for genre, pitch in (("high", 3000.0), ("low", 150.0)):
            for title in range(2):
                make_clip(tmp_path / "music" / f"artist{artist}{genre} - {genre} - {title}.wav", pitch)
    where = ("--data-dir", tmp_path / "music", "--res", tmp_path / "res", "--runs", tmp_path / "runs")
    made = run(tmp_path, "train", "--dataset", "tagged", *TINY, *where)
    assert run(tmp_path, "evaluate", made["run"], "--res", tmp_path / "res")["split"] == "grouped"
