from pathlib import Path

import numpy as np

from immr.index.change_journal import ChangeJournal, PointChange
from immr.index.documents import point_id

MILK, TEA = point_id("milk"), point_id("tea")


def test_changes_are_read_back_complete_and_in_order(tmp_path: Path) -> None:
    journal = ChangeJournal(tmp_path / "collection" / "changes.db")
    assert journal.after(0, 10) == []
    put = PointChange(2, TEA, {"title": "Tea"}, np.array([0.6, 0.8], np.float32))
    journal.append([put, PointChange(1, MILK)])
    deleted, found = ChangeJournal(tmp_path / "collection" / "changes.db").after(0, 10)
    assert (deleted.point, deleted.payload, deleted.embeddings) == (MILK, None, None)
    assert (found.sequence, found.payload) == (2, {"title": "Tea"})
    assert found.embeddings is not None and found.embeddings.tolist() == put.embeddings.tolist()  # type: ignore[union-attr]
    assert [change.sequence for change in journal.after(1, 10)] == [2]
    assert [change.sequence for change in journal.after(0, 1)] == [1]


def test_a_sequence_that_exists_is_left_unchanged(tmp_path: Path) -> None:
    journal = ChangeJournal(tmp_path / "changes.db")
    journal.append([PointChange(1, MILK)])
    journal.append([PointChange(1, TEA), PointChange(2, TEA)])
    assert [change.point for change in journal.after(0, 10)] == [MILK, TEA]


def test_forgotten_changes_are_deleted(tmp_path: Path) -> None:
    journal = ChangeJournal(tmp_path / "changes.db")
    journal.forget(5)  # no file yet
    journal.append([PointChange(sequence, point_id(str(sequence))) for sequence in (1, 2, 3)])
    journal.forget(2)
    assert [change.sequence for change in journal.after(0, 10)] == [3]


def test_only_the_last_change_of_each_point_is_kept(tmp_path: Path) -> None:
    """The journal of a version that no process opened grew with every change."""
    journal = ChangeJournal(tmp_path / "changes.db")
    for sequence in range(1, 100, 2):
        journal.append([PointChange(sequence, MILK), PointChange(sequence + 1, TEA)])
    assert [(change.sequence, change.point) for change in journal.after(0, 10)] == [(99, MILK), (100, TEA)]
    journal.append([PointChange(3, MILK)])  # delivered again, after a crash
    assert [change.sequence for change in journal.after(0, 10)] == [99, 100]
    journal.append([PointChange(99, TEA)])  # not stored, so it replaces nothing
    assert journal.last() == 100
