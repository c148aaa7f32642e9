"""The experiment file: valid ones load, invalid ones are refused, and the watcher keeps the last valid one."""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from immr.errors import ExperimentError
from immr.experiment.definition import Experiment, Holdout, Variant
from immr.experiment.file import load, save
from immr.storage.watched_file import WatchedFile

CHAMPION = {"name": "champion", "url": "http://127.0.0.1:3001", "model_version": "immr-1", "weight": 0.5}
CHALLENGER = CHAMPION | {"name": "challenger", "url": "https://b.example/x", "model_version": "immr-2"}
THREE = [
    CHAMPION,
    CHALLENGER | {"weight": 0.25},
    CHALLENGER | {"name": "challenger-2", "model_version": "immr-3", "weight": 0.25},
]
SINCE = "2023-01-01T00:00:00+00:00"
GOOD: dict[str, Any] = {"name": "test", "salt": "s", "variants": [CHAMPION, CHALLENGER]}


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_an_experiment_round_trips(tmp_path: Path) -> None:
    experiment = Experiment(
        "test",
        "s",
        (Variant(**CHAMPION), Variant(**CHALLENGER)),
        "stopped",
        datetime(2024, 5, 1, tzinfo=UTC),
        planned_users=55_000,
        min_days=14.5,
        ramp=(0.6, 0.9),
        ramp_every_s=3600,
        holdout=Holdout(0.05, "years", datetime(2023, 1, 1, tzinfo=UTC)),
        stopped_at=datetime(2024, 5, 9, tzinfo=UTC),
    )
    path = tmp_path / "deep" / "experiment.json"
    save(experiment, path)
    assert load(path) == experiment
    assert experiment.champion.model_version == "immr-1"
    assert experiment.challenger is not None
    assert [file.name for file in path.parent.iterdir()] == ["experiment.json"]


def test_champion_alone_is_an_experiment(tmp_path: Path) -> None:
    alone = load(write(tmp_path / "e.json", GOOD | {"variants": [CHAMPION | {"weight": 1}]}))
    assert alone.challenger is None
    assert (alone.state, alone.started) == ("running", None)


def test_a_test_has_any_number_of_challengers_in_order(tmp_path: Path) -> None:
    loaded = load(write(tmp_path / "e.json", GOOD | {"variants": [*reversed(THREE)]}))
    assert [each.name for each in loaded.variants] == ["champion", "challenger", "challenger-2"]
    assert loaded.variant("challenger-2").model_version == "immr-3"
    with pytest.raises(ExperimentError, match="has no variant 'challenger-3'"):
        loaded.variant("challenger-3")


def without(record: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key != name}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "is not JSON"),
        ("[]", "it: input should be an object, not []"),
        (without(GOOD, "salt"), "salt is missing"),
        (GOOD | {"salt": ""}, "needs a name and a salt"),
        (GOOD | {"holdout": {"share": 0.1, "salt": "s"}}, "holdout.since is missing"),
        (
            GOOD | {"holdout": {"share": "5 %", "salt": "s", "since": SINCE}},
            'share: input should be a valid number, not "5 %"',
        ),
        (GOOD | {"holdout": {"share": 5, "salt": "s", "since": SINCE}}, "give a share above 0 and below 1"),
        (
            GOOD | {"holdout": {"share": 0.1, "salt": "s", "since": "2023-01-01T00:00:00"}},
            "has no time zone",
        ),
        (
            GOOD | {"variants": [CHAMPION, CHALLENGER | {"name": "challenger-10"}]},
            "name it champion, challenger, or",
        ),
        (
            GOOD | {"variants": [CHAMPION, CHALLENGER | {"ended": 1}]},
            "variants.1.ended: input should be a valid boolean, not 1",
        ),
        (GOOD | {"variants": [CHAMPION | {"ended": True}, CHALLENGER]}, "have no champion"),
        (GOOD | {"kind": "interleave", "variants": THREE}, "2 challengers cannot be interleaved"),
        (GOOD | {"ramp": "fast"}, 'ramp: input should be a valid array, not "fast"'),
        (
            GOOD | {"ramp": [0.4], "ramp_every_s": 60},
            "the ramp is 50 %, 40 % for each challenger: give growing",
        ),
        (GOOD | {"ramp": [0.6]}, "the ramp's steps last None seconds"),
        (GOOD | {"salt": 123}, "salt: input should be a valid string, not 123"),
        (GOOD | {"name": ["test"]}, 'name: input should be a valid string, not ["test"]'),
        (GOOD | {"salt": "\ud800"}, "is not JSON"),
        (GOOD | {"\ud800": 1}, "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('{"name": ' + "[" * 900 + "]" * 900 + "}", "is not JSON"),
        (GOOD | {"state": ["running"]}, "state: input should be 'running', 'shadow' or 'stopped'"),
        (GOOD | {"kind": {}}, "kind: input should be 'ab' or 'interleave', not {}"),
        (GOOD | {"started": 0}, "started: input should be a valid datetime"),
        (GOOD | {"previous": "immr-0"}, 'previous: input should be an object, not "immr-0"'),
        (GOOD | {"planned_users": "many"}, 'planned_users: input should be a valid integer, not "many"'),
        (GOOD | {"planned_users": 0}, "give at least 1"),
        (GOOD | {"min_days": "a week"}, 'min_days: input should be a valid number, not "a week"'),
        (GOOD | {"min_days": -1}, "give at least 0, such as 7"),
        (GOOD | {"extra": 1}, "there is no field extra"),
        (GOOD | {"state": "paused"}, "state: input should be 'running', 'shadow' or 'stopped'"),
        (GOOD | {"started": "yesterday"}, "started: input should be a valid datetime"),
        (GOOD | {"started": "2024-05-01T12:00:00"}, "has no time zone"),
        (GOOD | {"stopped_at": "2024-05-01T12:00:00"}, "has no time zone"),
        (GOOD | {"variants": "champion"}, 'variants: input should be a valid array, not "champion"'),
        (GOOD | {"variants": ["champion"]}, "variants.0: input should be an object"),
        (GOOD | {"variants": []}, "have no champion"),
        (GOOD | {"variants": [CHALLENGER | {"weight": 1}]}, "have no champion"),
        (GOOD | {"variants": [CHAMPION, CHAMPION | {"model_version": "immr-9"}]}, "the same name"),
        (
            GOOD | {"variants": [CHAMPION, CHALLENGER | {"model_version": CHAMPION["model_version"]}]},
            "variants share a version",
        ),
        (GOOD | {"variants": [CHAMPION, CHALLENGER | {"weight": 0.6}]}, "sum to 1.1: make them sum to 1"),
        (GOOD | {"variants": [CHAMPION | {"weight": -1}, CHALLENGER]}, "between 0 and 1"),
        (GOOD | {"variants": [CHAMPION | {"weight": float("nan")}, CHALLENGER]}, "between 0 and 1"),
        (
            GOOD | {"variants": [CHAMPION | {"weight": "half"}, CHALLENGER]},
            'variants.0.weight: input should be a valid number, not "half"',
        ),
        (
            GOOD | {"variants": [CHAMPION | {"weight": True}, CHALLENGER]},
            "variants.0.weight: input should be a valid number, not true",
        ),
        (
            GOOD | {"variants": [CHAMPION, CHALLENGER | {"name": "b"}]},
            "named 'b': name it champion, challenger, or",
        ),
        (GOOD | {"variants": [CHAMPION | {"url": "file:///x"}, CHALLENGER]}, "give an address like"),
        (GOOD | {"variants": [CHAMPION | {"url": "http://"}, CHALLENGER]}, "give an address like"),
        (
            GOOD | {"variants": [CHAMPION | {"url": None}, CHALLENGER]},
            "variants.0.url: input should be a valid string, not null",
        ),
        (GOOD | {"variants": [CHAMPION | {"model_version": ""}, CHALLENGER]}, "no model_version"),
        (GOOD | {"variants": [without(CHAMPION, "url"), CHALLENGER]}, "variants.0.url is missing"),
    ],
)
def test_an_invalid_file_is_refused_and_named(tmp_path: Path, content: Any, sentence: str) -> None:
    path = write(tmp_path / "e.json", content)
    with pytest.raises(ExperimentError, match=r"e\.json") as caught:
        load(path)
    assert sentence in str(caught.value)


