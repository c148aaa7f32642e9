"""Data sets by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from immr.datasets.labelled_set import LabelledSet
from immr.errors import DatasetError


def load_dataset(name: str, mirror: Path | None, cache_dir: Path) -> LabelledSet:
    """Load a data set; it is downloaded, unpacked or rendered on first use.

    Args:
        name: `grocery`, `icons` or `synthetic`.
        mirror: a folder with data sets by name (`<mirror>/grocery`), searched before the network.
        cache_dir: where downloaded, unpacked and rendered data are kept.

    Raises:
        DatasetError: the name is unknown, or the data set is unavailable or incomplete.
    """
    if name not in _LOADERS:
        raise DatasetError(f"unknown data set {name!r}: choose one of {', '.join(sorted(_LOADERS))}")
    return _LOADERS[name](mirror, cache_dir)


def _grocery(mirror: Path | None, cache_dir: Path) -> LabelledSet:
    from immr.datasets import grocery

    if mirror and (mirror / "grocery").is_dir():
        return grocery.load(mirror / "grocery")
    return grocery.load(grocery.fetch(cache_dir))


def _icons(mirror: Path | None, cache_dir: Path) -> LabelledSet:
    from immr.datasets import icons

    if mirror is None:
        raise DatasetError(
            "the data set icons cannot be downloaded: set IMMR_DATA_MIRROR to the folder that contains icons/"
        )
    return icons.load(mirror / "icons", cache_dir)


def _synthetic(mirror: Path | None, cache_dir: Path) -> LabelledSet:
    from immr.datasets import synthetic

    return synthetic.load(synthetic.SyntheticRecipe(), cache_dir)


_LOADERS: dict[str, Callable[[Path | None, Path], LabelledSet]] = {
    "grocery": _grocery,
    "icons": _icons,
    "synthetic": _synthetic,
}
DATASETS = tuple(_LOADERS)
"""Names that `load_dataset` knows."""
