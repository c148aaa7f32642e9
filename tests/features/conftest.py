import pytest

from immr.features.repository import import_feast


@pytest.fixture(scope="session", autouse=True)
def feast() -> None:
    """Feast is imported as in production, and not while the tests are collected."""
    import_feast()
