"""The shape of the house: sizes, the layout of `src/immr/`, who may bootstrap, and how we write."""

from __future__ import annotations

import ast
import re
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE_FOLDERS = ("src", "serving", "dashboards", "demo", "pipelines", "components", "benchmarks")
LOOSE_MODULES = {"__init__", "types", "errors", "settings", "recipes", "wiring"}
ROOMS = {
    "charts",
    "cli",
    "client",
    "cluster",
    "data",
    "datasets",
    "deploy",
    "doctor",
    "drift",
    "evaluation",
    "events",
    "experiment",
    "features",
    "governance",
    "index",
    "launch",
    "loop",
    "machine",
    "model",
    "packaging",
    "readout",
    "registry",
    "search",
    "storage",
    "train",
}
ENTRY_POINTS = (
    "src/immr/cli/",
    "components/",
    "demo/",
    "serving/",
    "dashboards/",
    "pipelines/",
    "benchmarks/",
)
FILES_PER_FOLDER, LINES_PER_FILE, LINES_PER_FUNCTION = 16, 320, 60
STYLE = re.compile(
    r"\b(anew|told|goes on|is no (?:number|picture|text|probability)|lets? go of|comes along|where there is none"
    r"|of one's own|befalls|all the same)\b",
    re.IGNORECASE,
)
STYLE_WORDS_PER_THOUSAND_LINES = 0.5


@cache
def tracked() -> list[Path]:
    """Files of the checkout that git tracks or would track."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


@cache
def sources() -> list[Path]:
    return [
        path
        for path in tracked()
        if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in SOURCE_FOLDERS
    ]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_a_folder_holds_one_subject() -> None:
    sizes = Counter(path.parent for path in sources())
    too_full = {name_of(folder): size for folder, size in sizes.items() if size > FILES_PER_FOLDER}
    assert not too_full


def test_a_file_fits_on_a_few_screens() -> None:
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in sources()}
    assert not {name: lines for name, lines in lengths.items() if lines > LINES_PER_FILE}


def functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield f"{name_of(path)}:{node.lineno} {node.name}", node.end_lineno - node.lineno + 1


def test_a_function_fits_on_a_screen() -> None:
    lengths = dict(found for path in sources() for found in functions(path))
    assert not {name: lines for name, lines in lengths.items() if lines > LINES_PER_FUNCTION}


def test_the_package_has_the_rooms_of_the_design() -> None:
    package = ROOT / "src" / "immr"
    assert {path.stem for path in package.glob("*.py")} == LOOSE_MODULES
    rooms = {path.name for path in package.iterdir() if (path / "__init__.py").is_file()}
    assert rooms <= ROOMS, f"a new folder belongs into docs and this list: {rooms - ROOMS}"


@pytest.mark.parametrize("room", ["serving", "src/immr/train", "src/immr/model"])
def test_large_rooms_have_rooms_of_their_own(room: str) -> None:
    assert [path for path in (ROOT / room).iterdir() if (path / "__init__.py").is_file()]


def imports_at_run_time(tree: ast.Module) -> Iterator[str]:
    """Dotted names of imported modules and members, those under TYPE_CHECKING left out."""
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_only_entry_points_bootstrap() -> None:
    """Everything else takes `Parts`; it may name the type, but not call `connect`."""
    offenders = [
        name_of(path)
        for path in sources()
        if not name_of(path).startswith(ENTRY_POINTS)
        and "immr.wiring.connect" in set(imports_at_run_time(ast.parse(path.read_text())))
    ]
    assert not offenders


def test_settings_are_read_at_the_front_door() -> None:
    """`Settings()` reads the environment; only entry points may."""
    reading = re.compile(r"\bSettings\(\)")
    offenders = [
        name_of(path)
        for path in sources()
        if not name_of(path).startswith(ENTRY_POINTS) and reading.search(path.read_text())
    ]
    assert not offenders


def test_modules_import_each_other_in_one_direction() -> None:
    """No circles between modules, at import time or inside functions."""
    modules = {
        name_of(path)
        .removeprefix("src/")
        .removesuffix(".py")
        .removesuffix("/__init__")
        .replace("/", "."): path
        for path in sources()
    }
    edges: dict[str, set[str]] = defaultdict(set)
    for name, path in modules.items():
        for imported in imports_at_run_time(ast.parse(path.read_text())):
            target = imported if imported in modules else imported.rpartition(".")[0]
            if target in modules and target != name:
                edges[name].add(target)
    assert not list(circles(edges))


def circles(edges: dict[str, set[str]]) -> Iterator[list[str]]:
    """A path for each back edge that a depth-first search meets."""
    done: set[str] = set()
    path: list[str] = []

    def visit(node: str) -> Iterator[list[str]]:
        path.append(node)
        for target in sorted(edges.get(node, ())):
            if target in path:
                yield [*path[path.index(target) :], target]
            elif target not in done:
                yield from visit(target)
        path.pop()
        done.add(node)

    for node in sorted(edges):
        if node not in done:
            yield from visit(node)


def test_the_old_prose_does_not_come_back() -> None:
    suffixes = {".py", ".md", ".html", ".j2", ".yaml", ".js", ".toml"}
    prose = [path for path in tracked() if path.suffix in suffixes and "third-party" not in name_of(path)]
    prose.remove(Path(__file__))
    found: dict[str, list[str]] = {}
    lines = 0
    for path in prose:
        text = path.read_text(encoding="utf-8")
        lines += text.count("\n")
        if words := STYLE.findall(text):
            found[name_of(path)] = words
    count = sum(len(words) for words in found.values())
    assert count / lines * 1000 <= STYLE_WORDS_PER_THOUSAND_LINES, found
