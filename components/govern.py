"""Click log and catalogue → training set."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def govern(
    data_uri: str,
    recipe: str,
    manifest: dsl.Output[dsl.Dataset],
    report: dsl.Output[dsl.HTML],
) -> str:
    """Clean, group and split a click log into a training set; returns its folder, and copies no data."""
    import shutil
    from pathlib import Path

    from immr import recipes, steps
    from immr.settings import Settings

    result = steps.govern(Settings(), Path(data_uri), recipes.by_name(recipe))
    shutil.copyfile(result.folder / "report.html", report.path)
    shutil.copyfile(result.folder / "manifest.json", manifest.path)
    manifest.metadata.update(hash=result.hash, queries=len(result.queries), classes=result.class_count)
    return str(result.folder)
