"""The Open Inference Protocol (v2) over HTTP: ready pixels in, embeddings out, as JSON or binary tensors."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from immr.types import FloatArray
from serving.wire.problems import ProblemError

if TYPE_CHECKING:
    from serving.bento.app import VersionService

HEADER_LENGTH = "inference-header-content-length"
INPUT, OUTPUT = "pixels", "embedding"
MAX_BATCH = 16
_FLOAT_BYTES = 4


class Tensor(BaseModel):
    """A tensor's name, type and shape; -1 is any number."""

    name: str
    datatype: str = "FP32"
    shape: list[int]


class ModelMetadata(BaseModel):
    """What a model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[Tensor]
    outputs: list[Tensor]


class ServerMetadata(BaseModel):
    """Which server this is."""

    name: str
    version: str
    extensions: list[str]


class ProtocolError(BaseModel):
    """An error in the protocol's form."""

    error: str


@dataclass(frozen=True)
class InferRequest:
    """One request, read and checked."""

    id: str | None
    pixels_B3SS: FloatArray
    binary: bool  # how the answer's tensor goes out


def read_request(body: bytes, header_length: str | None, image_size_px: int) -> InferRequest:
    """Read a request; `header_length` is the JSON's length where binary tensors follow it.

    Raises:
        ProblemError: 400, with what does not fit.
    """
    try:
        length = len(body) if header_length is None else int(header_length)
        content = json.loads(body[:length]) if 0 < length <= len(body) else None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, Mapping):
        raise _wrong(f"the body does not begin with a JSON object of the length that {HEADER_LENGTH} says")
    tensor = _only_input(content.get("inputs"))
    shape = _shape(tensor, image_size_px)
    given = content.get("id")
    return InferRequest(
        id=given if isinstance(given, str) else None,
        pixels_B3SS=_values(tensor, body[length:]).reshape(shape),
        binary=_wants_binary(content),
    )


def write_response(model: str, request_id: str | None, embedding_BD: FloatArray, binary: bool) -> Response:
    """The embeddings as the protocol has them."""
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


def add_inference(app: FastAPI, service: VersionService) -> None:
    """Add the protocol's paths for the one model that the service has, named by its version."""
    _add_health(app, service)
    _add_model(app, service)
    responses = {
        **_errors(400, 404, 408, 413, 422, 429, 503),
        200: {"content": _content("application/octet-stream")},
    }

    @app.post(
        "/v2/models/{model}/infer",
        summary="Embed ready pixels",
        description="Binary tensors follow the JSON, whose length is in `Inference-Header-Content-Length`.",
        responses=responses,
        response_class=JSONResponse,
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": _content("application/json", "application/octet-stream"),
            }
        },
    )
    async def infer(model: str, request: Request) -> Response:
        _check_name(service, model)
        body = await request.body()
        given, embedding_BD = await service.embed(body, request.headers.get(HEADER_LENGTH))
        return write_response(model, given.id, embedding_BD, given.binary)


def _add_health(app: FastAPI, service: VersionService) -> None:
    @app.get("/v2", summary="Which server this is")
    async def server() -> ServerMetadata:
        from immr import __version__

        return ServerMetadata(name="immr", version=__version__, extensions=["binary_tensor_data"])

    @app.get("/v2/health/live", summary="Whether the process runs")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @app.get("/v2/health/ready", summary="Whether the model is ready", responses=_errors(503))
    def ready() -> dict[str, bool]:
        service.ready()
        return {"ready": True}


def _add_model(app: FastAPI, service: VersionService) -> None:
    @app.get("/v2/models/{model}", summary="What the model takes and gives", responses=_errors(404, 422, 503))
    async def metadata(model: str) -> ModelMetadata:
        _check_name(service, model)
        service.searcher()
        side = service.version.encoder.image_size_px
        return ModelMetadata(
            name=model,
            versions=[],
            platform="openvino",
            inputs=[Tensor(name=INPUT, shape=[-1, 3, side, side])],
            outputs=[Tensor(name=OUTPUT, shape=[-1, service.version.file.dim])],
        )

    @app.get(
        "/v2/models/{model}/ready", summary="Whether this model is ready", responses=_errors(404, 422, 503)
    )
    def ready(model: str) -> dict[str, bool | str]:
        _check_name(service, model)
        service.ready()
        return {"name": model, "ready": True}


def _check_name(service: VersionService, model: str) -> None:
    if model != service.version.file.id:
        raise ProblemError(404, f"there is no model {model[:100]!r} here: this is {service.version.file.id}")


def _only_input(inputs: object) -> Mapping[str, Any]:
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], Mapping):
        raise _wrong(f"`inputs` is a list of one tensor, {INPUT!r}")
    if inputs[0].get("name") != INPUT or inputs[0].get("datatype") != "FP32":
        raise _wrong(f"the input is named {INPUT!r} and of datatype FP32: see the model's metadata")
    return inputs[0]


def _shape(tensor: Mapping[str, Any], side: int) -> tuple[int, ...]:
    shape = tensor.get("shape")
    if not isinstance(shape, list) or len(shape) != 4 or any(type(size) is not int for size in shape):
        raise _wrong(f"{INPUT!r} has the shape [batch, 3, {side}, {side}]")
    if not 1 <= shape[0] <= MAX_BATCH or shape[1:] != [3, side, side]:
        raise _wrong(f"{INPUT!r} has the shape [1 to {MAX_BATCH}, 3, {side}, {side}], not {shape}")
    return tuple(shape)


def _values(tensor: Mapping[str, Any], binary: bytes) -> FloatArray:
    expected = math.prod(tensor["shape"])
    if "data" in tensor:
        values = _from_json(tensor["data"])
    else:
        if _parameters(tensor).get("binary_data_size") != len(binary) or len(binary) % _FLOAT_BYTES:
            raise _wrong(f"{INPUT!r} has neither `data` nor `binary_data_size` bytes after the JSON")
        values = np.frombuffer(binary, dtype="<f4")
    if values.size != expected or not np.isfinite(values).all():
        raise _wrong(f"{INPUT!r} needs {expected} finite numbers, here are {values.size} values")
    return values


def _from_json(data: object) -> FloatArray:
    try:
        with np.errstate(over="ignore"):
            return np.asarray(data, dtype=np.float32).ravel()
    except (ValueError, TypeError, OverflowError) as error:
        raise _wrong(f"the `data` of {INPUT!r} are not numbers in rows of one length") from error


def _wants_binary(content: Mapping[str, Any]) -> bool:
    outputs = content.get("outputs")
    if not outputs:
        return _parameters(content).get("binary_data_output") is True
    if not isinstance(outputs, list) or any(
        not isinstance(output, Mapping) or output.get("name") != OUTPUT for output in outputs
    ):
        raise _wrong(f"there is one output, {OUTPUT!r}")
    default = _parameters(content).get("binary_data_output", False)
    return _parameters(outputs[0]).get("binary_data", default) is True


def _parameters(content: Mapping[str, Any]) -> Mapping[str, Any]:
    parameters = content.get("parameters")
    return parameters if isinstance(parameters, Mapping) else {}


def _wrong(detail: str) -> ProblemError:
    return ProblemError(400, detail)


def _content(*media_types: str) -> dict[str, Any]:
    return {media_type: {} for media_type in media_types}


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": ProtocolError, "description": "In the protocol's form"} for status in statuses}
