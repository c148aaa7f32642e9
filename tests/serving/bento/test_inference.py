"""The Open Inference Protocol on a Bento's application, called by KServe's own client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from kserve.inference_client import InferenceRESTClient, RESTConfig
from kserve.protocol.infer_type import InferInput, InferRequest, RequestedOutput

from immr.model.query_encoder import OnnxQueryEncoder
from immr.settings import Settings
from tests.support import http_client, tiny_version
from tests.support.in_process import served_version

SHAPE = [2, 3, tiny_version.SIZE_PX, tiny_version.SIZE_PX]
PIXELS = np.random.default_rng(0).uniform(-1, 1, SHAPE).astype(np.float32)


@pytest.fixture(scope="module")
def client(bento_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=bento_url, timeout=10) as client:
        yield client


@pytest.fixture(scope="module")
def expected(home: Path) -> Any:
    return OnnxQueryEncoder(home / "immr-1").embed(PIXELS)


def ask(action: Callable[[InferenceRESTClient], Awaitable[Any]]) -> Any:
    async def asked() -> Any:
        async with InferenceRESTClient(RESTConfig(protocol="v2", timeout=10)) as client:
            return await action(client)

    return asyncio.run(asked())


def request(binary: bool, **options: Any) -> InferRequest:
    pixels = InferInput("pixels", SHAPE, "FP32")
    pixels.set_data_from_numpy(PIXELS, binary_data=binary)
    return InferRequest("immr-1", [pixels], **options)


@pytest.mark.parametrize("binary_in", [False, True])
@pytest.mark.parametrize("binary_out", [False, True])
def test_kserves_client_gets_embeddings(
    bento_url: str, expected: Any, binary_in: bool, binary_out: bool
) -> None:
    wanted = [RequestedOutput("embedding", {"binary_data": binary_out})]
    sent = request(binary_in, request_outputs=wanted, request_id="r1")
    answer = ask(lambda client: client.infer(bento_url, sent, model_name="immr-1"))
    assert (answer.id, answer.model_name) == ("r1", "immr-1")
    [output] = answer.outputs
    assert (output.name, output.datatype, output.shape) == ("embedding", "FP32", [2, tiny_version.DIM])
    np.testing.assert_allclose(output.as_numpy(), expected, atol=1e-6)


def test_binary_for_all_outputs(bento_url: str, expected: Any) -> None:
    sent = request(True, parameters={"binary_data_output": True})
    headers: dict[str, str] = {}
    answer = ask(lambda client: client.infer(bento_url, sent, model_name="immr-1", response_headers=headers))
    assert headers["content-type"] == "application/octet-stream"
    np.testing.assert_allclose(answer.outputs[0].as_numpy(), expected, atol=1e-6)


def test_kserves_client_sees_health(bento_url: str) -> None:
    assert ask(lambda client: client.is_server_live(bento_url)) is True
    assert ask(lambda client: client.is_server_ready(bento_url)) is True
    assert ask(lambda client: client.is_model_ready(bento_url, "immr-1")) is True
    assert ask(lambda client: client.is_model_ready(bento_url, "other")) is False


def test_metadata(client: httpx.Client) -> None:
    assert client.get("/v2").json()["extensions"] == ["binary_tensor_data"]
    side = tiny_version.SIZE_PX
    assert client.get("/v2/models/immr-1").json() == {
        "name": "immr-1",
        "versions": [],
        "platform": "openvino",
        "inputs": [{"name": "pixels", "datatype": "FP32", "shape": [-1, 3, side, side]}],
        "outputs": [{"name": "embedding", "datatype": "FP32", "shape": [-1, tiny_version.DIM]}],
    }


def test_an_unknown_model_is_a_404_in_the_protocols_format(client: httpx.Client) -> None:
    for answer in (
        client.get("/v2/models/other"),
        client.get("/v2/models/other/ready"),
        client.post("/v2/models/other/infer", json={}),
    ):
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == {"error": "There is no model 'other' here, only immr-1."}


def body(data: object = None, shape: object = None, **tensor: object) -> bytes:
    values = [0.0] * (3 * tiny_version.SIZE_PX**2) if data is None else data
    wanted = [1, *SHAPE[1:]] if shape is None else shape
    given = {"name": "pixels", "datatype": "FP32", "shape": wanted, "data": values} | tensor
    return json.dumps({"inputs": [given]}).encode()


WITHOUT_DATA = {"name": "pixels", "datatype": "FP32", "shape": [1, *SHAPE[1:]]}


@pytest.mark.parametrize(
    ("content", "header", "words"),
    [
        (b"", None, "JSON"),
        (b"{", None, "JSON"),
        (b"[" * 100_000, None, "JSON"),
        (b"\xff", None, "JSON"),
        (b"[]", None, "JSON"),
        (b"{}", None, "inputs"),
        (b'{"inputs": [5]}', None, "inputs"),
        (b'{"inputs": {}}', None, "inputs"),
        (body(name="image"), None, "named"),
        (body(datatype="INT8"), None, "FP32"),
        (body(shape=[1, 3, 5, 5]), None, "shape"),
        (body(shape=[0, *SHAPE[1:]]), None, "shape"),
        (body(shape=[10**9, *SHAPE[1:]]), None, "shape"),
        (body(shape=["1", *SHAPE[1:]]), None, "shape"),
        (body(shape=[True, *SHAPE[1:]]), None, "shape"),
        (body(data=[1.0]), None, "finite numbers"),
        (body(data=[float("nan")] * (3 * tiny_version.SIZE_PX**2)), None, "finite numbers"),
        (body(data=[1e300] * (3 * tiny_version.SIZE_PX**2)), None, "finite numbers"),
        (body(data=[[1.0], [1.0, 2.0]]), None, "rows"),
        (body(data="text"), None, "rows"),
        (body(data=None, parameters=5), "5", "JSON"),
        (body(), "-1", "JSON"),
        (body(), "ten", "JSON"),
        (body(), "99999999", "JSON"),
        (json.dumps({"inputs": [WITHOUT_DATA]}).encode(), None, "neither"),
        (
            json.dumps({"inputs": [{**WITHOUT_DATA, "parameters": {"binary_data_size": 10**12}}]}).encode(),
            None,
            "neither",
        ),
    ],
)
def test_an_invalid_request_is_explained(
    client: httpx.Client, content: bytes, header: str | None, words: str
) -> None:
    headers = {"inference-header-content-length": header} if header else {}
    answer = client.post("/v2/models/immr-1/infer", content=content, headers=headers)
    assert answer.status_code == 400, answer.text
    assert words in answer.json()["error"]


def test_other_outputs_and_large_bodies_are_refused(client: httpx.Client) -> None:
    content = json.loads(body()) | {"outputs": [{"name": "logits"}]}
    assert client.post("/v2/models/immr-1/infer", json=content).status_code == 400
    large = client.post("/v2/models/immr-1/infer", content=bytes(11 * 1024 * 1024))
    assert (large.status_code, list(large.json())) == (413, ["error"])
    assert client.post("/v2/models/immr-1/infer", content=body()).status_code == 200


def test_before_it_is_ready_every_path_is_a_503(tmp_path: Path) -> None:
    with served_version(Settings(home=tmp_path), tiny_version.write_packaged(tmp_path / "immr-1")) as url:
        for path in ("/v2/health/ready", "/v2/models/immr-1/ready", "/v2/models/immr-1"):
            answer = http_client.get(url + path)
            assert answer.status_code == 503 and answer.json()["error"]
        assert ask(lambda client: client.is_model_ready(url, "immr-1")) is False
        assert http_client.post(f"{url}/v2/models/immr-1/infer", content=body()).status_code == 503
        assert http_client.get(f"{url}/v2/health/live").json() == {"live": True}
