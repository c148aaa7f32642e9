from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from immr.data.pictures.remote.downloads import Downloads
from immr.errors import RankingError
from immr.model.query_encoder import OnnxQueryEncoder
from immr.ranking.photo_embeddings import with_photos
from tests.support import ranking_log, tiny_version


def test_queries_whose_photo_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    encoder = OnnxQueryEncoder(tiny_version.write_files(tmp_path / "version"))
    ranking_log.write(tmp_path, queries=4)
    log = ranking_log.read(tmp_path)
    photos = [str(tmp_path / f"{colour}.jpg") for colour in ("red", "blue", "none", "red")]
    for colour in ("red", "blue"):
        (tmp_path / f"{colour}.jpg").write_bytes(tiny_version.photo(colour))
    log = replace(log, photo_Q=photos)
    kept, embeddings_QD = with_photos(log, encoder, Downloads(tmp_path / "pictures"))
    assert kept.photo_Q == [photos[0], photos[1], photos[3]]
    assert len(kept.query_R) == 18
    assert np.array_equal(embeddings_QD[0], embeddings_QD[2])
    assert not np.array_equal(embeddings_QD[0], embeddings_QD[1])


def test_a_log_without_any_readable_photo_is_refused(tmp_path: Path) -> None:
    encoder = OnnxQueryEncoder(tiny_version.write_files(tmp_path / "version"))
    ranking_log.write(tmp_path, queries=4)
    with pytest.raises(RankingError, match="names 4 photos, but none can be read"):
        with_photos(ranking_log.read(tmp_path), encoder, Downloads(tmp_path / "pictures"))
