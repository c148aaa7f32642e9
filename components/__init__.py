"""KFP components, one per step. Each converts artifact paths, calls one verb of the loop and logs the result.

KFP runs a component's source without the module around it, so each body imports what it needs.
"""

from components.deliver import deliver
from components.deploy import deploy
from components.evaluate import evaluate
from components.finish import finish
from components.govern import govern
from components.index import index
from components.materialize import materialize
from components.package import package
from components.rank import rank
from components.record_changes import record_changes
from components.start import start
from components.start_test import start_test
from components.train import train
from components.watch import watch

__all__ = [
    "deliver",
    "deploy",
    "evaluate",
    "finish",
    "govern",
    "index",
    "materialize",
    "package",
    "rank",
    "record_changes",
    "start",
    "start_test",
    "train",
    "watch",
]
