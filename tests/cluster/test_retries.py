"""How long API calls are repeated, and their errors as sentences."""

from __future__ import annotations

import json

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import ProtocolError

from immr.cluster import retries
from immr.cluster.retries import api_errors_as, describe, retried
from immr.errors import DeployError


class Server:
    """Fails with each of these errors in turn, then answers; its clock only moves while we sleep."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *errors: Exception) -> None:
        self.errors, self.calls, self.now_s = list(errors), 0, 0.0
        monkeypatch.setattr(retries.time, "monotonic", lambda: self.now_s)
        monkeypatch.setattr(retries.time, "sleep", self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


def test_an_outage_of_22_seconds_is_survived_while_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch, *[ProtocolError("cut")] * 6)  # after 0.5, 1, 2, 4, 8 and 15 s
    assert retried(server, retries.LONG_PATIENCE_S) == "answer"
    assert server.now_s > 22


def test_a_single_call_gives_up_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch, *[ProtocolError("cut")] * 100)
    with pytest.raises(OSError, match="does not answer"):
        retried(server)
    assert server.now_s <= retries.PATIENCE_S


def test_an_operator_that_moves_to_another_node_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A run failed because Trainer's pod had been drained half a minute before the step created its job."""
    away = ApiException(status=500)
    away.body = json.dumps(
        {"message": 'failed calling webhook "trainjob": no endpoints available for service "trainer"'}
    )
    server = Server(monkeypatch, *[away] * 9)
    assert retried(server) == "answer"
    assert retries.PATIENCE_S < 60 < server.now_s < retries.WEBHOOK_PATIENCE_S
    (warning,) = (one.message for one in caplog.records if one.levelname == "WARNING")
    assert (
        "no endpoints available" in warning
        and "is the operator that this webhook belongs to running?" in warning
    )
    server = Server(monkeypatch, *[away] * 100)
    with pytest.raises(ApiException):
        retried(server)
    assert server.now_s <= retries.WEBHOOK_PATIENCE_S


def test_a_refusal_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch, ApiException(status=403))
    with pytest.raises(ApiException):
        retried(server)
    assert server.calls == 1


def test_retry_after_decides_the_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = ApiException(status=429)
    busy.headers = {"Retry-After": "3"}
    server = Server(monkeypatch, busy)
    assert retried(server) == "answer"
    assert server.now_s == 3


def test_an_unreachable_server_is_named() -> None:
    configuration = client.Configuration()
    configuration.host, configuration.retries = "http://127.0.0.1:9", False
    core = client.CoreV1Api(client.ApiClient(configuration))
    with pytest.raises(OSError, match="does not answer") as caught:
        retried(lambda: core.list_namespaced_pod("immr"), patience_s=0.1, first_wait_s=0.01)
    assert "can this machine reach the API server" in describe(caught.value, "listing pods")


def test_a_failed_call_is_raised_as_our_own_error() -> None:
    error = ApiException(status=422)
    error.body = '{"message": "memory: 3Gx is invalid"}'
    with (
        pytest.raises(DeployError, match=r"deploying immr-3: .* answers 422, memory: 3Gx is invalid; .*_URL"),
        api_errors_as(DeployError, "deploying immr-3"),
    ):
        raise error
