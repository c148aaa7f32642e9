"""Click log and catalogue → training set."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def govern(
    run: str,
    data_uri: str,
    recipe: str,
    manifest: dsl.Output[dsl.Dataset],
    report: dsl.Output[dsl.HTML],
) -> str:
    """Clean, group and split a click log into a training set; returns its folder on the shared home."""
    import shutil

    from immr import recipes
    from immr.loop.govern import govern
    from immr.loop.pipeline_run import PipelineRun
    from immr.settings import Settings
    from immr.wiring import connect

    parts = connect(Settings())

    def body():
        return govern(parts, data_uri, recipes.by_name(recipe))

    def finding(made):
        return f"{len(made.queries)} photos in {made.class_count} classes"

    result = PipelineRun.of(parts.settings, run).step("govern", body, finding)
    shutil.copyfile(result.folder / "report.html", report.path)
    shutil.copyfile(result.folder / "manifest.json", manifest.path)
    manifest.metadata.update(hash=result.hash, queries=len(result.queries), classes=result.class_count)
    return str(result.folder)
