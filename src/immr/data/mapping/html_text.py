"""Text as a reader sees it, from the HTML of a shop's descriptions."""

from __future__ import annotations

import html
import re

import pyarrow as pa

# a tag begins with a letter, so that "a < b" stays
_UNSEEN = r"<!--.*?-->|<(script|style)\b.*?</\1\s*>"
_TAG = r"</?[A-Za-z][^<>]*>"
HTML = rf"{_TAG}|&([A-Za-z]+|#\d+|#[xX][0-9a-fA-F]+);"
"""Matches text that may be HTML, as a regular expression of RE2."""
_TAGS = re.compile(rf"{_UNSEEN}|{_TAG}", re.DOTALL | re.IGNORECASE)


def read_html(values: pa.Array) -> pa.Array:
    """Texts without tags, comments, scripts and styles, with `&amp;` as `&`, and with single spaces."""

    def seen(text: str) -> str:
        return " ".join(html.unescape(_TAGS.sub(" ", text)).split())

    texts = values.cast(pa.string()).to_pylist()
    return pa.array([None if text is None else seen(text) for text in texts], pa.string())
