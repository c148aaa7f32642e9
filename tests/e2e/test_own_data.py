"""A new user follows docs/your-data.md with a German shop's CSV export: each command, as it is written there."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner, Result

from immr.cli import app
from immr.datasets.synthetic import SyntheticRecipe
from immr.datasets.synthetic import load as load_synthetic
from tests.support import shop_export
from tests.support.patience import until
from tests.support.upstream_process import free_port

DOCS = Path(__file__).parents[2] / "docs" / "your-data.md"
_ZONE = ', zone = "Europe/Berlin" }'


def commands(section: str) -> list[str]:
    """The `immr` commands of a section's shell blocks, without comments."""
    text = DOCS.read_text(encoding="utf-8").partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = (line.partition("#")[0].strip() for block in blocks for line in block.splitlines())
    return [line for line in lines if line.startswith("immr ")]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with nothing but the shop's export, and a home that does not exist yet."""
    labelled = load_synthetic(
        SyntheticRecipe(items=12, train_photos=12, val_photos=1, side_px=96), tmp_path / "cache"
    )
    (tmp_path / "here").mkdir()
    shop_export.write(tmp_path / "here" / "my-shop", labelled)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("IMMR_HOME", str(tmp_path / "home"))
    return tmp_path / "here"


def run(command: str, exit_code: int = 0) -> Result:
    done = CliRunner().invoke(app, shlex.split(command)[1:])
    assert done.exit_code == exit_code, f"{command}: {done.output} {done.exception!r}"
    return done


@contextmanager
def served(command: str) -> Iterator[str]:
    """The command on free ports, until Ctrl-C; yields the gateway's URL."""
    arguments = [
        *shlex.split(command)[1:],
        "--port",
        str(free_port()),
        "--page-port",
        str(free_port()),
        "--json",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "immr.cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        yield json.loads(line)["search"]
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0 and "Traceback" not in errors
    finally:
        process.kill()
        process.wait()


def with_zones(mapping: Path) -> None:
    """What the proposal asks its reader to decide."""
    text = mapping.read_text()
    assert text.count('if they are local, add zone = "Europe/Berlin"') == 3
    mapping.write_text(re.sub(r"(format = [^}]*?) }", rf"\1{_ZONE}", text))


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_from_an_export_to_a_search(folder: Path) -> None:
    check, propose = commands("1. Map your columns")[:2]
    [recheck] = [line for line in commands("1. Map your columns") if "--map" in line]
    assert "artikel.csv has its columns" in run(check, exit_code=3).stdout
    run(propose)
    mapping = folder / "shop.toml"
    assert 'position = { column = "Position", plus = 1 }' in mapping.read_text()
    with_zones(mapping)
    assert "does not fit" not in run(recheck).stdout

    [govern] = commands("2. Clean and group them")
    governed = run(govern).stdout
    assert "12 of 12 items usable" in governed
    assert re.search(r"(\d+) of \1 impressions usable", governed.replace(",", ""))

    train, *steps, serve = commands("3. Train and serve")
    assert "immr-1" in run(f"{train} --recipe smoke").stdout  # as the docs say for a first try
    for step in steps:
        run(step)
    assert "immr-1" in run("immr status", exit_code=3).stdout  # nothing serves yet
    assert "hand-tuned weights" in run("immr models").stdout

    photo = next((folder / "my-shop" / "bilder").glob("catalogue-*")).read_bytes()
    with served(serve) as url:
        found = httpx.post(url, files={"image": photo}, data={"user_id": "ann"}, timeout=60).json()
        hits = {hit["item_id"]: hit for hit in found["hits"]}
        assert set(hits) <= {str(shop_export.FIRST_ID + number) for number in range(12)}
        assert max(hit["features"]["price"] for hit in hits.values()) > 1290
        assert all(hit["category"].startswith("Haushalt/") for hit in hits.values())
        assert any("日本語の商品" in hit["title"] for hit in hits.values())
        _change_the_catalogue(folder, next(iter(hits)), url, photo)
        text = httpx.post(url, files={"image": b"item;price\n1;2\n"}, timeout=60)
        assert text.status_code in (400, 415, 422) and "image" in text.json()["detail"]


def _change_the_catalogue(folder: Path, first: str, url: str, photo: bytes) -> None:
    """Delete the first hit, and bring it back in the shop's own columns."""
    lines = (folder / "my-shop" / "artikel.csv").read_text("utf-8-sig")
    upsert, delete = commands("4. Keep the catalogue current")

    def ids() -> set[str]:
        answer = httpx.post(url, files={"image": photo}, data={"k": "12"}, timeout=60).json()
        return {hit["item_id"] for hit in answer["hits"]}

    done = run(delete.replace("100017", f"{first} nowhere"))
    assert "nowhere is not in the catalogue" in done.output
    until(lambda: first not in ids(), timeout_s=60)
    (folder / "my-shop" / "new.csv").write_text(lines, encoding="utf-8-sig")
    assert "recorded 12 of 12 items" in run(upsert).output
    until(lambda: first in ids(), timeout_s=60)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "cp1252", "utf-16"])
def test_the_proposed_mapping_fits_in_each_encoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    labelled = load_synthetic(
        SyntheticRecipe(items=6, train_photos=2, val_photos=1, side_px=32), tmp_path / "cache"
    )
    shop_export.write(tmp_path / "my-shop", labelled, encoding=encoding)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMMR_HOME", str(tmp_path / "home"))
    check, propose = commands("1. Map your columns")[:2]
    run(check, exit_code=3)
    assert "6" in run(propose).stdout
    with_zones(tmp_path / "shop.toml")
    assert "does not fit" not in run(f"{check} --map shop.toml").stdout
