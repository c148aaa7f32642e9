"""Deployed versions → an experiment that gives the challenger its users."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def start(role: str, share: float) -> str:
    """Let the gateway send users to what has just been deployed; a comparison that runs already goes on."""
    from immr.errors import ExperimentError
    from immr.loop import experiment as control
    from immr.settings import Settings

    try:
        said = f"{control.start(Settings(), weight=share).name} has started, the {role} is new"
    except ExperimentError as error:
        said = f"no new comparison for the {role}: {error}"
    print(said)
    return said
