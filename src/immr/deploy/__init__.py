"""Where a version serves: `local` (`bentoml serve`)."""
