"""Months by name, in the languages of shops: `14. März 2025`, `14 mars 2025`, `Mar. 14, 2025`."""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.compute as pc

_MONTHS = (  # English, German, French, Spanish, Italian, Portuguese, Dutch, Scandinavian, Polish
    "january jan januar jänner janvier janv enero ene gennaio gen janeiro januari stycznia sty",
    "february feb februar feber février févr fév febrero febbraio fevereiro fev februari lutego lut",
    "march mar märz mär mrz mars marzo março maart mrt marts marca",
    "april apr avril avr abril abr aprile kwietnia kwi",
    "may mai mayo maggio mag maio mei maj maja",
    "june jun juni juin junio giugno giu junho czerwca cze",
    "july jul juli juillet juil julio luglio lug julho lipca lip",
    "august aug août agosto ago augustus augusti sierpnia sie",
    "september sep sept septembre septiembre settembre set setembro września wrz",
    "october oct oktober okt octobre octubre ottobre ott outubro out października paź",
    "november nov novembre noviembre novembro listopada lis",
    "december dec dezember dez décembre déc diciembre dic dicembre dezembro desember des grudnia gru",
)
_DIRECTIVE = re.compile(r"%[bB]\.?")


def with_month_numbers(texts: pa.Array, pattern: str) -> tuple[pa.Array, str]:
    """Texts and their pattern with numbers for names of months; unchanged if the pattern has no `%b` or `%B`.

    A name may be shortened, and may end in a point.
    """
    if not _DIRECTIVE.search(pattern):
        return texts, pattern
    for number, names in enumerate(_MONTHS, 1):
        longest_first = "|".join(sorted(names.split(), key=len, reverse=True))
        texts = pc.replace_substring_regex(
            texts, rf"(?i)(^|[^\pL])(?:{longest_first})\.?($|[^\pL])", rf"\1{number:02}\2"
        )
    return texts, _DIRECTIVE.sub("%m", pattern)
