import pytest
from pydantic import TypeAdapter, ValidationError

from immr.experiment.context import MAX_DIMENSIONS
from serving.wire.problems import ProblemError
from serving.wire.search.search_context import Context

CONTEXT: TypeAdapter[dict[str, str] | None] = TypeAdapter(Context)


@pytest.mark.parametrize("given", [{"country": "SE"}, '{"country": "SE"}'])
def test_an_object_and_its_text_are_the_same(given):
    assert CONTEXT.validate_python(given) == {"country": "SE"}


@pytest.mark.parametrize("given", [None, "null"])
def test_null_is_no_context(given):
    assert CONTEXT.validate_python(given) is None


@pytest.mark.parametrize("given", ["SE", "[1]", 3, {"country": 3}])
def test_anything_else_is_refused(given):
    with pytest.raises(ValidationError):
        CONTEXT.validate_python(given)


def test_more_dimensions_than_can_be_declared_are_refused():
    with pytest.raises(ValidationError, match="at most"):
        CONTEXT.validate_python({f"d{number}": "x" for number in range(MAX_DIMENSIONS + 1)})


def test_a_repeated_dimension_is_refused_as_in_a_body():
    with pytest.raises(ProblemError, match="'country' occurs more than once"):
        CONTEXT.validate_python('{"country": "SE", "country": "DE"}')
