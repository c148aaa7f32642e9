"""One hash of a shop's tables and pictures, so that unchanged data are not governed again."""

from __future__ import annotations

import hashlib
from pathlib import Path

from immr.data import attributes, images
from immr.data.contract import CONTRACT, TableContract
from immr.data.tables import chunks, files_of
from immr.errors import DataError
from immr.storage import fingerprint


def content_hash(folder: Path) -> str:
    """Hash of the tables' bytes and of each picture's size and modification time.

    The pictures themselves are read once, later.

    Raises:
        ContractError: a table is missing or cannot be read.
    """
    tables = {contract.name: files_of(folder, contract) for contract in CONTRACT}
    by_content = {name: [fingerprint.of_file(file) for file in files] for name, files in tables.items()}
    if (declaration := folder / attributes.DECLARATION).is_file():
        by_content[attributes.COLUMN] = [fingerprint.of_file(declaration)]
    pictures = hashlib.sha256()
    for contract in CONTRACT:
        if "image" in contract.columns.names:
            for file in tables[contract.name]:
                _add_pictures(pictures, file, contract, folder.absolute())
    return fingerprint.of_values(by_content, pictures.hexdigest())


def _add_pictures(pictures: hashlib._Hash, file: Path, contract: TableContract, folder: Path) -> None:
    for batch in chunks(file, contract, columns=["image"]):
        for uri in batch.column(0).to_pylist():
            pictures.update(
                f"{_state(images.placed(uri, folder)) if isinstance(uri, str) else ''}\n".encode()
            )


def _state(uri: str) -> str:
    try:
        found = images.path_of(uri).stat()
    except (OSError, ValueError, DataError):
        return "cannot be read"
    return f"{found.st_size} {found.st_mtime_ns}"
