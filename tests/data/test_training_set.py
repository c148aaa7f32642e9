from pathlib import Path

import pytest

from immr.data.training_set import TrainingSet
from immr.errors import ContractError


def test_it_reads_what_governance_writes(training_set: TrainingSet) -> None:
    assert training_set.hash == "tiny"
    assert len(training_set.item_classes) == len(training_set.items)
    assert training_set.class_count == max(training_set.item_classes) + 1
    assert {photo.class_id for photo in training_set.queries} <= set(range(training_set.class_count))
    assert all(photo.item_id for photo in training_set.judgements)


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"is not a training set.*run `immr govern` first"):
        TrainingSet(tmp_path)
