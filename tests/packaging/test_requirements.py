import pytest

from immr.errors import PackagingError
from immr.packaging import requirements
from immr.packaging.requirements import installed_closure, pinned_requirements


def test_only_the_requirements_of_the_extra_are_listed() -> None:
    names = [line.split("==")[0] for line in pinned_requirements("serve")]
    assert names == sorted(names)
    assert {"bentoml", "starlette"} <= set(names)  # direct, and needed by another
    assert not {"immr", "torch", "mlflow"} & set(names)


def test_a_package_that_is_not_installed_has_no_version() -> None:
    found = installed_closure(["no-such-package>=1", "jinja2"])
    assert found["no-such-package"] == ""
    assert found["jinja2"] and found["markupsafe"]


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "installed_closure", lambda wanted: {"bentoml": "1.0", "feast": ""})
    with pytest.raises(PackagingError, match="a Bento needs feast: pip install"):
        pinned_requirements("serve")
