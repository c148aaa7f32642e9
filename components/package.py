"""Model version → Bento."""

from typing import NamedTuple

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def package(run: str, model: dsl.Input[dsl.Model], recipe: str) -> NamedTuple("Outputs", [("bento", str)]):
    """Package a version's query encoder and the search service; returns the Bento's tag."""
    from immr import recipes
    from immr.loop.package import Packaged, package
    from immr.loop.pipeline_run import PipelineRun
    from immr.settings import Settings
    from immr.wiring import connect

    parts = connect(Settings())

    def body() -> Packaged:
        version = parts.registry.get(model.metadata["version"])
        return package(parts, version, recipes.by_name(recipe))

    packaged = PipelineRun.of(parts.settings, run).step("package", body, lambda made: made.sentence)
    return (packaged.bento,)
