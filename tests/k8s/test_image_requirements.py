"""Every module that an image runs can be imported with just the packages that its Dockerfile installs."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib

import pytest
from packaging.utils import canonicalize_name

from immr.packaging.requirements import installed_closure
from tests.k8s import schemas

ROOT = schemas.ROOT
RUNS = {
    "gateway": ("serving/gateway", "serving/process", "serving/wire", "dashboards", "src/immr/cli"),
    "serving": ("serving/bento", "serving/process", "serving/wire"),
    "pipeline": ("src/immr", "components", "pipelines"),
}
CODE = """
import importlib, json, sys
blocked, modules = (set(part) for part in json.load(sys.stdin))

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r} in this image", name=name)

sys.meta_path.insert(0, Blocker())
failed = {}
for module in sorted(modules):
    try:
        importlib.import_module(module)
    except ImportError as error:
        failed[module] = str(error)
print(json.dumps(failed))
"""


def installed(image: str) -> list[str]:
    """The requirements on the image's `pip install` lines, IMMR's own resolved by pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = (ROOT / "k8s" / "images" / f"{image}.Dockerfile").read_text().replace("\\\n", " ")
    found = []
    for line in re.findall(r"pip install (.+?)(?:&&|$)", text, re.M):
        words = re.sub(r"--(constraint|index-url) \S+|--editable", "", line).split()
        for word in (word.strip("'") for word in words):
            if not word.startswith("."):
                found.append(word)
                continue
            found += project["dependencies"]
            for extra in filter(None, word.strip(".[]").split(",")):
                found += project["optional-dependencies"][extra]
    return found


def modules(folders: tuple[str, ...]) -> list[str]:
    found = []
    for folder in folders:
        for file in (ROOT / folder).rglob("*.py"):
            parts = file.relative_to(ROOT).with_suffix("").parts
            parts = parts[1:] if parts[0] == "src" else parts
            if parts[-1] != "__main__" and "kernels" not in parts:  # only CUDA's torch brings their Triton
                found.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return found


def names_outside(requirements: list[str]) -> list[str]:
    """Import names of installed packages that none of these requirements installs."""
    inside = {name for name, version in installed_closure(requirements).items() if version} | {"immr"}
    return [
        name
        for name, packages in importlib.metadata.packages_distributions().items()
        if not inside & {canonicalize_name(package) for package in packages}
    ]


@pytest.mark.parametrize("image", ["gateway", "serving", pytest.param("pipeline", marks=pytest.mark.slow)])
def test_an_image_installs_what_its_modules_import(image: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        input=json.dumps([names_outside(installed(image)), modules(RUNS[image])]),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {}


def test_a_missing_package_is_found() -> None:
    assert "torch" in names_outside(installed("gateway"))
    assert "fastapi" not in names_outside(installed("gateway"))
