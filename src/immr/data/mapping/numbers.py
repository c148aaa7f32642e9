"""Numbers as shops write them: `1.299,00 €`, `CHF 1'299.–`, `¥1,980`."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from immr.data.column_types import UNREADABLE

_SPACES = r"\s\x{00a0}\x{2009}\x{202f}"
_THOUSANDS = {",": rf"[.'’{_SPACES}]", ".": rf"[,'’{_SPACES}]"}
_CURRENCY = rf"[\p{{Sc}}\p{{L}}.{_SPACES}]*"


def number_pattern(decimal: str) -> str:
    """The numbers with this decimal mark, as a regular expression of RE2; group `number` is without currency.

    A separator of thousands must have three digits behind it: `12.50` is not a number with a decimal comma. In India,
    those before it have two: `1,29,999.00`.
    """
    mark = "," if decimal == "," else r"\."
    apart = _THOUSANDS[decimal]
    whole = rf"(?:\d{{1,3}}(?:{apart}\d{{3}})+|\d{{1,2}}(?:{apart}\d{{2}})+{apart}\d{{3}}|\d+)"
    return rf"^{_CURRENCY}?(?P<number>[+−-]?{whole}(?:{mark}\d+)?)(?:{mark}[-–—]+)?{_CURRENCY}$"


def read_numbers(values: pa.Array, decimal: str, times: float = 1.0, plus: float = 0.0) -> pa.Array:
    """Numbers, multiplied by `times`, and `plus` added.

    Args:
        values: numbers, or text with currency signs and separators of thousands.
        decimal: the decimal mark of text.
        times: 0.01 if the column counts cents.
        plus: 1 if positions count from 0.

    Returns:
        The values as text, with their digits as written if nothing changes them; `UNREADABLE` for text that is not
        a number.
    """
    unchanged = (times, plus) == (1.0, 0.0)
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        return values if unchanged else _changed(pc.cast(values, pa.float64(), safe=False), times, plus)
    texts = pc.utf8_trim_whitespace(values)
    numbers = pc.struct_field(pc.extract_regex(texts, number_pattern(decimal)), "number")
    plain = pc.replace_substring(numbers, "−", "-")
    plain = pc.replace_substring_regex(plain, _THOUSANDS[decimal], "")
    plain = pc.replace_substring(plain, ",", ".") if decimal == "," else plain
    if not unchanged:
        plain = _changed(plain.cast(pa.float64()), times, plus).cast(pa.string())
    found = pc.fill_null(plain, UNREADABLE)
    is_empty = pc.equal(texts, "")
    return pc.if_else(pc.is_valid(texts), pc.if_else(is_empty, "", found), None)


def _changed(numbers: pa.Array, times: float, plus: float) -> pa.Array:
    return pc.add(pc.multiply(numbers, times), plus)
