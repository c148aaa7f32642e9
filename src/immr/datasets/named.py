"""Named data sets, loaded by name: fetched, rendered or read from a mirror."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from immr.datasets.labelled_set import LabelledSet
from immr.errors import DatasetError


def load_dataset(name: str, mirror: Path | None, cache_dir: Path) -> LabelledSet:
    """A data set by its name, fetched or rendered once.

    Args:
        name: `grocery` or `synthetic`.
        mirror: a folder that may hold data sets by name (`<mirror>/grocery`); looked at before the network.
        cache_dir: where fetched and rendered sets are kept.

    Raises:
        DatasetError: unknown name; or the set cannot be fetched, or is not what it should be.
    """
    if name not in _LOADERS:
        raise DatasetError(f"there is no data set {name!r}; take one of: {', '.join(sorted(_LOADERS))}")
    return _LOADERS[name](mirror, cache_dir)


def _grocery(mirror: Path | None, cache_dir: Path) -> LabelledSet:
    from immr.datasets import grocery

    if mirror and (mirror / "grocery").is_dir():
        return grocery.load(mirror / "grocery")
    return grocery.load(grocery.fetch(cache_dir))


def _synthetic(mirror: Path | None, cache_dir: Path) -> LabelledSet:
    from immr.datasets import synthetic

    return synthetic.load(synthetic.SyntheticRecipe(), cache_dir)


_LOADERS: dict[str, Callable[[Path | None, Path], LabelledSet]] = {
    "grocery": _grocery,
    "synthetic": _synthetic,
}
