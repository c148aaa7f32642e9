"""KFP components, one a step. Each converts artifact paths, calls one step, and logs what came back.

A component's source travels alone to where it runs: what a body needs, it imports itself.
"""

from components.deploy import deploy
from components.evaluate import evaluate
from components.govern import govern
from components.index import index
from components.materialize import materialize
from components.package import package
from components.train import train
from components.watch import watch

__all__ = ["deploy", "evaluate", "govern", "index", "materialize", "package", "train", "watch"]
