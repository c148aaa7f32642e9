"""The `context` of a search: where it came from, in the dimensions that the shop has declared."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from immr.experiment.context import MAX_DIMENSIONS, Dimensions, to_text
from serving.wire.json_body import unique
from serving.wire.problems import FieldProblem, invalid_fields


def _parsed(value: Any) -> Any:
    """A form sends JSON text, a JSON body an object."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise ValueError('send a JSON object such as {"country": "SE"}') from error


Context = Annotated[
    Annotated[dict[str, str], Field(max_length=MAX_DIMENSIONS)] | None,
    BeforeValidator(_parsed),
    Field(
        description='Where the search came from, as a JSON object of codes: {"country": "SE", "device": "phone"}. '
        "Only declared dimensions; no personal data.",
    ),
]
"""The field; a readout can be split by its dimensions."""


def context_text(context: Mapping[str, str] | None, declared: Dimensions) -> str:
    """The context as the event log stores it.

    Raises:
        ProblemError: 422 for a dimension that is not declared, or a value that is not allowed.
    """
    if not context:
        return ""
    if problem := declared.problem(context):
        raise invalid_fields([FieldProblem(field="context", message=problem)])
    return to_text(context)
