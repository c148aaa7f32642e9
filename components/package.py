"""Model version → Bento."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def package(model_version: str, recipe: str) -> str:
    """Package a version's query encoder and service; returns the Bento's tag."""
    from immr import recipes, steps, wiring
    from immr.settings import Settings

    settings = Settings()
    return steps.package(settings, wiring.registry(settings).get(model_version), recipes.by_name(recipe))
