"""Model version → Bento."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def package(run: str, model_version: str, recipe: str) -> str:
    """Package a version's query encoder and the search service; returns the Bento's tag."""
    from immr import recipes, steps, wiring
    from immr.loop.pipeline_run import PipelineRun
    from immr.settings import Settings

    settings = Settings()

    def body() -> str:
        version = wiring.registry(settings).get(model_version)
        return steps.package(settings, version, recipes.by_name(recipe))

    return PipelineRun.of(settings, run).step("package", body)
