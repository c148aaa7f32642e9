"""Commands, targets, settings, modules and links in the docs exist."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main

from immr.cli import app
from immr.settings import Settings
from serving.process.options import ServingOptions

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
OUTSIDE_SETTINGS = {  # read when pipelines are compiled or a step runs
    "IMMR_APP",
    "IMMR_PIPELINE_IMAGE",
    "IMMR_PIPELINE_RETRIES",
    "IMMR_STEP_SIZES",
    "IMMR_STEP_TRIES",
}


def variables() -> set[str]:
    fields = [*Settings.model_fields, *ServingOptions.model_fields]
    return OUTSIDE_SETTINGS | {f"IMMR_{name.upper()}" for name in fields}


def named(text: str) -> set[str]:
    """IMMR's own variables; those of the tests are documented where a test skips."""
    return set(re.findall(r"IMMR_(?!TEST_)[A-Z_]+", text))


def commands(command: Any, path: str) -> dict[str, set[str]]:
    """Each command with its own options and those of its subcommands."""
    found = {
        path: {
            option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
        }
    }
    for name, below in getattr(command, "commands", {}).items():
        found |= commands(below, f"{path} {name}")
        found[path] |= found[f"{path} {name}"]
    return found


def test_every_setting_is_documented() -> None:
    page = (ROOT / "docs" / "cli.md").read_text()
    assert variables() <= named(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_only_what_exists(page: Path) -> None:
    text = page.read_text()
    assert named(text) <= variables()
    there = commands(typer.main.get_command(app), "immr")
    for line in re.findall(r"(?:^|`|\$ )(immr [a-z][^`#\n]*)", text, re.MULTILINE):
        words = line.split()
        options = there.get(" ".join(words[:3])) or there.get(" ".join(words[:2]))
        assert options is not None, f"{line}: no such command"
        if "|" not in line:  # a table's cell, or alternatives
            assert set(re.findall(r"--[a-z-]+", line)) <= options | {"--help"}, line
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE)) <= targets
    for module in re.findall(r"python -m ((?:benchmarks|dashboards|demo|pipelines|serving)[a-z_.]*)", text):
        path = ROOT / module.rstrip(".").replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module
    for link in re.findall(r"\]\(([^)#\s]+)", text):
        assert link.startswith("http") or (page.parent / link).exists(), link


FOLDERS = ("src", "serving", "dashboards", "pipelines", "components", "demo", "benchmarks", "tests", "k8s")
SOURCES = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_only_modules_that_exist(page: Path) -> None:
    """`fused/recorded.py` and `test_sharded.py` had been renamed."""
    names = set(re.findall(r"`([\w/-]+\.py)`", page.read_text()))
    there = {f"/{path.relative_to(ROOT)}" for path in SOURCES}
    assert [name for name in names if not any(path.endswith(f"/{name}") for path in there)] == []
