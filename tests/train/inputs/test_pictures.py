import numpy as np
import pytest
import torch

from immr.train.inputs.batches import Rows
from immr.train.inputs.pictures import Pictures


def _rows(photos, documents):
    views = torch.zeros(0, dtype=torch.long)
    return Rows(torch.tensor(photos), views, torch.tensor(documents), views)


def test_photos_come_before_documents_some_of_which_have_no_picture():
    pictures = [np.full((2, 2, 3), number, dtype=np.uint8) for number in range(5)]
    found = Pictures.listed(pictures[:3], [None, pictures[3], None, pictures[4]]).of(
        _rows([2, 0, 2], [3, 0, 1])
    )
    assert [None if each is None else int(each[0, 0, 0]) for each in found] == [2, 0, 2, 4, None, 3]


def test_a_row_that_does_not_exist_is_an_error():
    with pytest.raises(IndexError):
        Pictures.listed([], []).of(_rows([0], [0]))
