import pytest

from immr.errors import SettingsError
from immr.launch.kubeflow.job_shape import JobShape, for_run
from immr.settings import query_of


def test_a_url_sets_each_field() -> None:
    shape = JobShape.from_query({"gpus": "2", "queue": "team", "memory": "8Gi"})
    assert (shape.gpus, shape.queue, shape.memory, shape.cpu) == (2, "team", "8Gi", "1")
    with pytest.raises(SettingsError, match="IMMR_LAUNCH_URL has gpus='many'"):
        JobShape.from_query({"gpus": "many"})


def test_a_run_owns_its_jobs() -> None:
    assert for_run("kubeflow://immr?queue=team", "run-7") == "kubeflow://immr?queue=team&run=run-7"
    assert for_run("local://", "run-7") == "local://"


def test_values_reach_the_jobs_of_a_run_unchanged() -> None:
    url = for_run("kubeflow://immr?environment=FLAGS%3D-XX:+UseG1GC%20-v", "r")
    assert query_of(url) == {"environment": "FLAGS=-XX:+UseG1GC -v", "run": "r"}


def test_gpus_are_counted_per_pod() -> None:
    url = for_run("kubeflow://immr?processes_per_pod=4&gpus=1", "r", gpus_per_process=2)
    assert "gpus=8" in url
    assert "gpus=1" in for_run("kubeflow://immr?gpus=1", "r")
