"""Model versions and their files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from immr.errors import RegistryError
from immr.registry.logged_models import FILES, LOGGED_MODEL, LoggedModels, Origin
from immr.registry.runs import KEY
from immr.registry.store import Store
from immr.storage.atomic import replace_folder_atomically
from immr.types import ModelVersion

PIPELINE_RUN = "immr.pipeline_run"
"""Tag of runs and versions: the id of the pipeline run that made them."""
_ATTACHED = "attached"  # the artifact folder of a run for files made after training


class Versions:
    """The versions of one registered model."""

    def __init__(self, store: Store, model_name: str) -> None:
        self._store = store
        self._name = model_name
        self._models = LoggedModels(store)
        self._folders: dict[tuple[str, str], Path] = {}  # of fetched versions, whose files never change

    def register(
        self, folder: Path, key: str, run_id: str, properties: Mapping[str, str], origin: Origin
    ) -> ModelVersion:
        """Store a version's folder as the LoggedModel of its run and give it the next number.

        The number is assigned last and atomically, so every version that can be found has all its files.
        After a crash, calling this again completes the work. A key that is already registered keeps its
        version.

        Args:
            folder: The version's files.
            key: Identifies what the version was trained from.
            run_id: The MLflow run that trained it.
            properties: The version's `dim`, `preprocessing_hash`, `manifest_hash` and `recipe`.
            origin: Where it comes from.

        Raises:
            RegistryError: The folder is missing or empty, or MLflow refused a request.
        """
        if registered := self.find(key):
            return registered
        if not folder.is_dir() or not any(folder.iterdir()):
            raise RegistryError(f"{folder} holds no version files: run `immr train` first")
        named = f"{properties['recipe']}-{key[:8]}"
        model = self._models.create(folder, run_id, named, {**properties, "key": key}, origin)
        if self._store.call("get_registered_model", self._name, or_none=True) is None:
            self._store.call("create_registered_model", self._name)
        tags = {KEY: key, **{f"immr.{name}": value for name, value in properties.items()}}
        tags[LOGGED_MODEL] = model.model_id
        if origin.pipeline_run:
            tags[PIPELINE_RUN] = origin.pipeline_run
        entry = self._store.call(
            "create_model_version",
            self._name,
            model.artifact_location,
            run_id,
            tags=tags,
            description=origin.description(properties["recipe"], properties["manifest_hash"]),
            model_id=model.model_id,
        )
        return _version(entry)

    def restore(self, version: ModelVersion, folder: Path) -> None:
        """Store the files of a version again."""
        if model_id := self.entry(version).tags.get(LOGGED_MODEL):
            self._models.upload(model_id, folder)
        else:  # registered by IMMR 0.1, as artifacts of its run
            self._store.call("log_artifacts", version.run_id, str(folder), FILES)

    def all(self) -> list[ModelVersion]:
        """All versions that IMMR registered, oldest first."""
        return self._search(f"name = '{self._name}'")

    def find(self, key: str) -> ModelVersion | None:
        """The newest version with this key, or None."""
        found = self._search(f"name = '{self._name}' and tags.`{KEY}` = '{key}'")
        return found[-1] if found else None

    def fetch(self, version: ModelVersion, cache_dir: Path) -> Path:
        """A local folder with the version's files, for reading only.

        If the artifacts are on this machine, the folder is MLflow's own. Files on a server are downloaded once.

        Args:
            version: The version to fetch.
            cache_dir: Files are downloaded into a subfolder of this folder.

        Raises:
            RegistryError: The files are missing.
        """
        known = self._folders.get((version.id, version.run_id))
        if known is None or not known.is_dir():  # MLflow takes longer to answer than a changed item to embed
            known = self._folders[version.id, version.run_id] = self._found(version, cache_dir)
        return known

    def _found(self, version: ModelVersion, cache_dir: Path) -> Path:
        entry = self.entry(version)
        # until IMMR 0.1 the source was the folder itself, among the artifacts of the run
        source = f"{entry.source}/{FILES}" if LOGGED_MODEL in entry.tags else str(entry.source)
        parts = urlsplit(source)
        if parts.scheme in ("", "file"):
            folder = Path(url2pathname(parts.path))
            if not folder.is_dir():
                raise RegistryError(
                    f"the files of {version.id} are missing from {folder}: restore them from a backup, or "
                    "train the version again"
                )
            return folder
        kept = cache_dir / "versions" / f"{version.id}-{version.run_id}"
        if not kept.is_dir():
            with replace_folder_atomically(kept) as download:
                self._store.download(source, download)
        return kept / FILES

    def attach(self, version: ModelVersion, file: Path) -> None:
        """Store a file that was made after training, replacing one of the same name."""
        self._store.call("log_artifact", version.run_id, str(file), _ATTACHED)

    @contextmanager
    def attached(self, version: ModelVersion, name: str) -> Iterator[Path | None]:
        """A copy of an attached file, deleted after the block; None if there is none."""
        path = f"{_ATTACHED}/{name}"
        known = self._store.call("list_artifacts", version.run_id, _ATTACHED)
        if path not in [each.path for each in known]:
            yield None
            return
        with tempfile.TemporaryDirectory(prefix="immr-attached-") as folder:
            yield Path(self._store.call("download_artifacts", version.run_id, path, folder))

    def tag(self, version: ModelVersion, key: str, value: str) -> None:
        """Set a tag, replacing an earlier value."""
        self._store.call("set_model_version_tag", self._name, str(version.number), key, value)

    def describe(self, version: ModelVersion, start: str, paragraph: str) -> None:
        """Add a paragraph of Markdown to the version's description, in place of an earlier one with this start."""
        said = (self.entry(version).description or "").split("\n\n")
        kept = [each for each in said if each and not each.startswith(start)]
        description = "\n\n".join([*kept, start + paragraph])
        self._store.call("update_model_version", self._name, str(version.number), description)

    def entry(self, version: ModelVersion) -> Any:
        """MLflow's own record of a version."""
        return self._store.call("get_model_version", self._name, str(version.number))

    def _search(self, query: str) -> list[ModelVersion]:
        found: list[ModelVersion] = []
        page = self._store.call("search_model_versions", query)
        while True:
            found += [_version(entry) for entry in page if KEY in entry.tags]
            if not page.token:
                return sorted(found, key=lambda version: version.number)
            page = self._store.call("search_model_versions", query, page_token=page.token)


def _version(entry: Any) -> ModelVersion:
    return ModelVersion(
        name=entry.name,
        number=int(entry.version),
        key=entry.tags[KEY],
        run_id=entry.run_id,
        dim=int(entry.tags["immr.dim"]),
        preprocessing_hash=entry.tags["immr.preprocessing_hash"],
        manifest_hash=entry.tags["immr.manifest_hash"],
        recipe=entry.tags["immr.recipe"],
    )
