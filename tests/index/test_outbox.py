"""Changes keep their order across processes and crashes, and update a catalogue."""

import dataclasses
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from immr.index.outbox import Delivered, Outbox, with_changes
from immr.types import Item

NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)

WRITER = """
import sys
from pathlib import Path
from immr.index.outbox import Outbox
box = Outbox(Path(sys.argv[1]))
number = 0
while True:
    number += 1
    box.append([], [f"{sys.argv[2]}-{number}"])
    print(number, flush=True)
"""


def item(item_id, title="a title", when=NOON):
    return Item(item_id, title, "text", "Fruit/Apple", "a.jpg", 1.5, when)


@pytest.fixture
def box(tmp_path):
    return Outbox(tmp_path / "deep" / "outbox.db")


def test_an_unused_outbox_is_empty_and_creates_no_file(box, tmp_path):
    assert (box.latest(), box.between(0, 10), box.delivered("immr-1")) == (0, [], Delivered("", 0))
    assert not list(tmp_path.iterdir())


def test_between_returns_the_last_change_of_each_item_in_order(box):
    assert box.append([item("a"), item("b")], ["c"]) == 3
    assert box.append([item("a", "another")], []) == 4
    found = [(change.sequence, change.item_id, change.item) for change in box.between(0, 4)]
    assert found == [(2, "b", item("b")), (3, "c", None), (4, "a", item("a", "another"))]
    assert [change.sequence for change in box.between(3, 4)] == [4]
    assert [change.sequence for change in box.between(0, 3)] == [2, 3]  # the first change of a was replaced


def test_each_version_has_its_own_progress(box):
    box.append([item("a")], [])
    box.note_delivered("immr-1", Delivered("a content", 1))
    assert box.delivered("immr-1") == Delivered("a content", 1)
    assert box.delivered("immr-2") == Delivered("", 0)
    box.note_delivered("immr-1", Delivered("a rebuilt content", 0))
    assert box.delivered("immr-1") == Delivered("a rebuilt content", 0)


def test_acknowledged_changes_of_two_writers_survive_sigkill(box, tmp_path):
    box.append([], ["first"])
    command = [sys.executable, "-c", WRITER, str(tmp_path / "deep" / "outbox.db")]
    writers = [subprocess.Popen([*command, name], stdout=subprocess.PIPE, text=True) for name in "xy"]
    acknowledged = {}
    for name, writer in zip("xy", writers, strict=True):
        with writer:
            acknowledged[name] = [int(writer.stdout.readline()) for _ in range(5)][-1]
            writer.send_signal(signal.SIGKILL)
            acknowledged[name] = int((writer.stdout.read().split() or [acknowledged[name]])[-1])
    kept = {change.item_id for change in box.between(0, box.latest())}
    assert {f"{name}-{n}" for name in "xy" for n in range(1, acknowledged[name] + 1)} <= kept


def test_changes_update_a_catalogue_except_newer_items(box):
    later = datetime.now(UTC) + timedelta(days=1)
    catalogue = [item("same"), item("old"), item("gone"), item("back", when=later), item("newer", when=later)]
    box.append([item("old", "changed", NOON + timedelta(hours=1)), item("new")], ["gone", "back", "unknown"])
    box.append([item("newer", "stale")], [])
    titles = {each.item_id: each.title for each in with_changes(catalogue, box.between(0, box.latest()))}
    same = dict.fromkeys(("same", "back", "newer", "new"), "a title")
    assert titles == same | {"old": "changed"}


def test_an_item_keeps_every_field(box):
    given = dataclasses.replace(item("ü/ß"), price=0.1 + 0.2, title="'; --")
    box.append([given], [])
    assert box.between(0, 1)[0].item == given


def test_further_pictures_come_back(box):
    box.append([dataclasses.replace(item("a"), images=("b.jpg", "c.jpg")), item("b")], [])
    assert [change.item.images for change in box.between(0, 10)] == [("b.jpg", "c.jpg"), ()]
