"""Contexts: which dimensions may be sent, and which values."""

import pytest

from immr.errors import ExperimentError, SettingsError
from immr.experiment.context import Dimensions, check_dimensions, to_text
from immr.settings import Settings

DECLARED = Dimensions.parse("country, device=phone|tablet|desktop")


def test_the_default_declaration_is_valid() -> None:
    assert list(Dimensions.parse(Settings().context).allowed) == ["country", "device", "channel"]
    assert Dimensions.parse("").allowed == {}


@pytest.mark.parametrize(
    "text", ["Country", "country,country", "day", "device=two words", ",".join(f"d{n}" for n in range(9))]
)
def test_an_invalid_declaration_is_named(text: str) -> None:
    with pytest.raises(SettingsError, match="IMMR_CONTEXT"):
        Dimensions.parse(text)


@pytest.mark.parametrize(
    ("context", "problem"),
    [
        ({"country": "SE", "device": "phone"}, ""),
        ({"city": "Lund"}, "'city' is not a declared dimension: declared are country, device"),
        ({"device": "watch"}, "device is 'watch': send one of desktop, phone, tablet"),
        ({"country": "ann@example.org"}, "country is 'ann@example.org': send a code"),
        ({"country": "my street 5"}, "send a code"),
        ({"country": "x" * 33}, "send a code"),
    ],
)
def test_problems_name_the_dimension(context: dict[str, str], problem: str) -> None:
    found = DECLARED.problem(context)
    assert problem in found and bool(problem) == bool(found)


def test_text_is_the_same_in_any_order() -> None:
    assert to_text({"device": "tv", "country": "SE"}) == to_text({"country": "SE", "device": "tv"})
    assert to_text({}) == ""


def test_a_readout_is_split_by_known_dimensions_only() -> None:
    check_dimensions(["country", "day"], DECLARED)
    with pytest.raises(
        ExperimentError, match="no dimension city: split by country, device, category, day, rank"
    ):
        check_dimensions(["city"], DECLARED)
