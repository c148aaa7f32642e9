"""The exit step, run here as it runs there: after a run that went well, and after one that did not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from immr.settings import Settings

ROOT = Path(__file__).parents[2]
PIPELINE = """
import sys
from kfp import dsl, local
import components
from pipelines.__main__ import _use_this_machine
from pathlib import Path

@dsl.component(base_image="none", install_kfp_package=False)
def body(fails: bool):
    assert not fails, "the shop is shut"

@dsl.pipeline
def short(fails: bool):
    finished = components.finish(run=dsl.PIPELINE_JOB_ID_PLACEHOLDER, data_uri="/shop", recipe="concept")
    with dsl.ExitHandler(finished):
        body(fails=fails)

_use_this_machine(Path(sys.argv[1]))
short(fails=sys.argv[2] == "fails")
"""


@pytest.mark.parametrize(
    ("how", "state", "next_"), [("well", "succeeded", ""), ("fails", "failed", "start again")]
)
def test_the_end_says_what_happened(tmp_path: Path, how: str, state: str, next_: str) -> None:
    (tmp_path / "short.py").write_text(PIPELINE)
    settings = Settings(home=tmp_path / "home", tracking_link="http://mlflow.example")
    done = subprocess.run(
        [sys.executable, str(tmp_path / "short.py"), str(tmp_path / "runs"), how],
        cwd=ROOT,
        env={**os.environ, **settings.environment(), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode == 0) == (how == "well"), done.stdout[-3000:] + done.stderr[-3000:]
    (page,) = (tmp_path / "runs").glob("*/finish/summary")
    text = page.read_text()
    assert text.startswith(f"# Refresh {state}")
    assert "Recipe `concept` on `/shop`." in text and "[MLflow](http://mlflow.example)" in text
    assert next_ in text


def test_a_failed_run_of_the_loop_ends_with_a_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipelines", "run", str(tmp_path / "nothing"), "--recipe", "smoke"],
        cwd=ROOT,
        env={**os.environ, **Settings(home=tmp_path / "home").environment()},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert "ImmrError: the run did not get through" in done.stderr
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "home" / "pipeline").glob("*/finish/summary"))
