import numpy as np
import pytest

from immr.model.features.memory_mapped import filled


def ones(array):
    array[...] = 1


def test_a_file_is_written_once_and_mapped(tmp_path):
    file = tmp_path / "folder" / "ones.npy"
    assert filled((2, 3), ones, file).sum() == 6
    again = filled((2, 3), lambda array: pytest.fail("it was filled again"), file)
    assert isinstance(again, np.memmap) and again.sum() == 6
    assert [path.name for path in file.parent.iterdir()] == ["ones.npy"]


def test_without_a_file_or_without_rows_it_is_in_memory(tmp_path):
    assert not isinstance(filled((2, 3), ones), np.memmap)
    assert filled((0, 3), ones, tmp_path / "none.npy").shape == (0, 3)
    assert not (tmp_path / "none.npy").exists()


def test_a_fill_that_fails_leaves_no_file(tmp_path):
    def broken(array):
        raise ValueError("no features")

    with pytest.raises(ValueError, match="no features"):
        filled((1, 1), broken, tmp_path / "a.npy")
    assert not (tmp_path / "a.npy").exists()
