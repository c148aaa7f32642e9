"""A path or URL as a file system and a path in it: local, `s3://`, `gs://`, `https://`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.fs as fs

from immr.errors import ContractError
from immr.settings import reason_without_credentials, without_credentials

_UNANSWERED = re.compile(r"NETWORK_CONNECTION|HTTP status 5\d\d")
_DENIED = re.compile("ACCESS_DENIED|EXPIRED|INVALID_CLIENT_TOKEN|HTTP status 40[03]")
_HINTS = {
    "s3": "set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and, outside AWS, AWS_ENDPOINT_URL",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS",
    "http": "check the address",
    "https": "check the address",
}
_GCS_RETRIES = timedelta(seconds=60)  # the default is a quarter of an hour
_WILDCARDS = "*?["
_NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class Location:
    """A file or folder."""

    filesystem: fs.FileSystem
    path: str
    uri: str  # for messages and for relative paths of pictures; without credentials
    listed: str = field(default="", compare=False)  # its state when its folder was listed

    @classmethod
    def of(cls, uri: str | Path) -> Location:
        """The place of a path or URL.

        Raises:
            ContractError: no file system understands the URL.
        """
        text = str(uri)
        scheme = text.partition("://")[0].lower() if "://" in text else "file"
        try:
            filesystem, path = _filesystem(scheme, text)
        except (pa.ArrowException, OSError, ImportError, ValueError) as error:
            reason = reason_without_credentials(error, text)
            raise ContractError(
                f"{without_credentials(text)} cannot be opened ({reason}): {_HINTS.get(scheme, 'check it')}"
            ) from error
        return cls(filesystem, path, path if scheme == "file" else without_credentials(text).rstrip("/"))

    @property
    def local(self) -> Path | None:
        """The path on this machine, if it is here."""
        return Path(self.path) if isinstance(self.filesystem, fs.LocalFileSystem) else None

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rstrip("/").rpartition("/")[2]

    @property
    def has_wildcards(self) -> bool:
        """Whether the location is a pattern for several files."""
        return any(sign in self.path for sign in _WILDCARDS)

    def __truediv__(self, name: str) -> Location:
        """What lies below."""
        return Location(self.filesystem, f"{self.path.rstrip('/')}/{name}", f"{self.uri.rstrip('/')}/{name}")

    @property
    def is_empty(self) -> bool:
        """Whether its folder was listed and it had no bytes."""
        return self.listed.startswith("0 ")

    @property
    def is_missing(self) -> bool:
        """Whether the location is a path on this machine, without wildcards, at which nothing exists."""
        return self.local is not None and not self.has_wildcards and not self.local.exists()

    def is_file(self) -> bool:
        """Whether the location is an existing file.

        Raises:
            ContractError: the file system does not answer.
        """
        return bool(self._info().type == fs.FileType.File)

    def there(self, names: Sequence[str]) -> tuple[list[Location], list[Location]]:
        """The files and the folders with these names that exist directly below it, asked for all at once.

        A web server has no folders.

        Raises:
            ContractError: the file system does not answer.
        """
        below = [self / name for name in names]
        infos = self._asked(lambda: self.filesystem.get_file_info([each.path for each in below]))
        found = [(each, info.type) for each, info in zip(below, infos, strict=True)]
        files = [each for each, kind in found if kind == fs.FileType.File]
        return files, [each for each, kind in found if kind == fs.FileType.Directory and not self._is_web]

    def problem(self) -> str:
        """Why a web server does not send the file, in parentheses; empty if it does, and elsewhere."""
        if not self._is_web:
            return ""
        try:
            self.filesystem.handler.fs.cat_file(self.path, start=0, end=1)
        except Exception as error:  # of aiohttp and fsspec, which have trees of their own
            return f" ({reason_without_credentials(error, self.path)})"
        return ""

    def read(self) -> bytes:
        """The content of a small file.

        Raises:
            ContractError: The file cannot be read.
        """

        def content() -> bytes:
            with self.filesystem.open_input_stream(self.path) as file:
                return bytes(file.read())

        return bytes(self._asked(content))

    def read_object(self, most: float) -> bytes | None:
        """The content of an object in a store, in two requests; None if there is no such object.

        Raises:
            ContractError: It has more than `most` bytes, or the store does not answer.
        """

        def content() -> bytes | None:
            try:
                with self.filesystem.open_input_file(self.path) as file:
                    if file.size() <= most:
                        return bytes(file.read())
            except FileNotFoundError:
                return None
            raise ContractError(f"more than {most / 1e6:g} MB")

        found: bytes | None = self._asked(content)
        return found

    def state(self) -> str:
        """Size and time of the last change, or the entity tag of a web server."""
        return _state(self._info())

    def size(self) -> int | None:
        """Bytes of a file; None if the server does not say."""
        size: int | None = self._info().size
        return size

    def files(self, recursive: bool = False) -> list[Location]:
        """The files of a folder, in the order of their paths; none if it does not exist or cannot be listed.

        Folders below it whose name begins with "." or "_" are skipped, as Spark's `_temporary`. A link to a file
        that is missing is one of them, so that a part of a table is not left out in silence.
        """
        if self._is_web:
            return []
        kept = _listed.get()
        if kept is not None and (self.uri, recursive) in kept:
            return list(kept[self.uri, recursive])
        found = self._files(recursive)
        if kept is not None:
            kept[self.uri, recursive] = found
        return list(found)

    def _files(self, recursive: bool) -> list[Location]:
        selector = fs.FileSelector(self.path, allow_not_found=True, recursive=recursive)
        found = self._asked(lambda: self.filesystem.get_file_info(selector))
        there = [self._below(info.path, _state(info)) for info in found if info.type == fs.FileType.File]
        if isinstance(self.filesystem, fs.LocalFileSystem):  # Arrow does not list them
            there += [self._below(path) for path in _links_to_nothing(self.path, recursive)]
        shown = (file for file in there if not self._is_hidden(file.path))
        return sorted(shown, key=lambda file: file.path)

    def first_files(self) -> list[Location]:
        """The files of a folder, or of the first folder below it that has any.

        Shows what kind of files are there without listing all of them: a folder of pictures may have a million.
        """
        if self._is_web:
            return []
        selector = fs.FileSelector(self.path, allow_not_found=True)
        found = self._asked(lambda: self.filesystem.get_file_info(selector))
        shown = sorted(
            (info for info in found if not info.base_name.startswith((".", "_"))), key=lambda info: info.path
        )
        if files := [info for info in shown if info.type == fs.FileType.File]:
            return [self._below(info.path, _state(info)) for info in files]
        folders = (self._below(info.path) for info in shown if info.type == fs.FileType.Directory)
        return next((files for each in folders if (files := each.first_files())), [])

    def matching(self) -> Iterator[Location]:
        """The files that a path with wildcards matches; `*` stays within a folder, `**` is any number of them.

        Raises:
            ContractError: `**` is only a part of a name, or the file system does not answer.
        """
        if not self.has_wildcards or self.is_file():  # a name may have a bracket in it
            yield from [self] if self.is_file() else []
            return
        parts = self.path.split("/")
        first = next(at for at, part in enumerate(parts) if any(sign in part for sign in _WILDCARDS))
        pattern, top = self._pattern(), self._below("/".join(parts[:first]) or "/")
        for file in top.files(recursive=first < len(parts) - 1 or parts[-1] == "**"):
            if pattern.match(file.path):
                yield file

    def _pattern(self) -> re.Pattern[str]:
        from fsspec.utils import glob_translate

        try:
            return re.compile(glob_translate(self.path))
        except ValueError as error:
            raise ContractError(f"{self.uri}: ** stands for folders: write it between slashes") from error

    def partitions(self, file: Location) -> tuple[tuple[str, str | None], ...]:
        """The columns in the names of folders between this folder and a file, as Spark and Hive write them.

        `dt=2025-01-01/category=Fruit%2FApple` has two; a missing value is named `__HIVE_DEFAULT_PARTITION__`.
        """
        own, folders = self.path.rstrip("/").split("/"), file.path.split("/")[:-1]
        apart = next((at for at, (a, b) in enumerate(zip(own, folders, strict=False)) if a != b), len(own))
        named = [folder.partition("=")[::2] for folder in folders[apart:] if "=" in folder]
        return tuple(
            (unquote(name), None if value == _NO_PARTITION else unquote(value)) for name, value in named
        )

    def _is_hidden(self, path: str) -> bool:
        folders = path[len(self.path.rstrip("/")) :].split("/")[:-1]
        return any(folder.startswith((".", "_")) for folder in folders)

    @property
    def _is_web(self) -> bool:
        return self.uri.startswith(("http://", "https://"))

    def _info(self) -> fs.FileInfo:
        info: fs.FileInfo = self._asked(lambda: self.filesystem.get_file_info(self.path))
        return info

    def _below(self, path: str, listed: str = "") -> Location:
        cut = len(self.uri) - len(self.path)
        return Location(self.filesystem, path, self.uri[:cut] + path, listed)

    def _asked(self, question: Any) -> Any:
        try:
            return question()
        except (pa.ArrowException, OSError) as error:
            hint = _HINTS.get(urlsplit(self.uri).scheme, "check that it can be read")
            if _UNANSWERED.search(str(error)):
                hint = "check that AWS_ENDPOINT_URL answers, and run this again"
            elif _DENIED.search(str(error)):
                hint = "check what the credentials may read and whether they have expired, and run this again"
            raise ContractError(f"{self.uri} cannot be read ({error}): {hint}") from error


_listed: ContextVar[dict[tuple[str, bool], list[Location]] | None] = ContextVar("_listed", default=None)


@contextmanager
def listing_once() -> Iterator[None]:
    """Within it each folder is listed once: one with 100,000 pictures takes 100 requests to an object store."""
    if _listed.get() is not None:
        yield
        return
    token = _listed.set({})
    try:
        yield
    finally:
        _listed.reset(token)


def _links_to_nothing(folder: str, recursive: bool) -> Iterator[str]:
    for parent, _, names in os.walk(folder):
        paths = (Path(parent, name) for name in names)
        yield from (str(path) for path in paths if path.is_symlink() and not path.exists())
        if not recursive:
            return


def _state(info: fs.FileInfo) -> str:
    return f"{info.size} {info.mtime_ns}"


def _filesystem(scheme: str, uri: str) -> tuple[fs.FileSystem, str]:
    if "://" not in uri:
        return fs.LocalFileSystem(), str(Path(uri).absolute())
    parts = urlsplit(uri)
    path = f"{parts.netloc}{parts.path}".rstrip("/")
    match scheme:
        case "file":
            return fs.LocalFileSystem(), unquote(parts.path)
        case "s3":  # the constructor does not read AWS_ENDPOINT_URL
            filesystem, inside = fs.FileSystem.from_uri(f"s3{uri[2:]}")
            return filesystem, inside.rstrip("/")
        case "gs" | "gcs":
            return fs.GcsFileSystem(retry_time_limit=_GCS_RETRIES), path
        case "http" | "https":
            import fsspec

            return fs.PyFileSystem(fs.FSSpecHandler(fsspec.filesystem(scheme))), uri
    raise ValueError(f"no reader for {scheme}://; tables are read from paths, s3://, gs:// and https://")
