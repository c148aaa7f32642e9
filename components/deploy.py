"""Bento and collection → a version that serves."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def deploy(model_version: str, bento: str, collection: str) -> str:
    """Let a packaged and indexed version serve: as challenger, or as the first champion; returns the role."""
    from immr import steps, wiring
    from immr.settings import Settings

    settings = Settings()
    return steps.deploy(settings, wiring.registry(settings).get(model_version), bento).role
