"""Package: build a Bento from a model version."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from immr.recipes import Recipe
    from immr.types import ModelVersion
    from immr.wiring import Parts


def package(parts: Parts, version: ModelVersion, recipe: Recipe) -> str:
    """Build the version's Bento: the query encoder in ONNX, without torch. Returns its tag.

    Raises:
        PackagingError: A file of the version is missing, or BentoML fails.
        SettingsError: The application folder with `serving/` is not found.
    """
    from immr.packaging import bento
    from immr.packaging.application import application_folder

    return bento.build(
        version,
        parts.registry.fetch(version, parts.settings.cache_dir),
        ranking=recipe.ranking,
        service_folder=application_folder() / "serving",
        bento_home=parts.settings.bento_home,
    )
