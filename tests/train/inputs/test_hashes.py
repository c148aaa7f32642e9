from dataclasses import dataclass

import pytest

from immr.errors import DataError
from immr.model.features.image_features import image_hashes
from immr.train.inputs.hashes import shared_hashes
from immr.train.world import World


@dataclass(frozen=True)
class BesideAnother(World):
    """One of two ranks, which hears of the other what this has read."""

    read: tuple[tuple[str, str], ...] = ()

    def gather(self, value):
        return [value, dict(self.read)]


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / f"{number}.jpg" for number in range(5)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes(number))
    return [str(path) for path in paths]


def test_each_rank_reads_its_share(files, tmp_path, monkeypatch):
    expected = image_hashes(files)
    others = tuple((uri, expected[uri]) for uri in sorted(files)[1::2])
    for uri, _ in others:
        (tmp_path / uri).unlink()
    assert shared_hashes(files, BesideAnother(0, 2, read=others)) == expected


def test_pictures_with_known_hashes_are_not_read(files, tmp_path):
    expected = image_hashes(files)
    known = {uri: expected[uri] for uri in files[:3]} | {"elsewhere": "0" * 64}
    for uri in files[:3]:
        (tmp_path / uri).unlink()
    assert shared_hashes(files[1:], World(), files[:1], known) == expected


def test_pictures_that_must_be_there_are_reported_and_others_left_out(files, tmp_path):
    gone = str(tmp_path / "gone.jpg")
    assert shared_hashes(files, World(), ["", gone]) == image_hashes(files)
    with pytest.raises(DataError, match=r"gone\.jpg"):
        shared_hashes([*files, gone], World())
