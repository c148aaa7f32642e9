"""Words of items and queries as sparse vectors, whose product is BM25 once the engine multiplies by IDF.

Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009). Terms are numbered by a
hash, so that no dictionary has to be kept with a collection.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from immr.data.attributes import CLASS

WORDS = "words"
"""The name of the sparse vector in a collection."""

_SATURATION = 1.2  # k₁
_LENGTH_SHARE = 0.75  # b
_MEAN_TERMS = 12.0  # a constant, so that an item's vector does not depend on the others
_TITLE_COUNTS = 2  # a term of the title counts as if it occurred that often (ours)
_WORD = re.compile(r"\w+")
_ACCENT = re.compile("[\u0300-\u036f]")  # not the marks of kana, which make other letters
# scripts without spaces between words: kana, Han, Hangul, Thai
_UNSPACED = re.compile("[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]+")


@dataclass(frozen=True, slots=True)
class Terms:
    """A sparse vector: distinct term numbers, ascending, and a weight for each."""

    numbers: tuple[int, ...]
    weights: tuple[float, ...]


def of_payload(payload: Mapping[str, Any]) -> Terms:
    """BM25's term weights of an item without IDF: its title, category and keyword attributes."""
    attributes = payload.get("attributes", {}).items()
    keywords = [value for name, value in attributes if isinstance(value, str) and name != CLASS]
    listed = [each for _, value in attributes if isinstance(value, list) for each in value]
    texts = [*[payload["title"]] * _TITLE_COUNTS, payload["category"], *keywords, *listed]
    counts = Counter(number for text in texts for number in map(_number, terms(text)))
    norm = _SATURATION * (1 - _LENGTH_SHARE + _LENGTH_SHARE * counts.total() / _MEAN_TERMS)
    weights = {number: count * (_SATURATION + 1) / (count + norm) for number, count in counts.items()}
    return _sorted(weights)


def of_query(text: str) -> Terms:
    """Each term of a query once, with weight 1; no terms if the text has no word."""
    return _sorted(dict.fromkeys(map(_number, terms(text)), 1.0))


def terms(text: str) -> Iterator[str]:
    """Words without case and accents; pairs of characters where a script has no spaces."""
    folded = unicodedata.normalize("NFKD", text.casefold())
    plain = _ACCENT.sub("", folded)
    for match in _WORD.finditer(unicodedata.normalize("NFKC", plain)):
        word, start = match[0], 0
        for unspaced in _UNSPACED.finditer(word):
            if word[start : unspaced.start()]:
                yield word[start : unspaced.start()]
            run, start = unspaced[0], unspaced.end()
            yield from (run[at : at + 2] for at in range(max(1, len(run) - 1)))
        if word[start:]:
            yield word[start:]


def _number(term: str) -> int:
    return int.from_bytes(hashlib.blake2b(term.encode("utf-8", "surrogatepass"), digest_size=4).digest())


def _sorted(weights: dict[int, float]) -> Terms:
    numbers = tuple(sorted(weights))
    return Terms(numbers, tuple(weights[number] for number in numbers))
