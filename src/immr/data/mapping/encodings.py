"""The encoding of text that is not UTF-8, as its bytes suggest it."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable

_LATIN = "cp1252"
_WORD = re.compile(r"\w*[^\W\x00-\x7f]\w*")
_RUN = re.compile(r"[^\x00-\x7f]{2,}")
_MOST = 0.8  # of the characters beyond ASCII
_SHOWN_WORDS, _SHOWN_CHARS = 3, 40


def _is_kana(sign: str) -> bool:
    return "\u3040" <= sign <= "\u30ff"


def _has_lead(sign: str, encoding: str, first: int, last: int) -> bool:
    """Whether its first byte is one of an encoding's common characters."""
    return first <= next(iter(sign.encode(encoding, "ignore")), 0) <= last


_SCRIPTS: tuple[tuple[str, float, Callable[[str], bool]], ...] = (
    ("cp932", 0.1, _is_kana),
    ("euc_jp", 0.1, _is_kana),
    ("cp949", 0.95, lambda sign: "\uac00" <= sign <= "\ud7a3"),
    ("gb18030", _MOST, lambda sign: _has_lead(sign, "gb2312", 0xB0, 0xD7)),
    ("big5", _MOST, lambda sign: _has_lead(sign, "big5", 0xA4, 0xC6)),
    ("cp1251", _MOST, lambda sign: "\u0410" <= sign <= "\u044f"),
)
"""Encodings, and which share of the letters beyond ASCII the common ones of their script have. The first that fits is
taken: Korean text is also valid Chinese."""


def encoding_of(content: bytes) -> str:
    """The encoding of text: empty for UTF-8 and for marked UTF-16, else the likeliest.

    Japanese, Korean, Chinese and Cyrillic are recognized by their common letters; all other text is Windows-1252.
    """
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return ""
    cut = content[: content.rfind(b"\n") + 1] or content  # the last character may be cut off
    try:
        cut.decode("utf-8")
        return ""
    except UnicodeDecodeError:
        pass
    fitting = (name for name, enough, is_common in _SCRIPTS if _fits(cut, name, enough, is_common))
    return next(fitting, _LATIN)


def words_in(content: bytes, encoding: str) -> str:
    """The first words with a letter beyond ASCII, by which a reader can judge the encoding."""
    words = dict.fromkeys(_WORD.findall(content.decode(encoding, errors="replace")))
    return ", ".join([*words][:_SHOWN_WORDS])[:_SHOWN_CHARS]


def _fits(content: bytes, encoding: str, enough: float, is_common: Callable[[str], bool]) -> bool:
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(content)
    except UnicodeDecodeError:
        return False
    letters = [sign for sign in text if sign > "\x7f" and sign.isalnum()]
    together = sum(sign.isalnum() for run in _RUN.findall(text) for sign in run)  # unlike those of "Käse"
    return together >= _MOST * len(letters) > 0 and sum(map(is_common, letters)) >= enough * len(letters)
