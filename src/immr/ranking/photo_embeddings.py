"""Embeds each photo of a click log once, as a Bento does."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from immr.data.pictures import picture_files
from immr.data.pictures.remote.downloads import Downloads, is_fetched
from immr.errors import DataError, RankingError
from immr.machine import cores
from immr.machine.progress_bar import ProgressBar
from immr.machine.wording import counted
from immr.model.query_encoder import OnnxQueryEncoder
from immr.ranking.click_log import ClickLog
from immr.types import FloatArray

log = logging.getLogger(__name__)


def with_photos(
    clicks: ClickLog, encoder: OnnxQueryEncoder, downloads: Downloads
) -> tuple[ClickLog, FloatArray]:
    """The queries whose photo can be read, and their embeddings.

    Args:
        clicks: the log.
        encoder: of the version.
        downloads: fetches photos behind http(s) URLs.

    Returns:
        The log without the other queries, and (Q, D) unit rows.

    Raises:
        RankingError: no photo can be read.
    """
    photos, photo_Q = np.unique(np.array(clicks.photo_Q), return_inverse=True)
    row_of = _embedded(photos.tolist(), encoder, downloads)
    if not row_of:
        raise RankingError(
            f"the click log names {counted(len(photos), 'photo')}, but none can be read: check the column image "
            "of queries"
        )
    readable_Q = np.array([str(photo) in row_of for photo in photos])[photo_Q]
    if not readable_Q.all():
        log.warning(
            "rank: leaving out %s whose photo cannot be read", counted(int((~readable_Q).sum()), "query")
        )
    kept = clicks.only(readable_Q)
    return kept, np.stack([row_of[photo] for photo in kept.photo_Q])


def _embedded(
    photos: Sequence[str], encoder: OnnxQueryEncoder, downloads: Downloads
) -> Mapping[str, FloatArray]:
    """(D,) of each photo that can be read."""
    fetched = downloads.fetch(filter(is_fetched, photos))

    def embed(photo: str) -> FloatArray | None:
        place = fetched[photo].path if photo in fetched else photo
        if place is None:
            return None
        try:
            picture = picture_files.load(str(place), encoder.card.preprocessing.enough_px)
        except DataError:
            return None
        row_D: FloatArray = encoder.encode([picture])[0]
        return row_D

    found: dict[str, FloatArray] = {}
    with (
        ThreadPoolExecutor(cores.usable()) as pool,
        ProgressBar("encoding", len(photos), "photos") as progress,
    ):
        for photo, row_D in zip(photos, pool.map(embed, photos), strict=True):
            if row_D is not None:
                found[photo] = row_D
            progress.advance()
    return found
