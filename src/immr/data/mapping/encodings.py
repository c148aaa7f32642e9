"""The encoding of text that is not UTF-8, guessed from its bytes.

charset-normalizer 3.5, limited by `cp_isolation` to the same encodings, misreads 7 of the 20 texts in our tests.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable

_LATIN, _CENTRAL = "cp1252", "cp1250"
_WORD = re.compile(r"\w*[^\W\x00-\x7f]\w*")
_SIGN_IN_WORD = re.compile(
    r"[^\W\d_][\u00b9\u00b3\u00bf\u00a3\u00a5][^\W\d_]"
)  # Polish letters, as signs of Windows-1252
_RUN = re.compile(r"[^\x00-\x7f]{2,}")
_MOST = 0.8  # of the characters beyond ASCII
_SHOWN_WORDS, _SHOWN_CHARS = 3, 40


def _is_kana(char: str) -> bool:
    return "\u3040" <= char <= "\u30ff"


def _has_lead(char: str, encoding: str, first: int, last: int) -> bool:
    """Whether the first byte of a character is in the range of the encoding's common ones."""
    return first <= next(iter(char.encode(encoding, "ignore")), 0) <= last


_SCRIPTS: tuple[tuple[str, float, Callable[[str], bool]], ...] = (
    ("cp932", 0.1, _is_kana),
    ("euc_jp", 0.1, _is_kana),
    ("cp949", 0.95, lambda char: "\uac00" <= char <= "\ud7a3"),
    ("gb18030", _MOST, lambda char: _has_lead(char, "gb2312", 0xB0, 0xD7)),
    ("big5", _MOST, lambda char: _has_lead(char, "big5", 0xA4, 0xC6)),
    ("cp1251", _MOST, lambda char: "\u0410" <= char <= "\u044f"),
)
"""Each encoding, the share of its non-ASCII letters that must be common in its script, and which those are.

The first that fits is taken. The order matters: Korean text is also valid Chinese."""


def encoding_of(content: bytes) -> str:
    """The encoding of text: empty for UTF-8 and for marked UTF-16, else the likeliest.

    Japanese, Korean, Chinese and Cyrillic are recognized by their common letters. All other text is Windows-1252,
    unless it has a letter that only the encoding of Central Europe has.
    """
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return ""
    cut = content[: content.rfind(b"\n") + 1] or content  # the last character may be cut off
    if _decodes(cut, "utf-8"):
        return ""
    fitting = (name for name, enough, is_common in _SCRIPTS if _fits(cut, name, enough, is_common))
    return next(fitting, _CENTRAL if _is_central(cut) else _LATIN)


def words_in(content: bytes, encoding: str) -> str:
    """The first words with a letter beyond ASCII, by which a reader can judge the encoding."""
    words = dict.fromkeys(_WORD.findall(content.decode(encoding, errors="replace")))
    return ", ".join([*words][:_SHOWN_WORDS])[:_SHOWN_CHARS]


def _is_central(content: bytes) -> bool:
    """Whether text that is Windows-1250 or -1252 cannot be, or makes no words, in the latter."""
    try:
        return _SIGN_IN_WORD.search(content.decode(_LATIN)) is not None
    except UnicodeDecodeError:
        return _decodes(content, _CENTRAL)


def _decodes(content: bytes, encoding: str) -> bool:
    try:
        content.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _fits(content: bytes, encoding: str, enough: float, is_common: Callable[[str], bool]) -> bool:
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(content)
    except UnicodeDecodeError:
        return False
    letters = [char for char in text if char > "\x7f" and char.isalnum()]
    together = sum(char.isalnum() for run in _RUN.findall(text) for char in run)  # unlike the ä of "Käse"
    return together >= _MOST * len(letters) > 0 and sum(map(is_common, letters)) >= enough * len(letters)
