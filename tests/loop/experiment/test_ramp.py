"""Ramp and stop: on a real experiment file."""

from immr.experiment.file import load
from immr.loop.experiment.ramp import ramp, stop
from immr.loop.experiment.start import start
from immr.settings import Settings
from immr.wiring import connect


def test_ramp_and_stop_change_the_file(deployed: Settings) -> None:
    begun = start(connect(deployed), share=0.1)
    ramped = ramp(connect(deployed), 0.5)
    assert load(deployed.experiment_file) == ramped
    assert (ramped.salt, ramped.champion.weight) == (begun.salt, 0.5)
    stop(connect(deployed))
    assert load(deployed.experiment_file).state == "stopped"
