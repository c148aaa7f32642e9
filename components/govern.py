"""Click log and catalogue → training set."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def govern(
    data_uri: str,
    recipe: str,
    training_set: dsl.Output[dsl.Dataset],
    report: dsl.Output[dsl.HTML],
) -> str:
    """Clean, group and split a click log into a training set; returns the manifest's hash."""
    import shutil
    from pathlib import Path

    from immr import recipes, steps
    from immr.settings import Settings

    result = steps.govern(Settings(), Path(data_uri), recipes.by_name(recipe), Path(training_set.path))
    shutil.copyfile(result.folder / "report.html", report.path)
    training_set.metadata.update(hash=result.hash, queries=len(result.queries), classes=result.class_count)
    return result.hash
