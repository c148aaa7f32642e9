"""Routes of the Open Inference Protocol (v2), for the one model of a Bento, named by its version."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from serving.bento.answering import VersionService
from serving.bento.inference import HEADER_LENGTH, INPUT, OUTPUT, write_response
from serving.wire.problems import ProblemError


class Tensor(BaseModel):
    """A tensor's name, type and shape; -1 stands for any size."""

    name: str
    datatype: str = "FP32"
    shape: list[int]


class ModelMetadata(BaseModel):
    """The inputs and outputs of a model."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[Tensor]
    outputs: list[Tensor]


class ServerMetadata(BaseModel):
    """The name and version of the server."""

    name: str
    version: str
    extensions: list[str]


class ProtocolError(BaseModel):
    """An error in the protocol's format."""

    error: str


def add_inference(app: FastAPI, service: VersionService) -> None:
    """Adds the protocol's routes."""
    _add_health(app, service)
    _add_model(app, service)
    responses = {
        **_errors(400, 404, 408, 413, 422, 429, 503),
        200: {"content": _content("application/octet-stream")},
    }

    @app.post(
        "/v2/models/{model}/infer",
        summary="Embed preprocessed pictures",
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
    @app.get("/v2", summary="The name and version of the server")
    async def server() -> ServerMetadata:
        from immr import __version__

        return ServerMetadata(name="immr", version=__version__, extensions=["binary_tensor_data"])

    @app.get("/v2/health/live", summary="Whether the process is running")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @app.get("/v2/health/ready", summary="Whether the model is ready", responses=_errors(503))
    def ready() -> dict[str, bool]:
        service.ready()
        return {"ready": True}


def _add_model(app: FastAPI, service: VersionService) -> None:
    @app.get(
        "/v2/models/{model}", summary="The inputs and outputs of the model", responses=_errors(404, 422, 503)
    )
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
        raise ProblemError(404, f"There is no model {model[:100]!r} here, only {service.version.file.id}.")


def _content(*media_types: str) -> dict[str, Any]:
    return {media_type: {} for media_type in media_types}


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": ProtocolError, "description": HTTPStatus(status).phrase} for status in statuses}
