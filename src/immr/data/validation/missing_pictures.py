"""Where pictures may be whose files are not where the table says, and the mapping that finds them there."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from urllib.parse import unquote

from immr.data.pictures.picture_files import is_file, placed
from immr.data.sources.files import why_no_table

_LOOKED_FOR = 20  # of the missing pictures
_MOST_FILES = 200_000  # looked at below the tables' folder
_PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")
_PACKED = (".zip", ".7z", ".rar", ".tar", ".tgz", ".tar.gz")


@dataclass(frozen=True)
class _Way:
    """A change of a picture's path: as a function, and as a rule of a mapping."""

    what: str
    changed: Callable[[str], str]
    sql: str = ""  # with {column}, in quotes
    prefix: str = ""

    def rule(self, column: str) -> str:
        quoted = '"' + column.replace('"', '""') + '"'
        by_sql = f"sql = '''{self.sql.replace('{column}', quoted)}'''"
        value = by_sql if self.sql else f"column = {json.dumps(column, ensure_ascii=False)}"
        return f'image = {{ {value}, prefix = "{self.prefix}" }}' if self.prefix else f"image = {{ {value} }}"


_SPELLINGS = (
    _Way("to read its \\ as /", lambda path: path.replace("\\", "/"), "replace({column}, chr(92), '/')"),
    _Way("to read its %20 as a space", unquote, "url_decode({column})"),
    _Way("to start at the folder of the tables", lambda path: path.lstrip("/"), "ltrim({column}, '/')"),
)


def remedy(lost: Sequence[str], folder: str, column: str) -> str:
    """What finds most of these pictures, as the end of a sentence; empty if nothing is known to.

    Args:
        lost: paths of files that do not exist, absolute.
        folder: where relative paths start; only one on this machine is looked into.
        column: the shop's, which has the paths.
    """
    if lost[0].startswith("//"):
        return f'; to read // as https://, map image = {{ column = "{column}", prefix = "https:" }}'
    paths = [path.removeprefix(f"{folder.rstrip('/')}/") for path in lost[:_LOOKED_FOR]]
    for way in (*_SPELLINGS, *_elsewhere(paths, folder)):
        found = sum(is_file(placed(f"{way.prefix}{way.changed(path)}", folder)) for path in paths)
        if 2 * found > len(paths):
            return f"; {way.what}, map {way.rule(column)}"
    if "\\" in paths[0]:
        return f"; {_SPELLINGS[0].what}, map {_SPELLINGS[0].rule(column)}"
    packed = sorted(name for name in _names(folder) if name.lower().endswith(_PACKED))
    return f"; {packed[0]} {why_no_table(packed[0])}" if packed else ""


def _elsewhere(paths: Sequence[str], folder: str) -> Iterator[_Way]:
    """Ways to where files of the same names are, or of names with another ending."""
    wanted = [_name(path) for path in paths]
    stems = {Path(name).stem for name in wanted}
    seen: dict[str, tuple[str, str]] = {}  # by the name without its ending: folder and name
    for place, name in islice(_files(folder), _MOST_FILES):
        stem = Path(name).stem
        if stem in stems and (stem not in seen or name in wanted):
            seen[stem] = place, name
    for name in wanted:
        if not (there := seen.get(Path(name).stem)):
            continue
        place, real = there
        prefix = f"{place}/" if place else ""
        sql = "" if name in paths else "regexp_extract({column}, '[^/\\\\]+$')"
        if "%" in paths[wanted.index(name)]:
            sql = sql.replace("{column}", "url_decode({column})") or "url_decode({column})"
        if real == name:
            yield _Way(f"to find them in {place or 'that folder'}/", _name, sql, prefix)
            continue
        old, new = Path(name).suffix, Path(real).suffix
        if not old or not real.lower().endswith(_PICTURES):
            continue
        ending = f"regexp_replace({sql or '{column}'}, '\\{old}$', '{new}')"
        yield _Way(f"to read their {old} as {new}", _with_suffix(old, new), ending, prefix)


def _with_suffix(old: str, new: str) -> Callable[[str], str]:
    return lambda path: _name(path).removesuffix(old) + new


def _name(path: str) -> str:
    return re.split(r"[/\\]", unquote(path))[-1]


def _files(folder: str) -> Iterator[tuple[str, str]]:
    """Folder, relative, and name of each file below a folder of this machine."""
    for place, folders, names in os.walk(folder):
        folders.sort()
        relative = Path(place).relative_to(folder).as_posix()
        yield from (("" if relative == "." else relative, name) for name in names)


def _names(folder: str) -> list[str]:
    return [path.name for path in Path(folder).iterdir()] if Path(folder).is_dir() else []
