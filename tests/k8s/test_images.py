"""Dockerfiles, read as text, so that no builder is needed."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from components.image import IMAGE
from immr import __version__
from tests.k8s import schemas

ROOT = schemas.ROOT
FILES = sorted((ROOT / "k8s" / "images").glob("*.Dockerfile"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_image_is_multi_stage_pinned_and_without_root(file: Path) -> None:
    text = file.read_text()
    bases = re.findall(r"^FROM \$\{(\w+_IMAGE)\}", text, re.M)
    assert len(bases) == 2 == len(re.findall(r"^FROM ", text, re.M))
    assert all(re.search(rf"^ARG {base}=\S+:\S*\d", text, re.M) for base in bases)
    assert re.findall(r"^USER (\S+)", text, re.M)[-1] == "10001:10001"
    installs = [line for line in text.splitlines() if "pip install" in line]
    assert installs and all("--constraint constraints.txt" in line for line in installs)
    for label in ("title", "version", "revision", "base.name", "licenses"):
        assert f"org.opencontainers.image.{label}=" in text
    assert re.search(r'^ENTRYPOINT \["', text, re.M)  # no shell


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_copied_files_exist_and_are_not_ignored(file: Path) -> None:
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    for line in re.findall(r"^COPY (?!--from)(.+)$", file.read_text(), re.M):
        *sources, _ = line.split()
        for source in sources:
            assert (ROOT / source).exists(), source
            assert f"!{source}" in ignore


def test_the_serving_image_has_no_torch() -> None:
    assert "torch" not in (ROOT / "k8s/images/serving.Dockerfile").read_text().replace("no torch", "")


def test_make_builds_what_the_manifests_name() -> None:
    done = subprocess.run(
        ["make", "-n", "images", "image-spark", "IMAGE_TOOL=true"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    names = {f"immr/{name}:{__version__}" for name in re.findall(r"([a-z-]+):[a-z]+(?=[ ;])", done.stdout)}
    names |= set(re.findall(r"--tag (immr/spark:\S+)", done.stdout))
    used = set()
    for part in ("base", "components"):
        for file in (ROOT / "k8s" / part).rglob("*.yaml"):
            used |= set(re.findall(r"image: (immr/\S+)", file.read_text()))
    assert used | {IMAGE} == names


@pytest.mark.parametrize(
    ("gpu", "torch"), [([], "whl/cpu"), (["GPU=1"], "pypi.org"), (["GPU=1", "TORCH_INDEX=mine"], "mine")]
)
def test_gpu_images_take_torch_from_another_index(gpu: list[str], torch: str) -> None:
    command = ["make", "-n", "images", "IMAGE_TOOL=true", *gpu]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    (index,) = re.findall(r"--build-arg TORCH_INDEX=(\S+)", done.stdout)
    assert torch in index
    assert re.findall(r"--build-arg GPU=(\S*)", done.stdout) == ["1" if gpu else ""]


def test_the_pipelines_image_has_a_compiler_if_it_is_for_gpus() -> None:
    """Triton and torch.compile call one at run time."""
    text = (ROOT / "k8s/images/pipeline.Dockerfile").read_text().replace("\\\n", " ")
    assert re.search(r"if \[ -n \"\$\{GPU\}\" \].*install.* g\+\+", text)


def test_the_spark_image_has_the_tested_version() -> None:
    (pinned,) = re.findall(r"^pyspark==(\S+)", (ROOT / "constraints.txt").read_text(), re.M)
    manifest = (ROOT / "k8s/components/spark/application.yaml").read_text()
    assert re.findall(r"sparkVersion: (\S+)", manifest) == [pinned]
    taken = re.search(
        r"^ARG SPARK_IMAGE=\S+:(\d+\.\d+)\.", (ROOT / "k8s/images/spark.Dockerfile").read_text(), re.M
    )
    assert taken is not None and pinned.startswith(f"{taken[1]}.")
