"""Messages of the Open Inference Protocol (v2): pixels in, embeddings out, as JSON or binary tensors."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from fastapi import Response
from fastapi.responses import JSONResponse

from immr.types import FloatArray
from serving.wire.problems import ProblemError

HEADER_LENGTH = "inference-header-content-length"
INPUT, OUTPUT = "pixels", "embedding"
MAX_BATCH = 16
_FLOAT_BYTES = 4


@dataclass(frozen=True)
class InferRequest:
    """A valid request."""

    id: str | None
    pixels_B3SS: FloatArray
    binary: bool  # whether the answer's tensor is binary


def read_request(body: bytes, header_length: str | None, image_size_px: int) -> InferRequest:
    """Reads a request.

    Args:
        body: JSON, followed by the binary tensors if there are any.
        header_length: The length of the JSON if binary tensors follow it.
        image_size_px: The encoder's input size.

    Raises:
        ProblemError: 400 with what is invalid.
    """
    try:
        length = len(body) if header_length is None else int(header_length)
        content = json.loads(body[:length]) if 0 < length <= len(body) else None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, Mapping):
        raise _invalid(f"The body does not begin with a JSON object of the length given in {HEADER_LENGTH}.")
    tensor = _only_input(content.get("inputs"))
    shape = _shape(tensor, image_size_px)
    given = content.get("id")
    return InferRequest(
        id=given if isinstance(given, str) else None,
        pixels_B3SS=_values(tensor, body[length:]).reshape(shape),
        binary=_wants_binary(content),
    )


def write_response(model: str, request_id: str | None, embedding_BD: FloatArray, binary: bool) -> Response:
    """The response with the embeddings, one row per picture."""
    output: dict[str, Any] = {"name": OUTPUT, "datatype": "FP32", "shape": list(embedding_BD.shape)}
    content: dict[str, Any] = {"model_name": model, "outputs": [output]}
    if request_id is not None:
        content["id"] = request_id
    if not binary:
        output["data"] = embedding_BD.ravel().tolist()
        return JSONResponse(content)
    raw = np.ascontiguousarray(embedding_BD, dtype="<f4").tobytes()
    output["parameters"] = {"binary_data_size": len(raw)}
    header = json.dumps(content).encode()
    headers = {HEADER_LENGTH: str(len(header))}
    return Response(header + raw, headers=headers, media_type="application/octet-stream")


def _only_input(inputs: object) -> Mapping[str, Any]:
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], Mapping):
        raise _invalid(f"`inputs` must be a list of one tensor, {INPUT!r}.")
    if inputs[0].get("name") != INPUT or inputs[0].get("datatype") != "FP32":
        raise _invalid(f"The input must be named {INPUT!r} with datatype FP32. See the model's metadata.")
    return inputs[0]


def _shape(tensor: Mapping[str, Any], side: int) -> tuple[int, ...]:
    shape = tensor.get("shape")
    if not isinstance(shape, list) or len(shape) != 4 or any(type(size) is not int for size in shape):
        raise _invalid(f"The shape of {INPUT!r} must be [batch, 3, {side}, {side}].")
    if not 1 <= shape[0] <= MAX_BATCH or shape[1:] != [3, side, side]:
        raise _invalid(f"The shape of {INPUT!r} must be [1 to {MAX_BATCH}, 3, {side}, {side}], not {shape}.")
    return tuple(shape)


def _values(tensor: Mapping[str, Any], binary: bytes) -> FloatArray:
    expected = math.prod(tensor["shape"])
    if "data" in tensor:
        values = _from_json(tensor["data"])
    else:
        if _parameters(tensor).get("binary_data_size") != len(binary) or len(binary) % _FLOAT_BYTES:
            raise _invalid(f"{INPUT!r} has neither `data` nor `binary_data_size` bytes after the JSON.")
        values = np.frombuffer(binary, dtype="<f4")
    if values.size != expected or not np.isfinite(values).all():
        raise _invalid(f"{INPUT!r} needs {expected} finite numbers, but has {values.size} values.")
    return values


def _from_json(data: object) -> FloatArray:
    try:
        with np.errstate(over="ignore"):
            return np.asarray(data, dtype=np.float32).ravel()
    except (ValueError, TypeError, OverflowError) as error:
        raise _invalid(f"The `data` of {INPUT!r} must be numbers in rows of equal length.") from error


def _wants_binary(content: Mapping[str, Any]) -> bool:
    outputs = content.get("outputs")
    if not outputs:
        return _parameters(content).get("binary_data_output") is True
    if not isinstance(outputs, list) or any(
        not isinstance(output, Mapping) or output.get("name") != OUTPUT for output in outputs
    ):
        raise _invalid(f"The only output is {OUTPUT!r}.")
    default = _parameters(content).get("binary_data_output", False)
    return _parameters(outputs[0]).get("binary_data", default) is True


def _parameters(content: Mapping[str, Any]) -> Mapping[str, Any]:
    parameters = content.get("parameters")
    return parameters if isinstance(parameters, Mapping) else {}


def _invalid(detail: str) -> ProblemError:
    return ProblemError(400, detail)
