"""Relocation: finds the fetched pictures of a home that was moved or copied, whose tables name the first home."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from immr.types import Item

FETCHED = re.compile(r"(.+)/[0-9a-f]{2}/[0-9a-f]{64}")
"""The path of a fetched picture; its group is the folder of all of them."""


def kept_here(image: str, folder: Path) -> str:
    """The path of a fetched picture in this folder of fetched pictures, if it has it; else the path as it is.

    Fetched pictures are named by their content, so one with the same name is the same picture.
    """
    match = FETCHED.fullmatch(image)
    if match is None or match[1] == str(folder):
        return image
    here = folder.joinpath(*Path(image).parts[-2:])
    return str(here) if here.is_file() else image


def item_kept_here(item: Item, folder: Path) -> Item:
    """The item with its pictures in this folder, where it has them."""
    images = tuple(kept_here(image, folder) for image in item.images)
    return replace(item, image=kept_here(item.image, folder), images=images)