def test_bytes_that_are_not_text_are_refused(tmp_path: Path) -> None:
    (path := tmp_path / "e.json").write_bytes(b'{"name": "\xff"}')
    with pytest.raises(ExperimentError, match="is not JSON"):
        load(path)


def test_a_missing_file_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="deploy a version first"):
        load(tmp_path / "none.json")
    with pytest.raises(ExperimentError):
        WatchedFile(tmp_path / "none.json", load, "experiment")


def test_watcher_follows_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "e.json", GOOD)
    watcher = WatchedFile(path, load, "experiment")
    assert watcher.current() is watcher.current()
    save(Experiment("next", "s2", (Variant(**CHAMPION | {"weight": 1.0}),)), path)
    assert watcher.current().name == "next"


def test_watcher_sees_a_change_of_the_same_size_and_time(tmp_path: Path) -> None:
    path = write(tmp_path / "e.json", GOOD)
    before = path.stat()
    watcher = WatchedFile(path, load, "experiment")
    aside = write(tmp_path / "aside", GOOD | {"name": "tesT"})
    os.utime(aside, ns=(before.st_atime_ns, before.st_mtime_ns))
    aside.replace(path)
    assert watcher.current().name == "tesT"


def test_watcher_keeps_the_old_one_and_logs_why(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "e.json", GOOD)
    watcher = WatchedFile(path, load, "experiment")
    write(path, GOOD | {"variants": [CHAMPION]})
    with caplog.at_level(logging.ERROR):
        assert watcher.current().name == "test"
        watcher.current()
    assert len(caplog.records) == 1, "logged once, not at every request"
    assert "sum to 0.5" in caplog.text
    path.unlink()
    assert watcher.current().name == "test"
    write(path, GOOD | {"name": "mended"})
    assert watcher.current().name == "mended"


def test_watcher_records_an_unexpected_error(tmp_path: Path) -> None:
    def read(path: Path) -> int:
        return 1 // int(path.read_text())

    path = write(tmp_path / "number", "1")
    watcher = WatchedFile(path, read, "number")
    for wrong, why in (("0", "integer division"), ("many", "invalid literal"), ("x" * 10, "invalid literal")):
        write(path, wrong)
        assert watcher.current() == 1
        assert why in watcher.wrong
    write(path, "01")
    assert watcher.current() == 1 and watcher.wrong == ""


def test_the_previous_champion_is_kept_in_the_file(tmp_path: Path) -> None:
    previous = Variant("champion", "http://127.0.0.1:3003", "immr-0", 0.0)
    path = tmp_path / "experiment.json"
    alone = Variant("champion", "http://127.0.0.1:3001", "immr-1", 1.0)
    kept = Experiment("test", "salt", (alone,), previous=previous)
    save(kept, path)
    assert load(path) == kept
