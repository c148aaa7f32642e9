from dataclasses import dataclass

import pytest

from immr.cluster.objects import condition, is_ours, shape_from_query
from immr.errors import SettingsError


@dataclass(frozen=True)
class Shape:
    cpu: str = "1"
    gpus: int = 0


def test_only_objects_with_our_label_are_ours() -> None:
    ours = {"metadata": {"labels": {"app.kubernetes.io/managed-by": "immr"}}}
    other = {"metadata": {"labels": {"app.kubernetes.io/managed-by": "helm"}}}
    assert [is_ours(body) for body in (ours, other, {"metadata": {}})] == [True, False, False]


def test_a_condition_counts_only_while_it_is_true() -> None:
    conditions = [{"type": "Ready", "status": "False"}, {"type": "Failed", "status": "True", "reason": "OOM"}]
    body = {"status": {"conditions": conditions}}
    assert condition(body, "Ready") is None
    assert condition(body, "Failed") == conditions[1]
    assert condition({}, "Ready") is None


def test_a_url_overrides_the_defaults() -> None:
    assert shape_from_query(Shape, "IMMR_LAUNCH_URL", {"gpus": "2"}) == Shape("1", 2)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"gpu": "2"}, "the unknown name 'gpu': use one of cpu, gpus"),
        ({"gpus": "two"}, "gpus='two'.*whole number"),
    ],
)
def test_a_wrong_name_or_value_is_refused(query: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=f"IMMR_LAUNCH_URL has {message}"):
        shape_from_query(Shape, "IMMR_LAUNCH_URL", query)
