"""Governs a shop with one engine and prints the manifest hash; kills a process before items are grouped.

python -m tests.governance.engines.govern_on_cluster ENGINE_URL DATA OUT [PID]
"""

import os
import signal
import sys
from pathlib import Path

from immr.governance.govern import govern
from immr.governance.governance_recipe import GovernanceRecipe
from immr.governance.graph import classes

RECIPE = GovernanceRecipe(clean_labels=False)

if __name__ == "__main__":
    engine_url, data, out, *victims = sys.argv[1:]
    if victims:
        group = classes.classes

        def kill_then_group(*arguments):
            os.kill(int(victims[0]), signal.SIGKILL)
            return group(*arguments)

        classes.classes = kill_then_group
    print(govern(Path(data), Path(out), RECIPE, engine_url).hash)
