"""Kafka URLs, whose passwords never appear in messages."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from immr.errors import SettingsError
from immr.events.kafka.url import KafkaUrl


def test_a_url_has_brokers_topic_and_settings(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret\n")
    url = KafkaUrl.parse(f"kafka://a:1,b:2/t?security.protocol=SSL&sasl.password.file={tmp_path}/password")
    assert url.topic == "t"
    assert url.config == {
        "bootstrap.servers": "a:1,b:2",
        "security.protocol": "SSL",
        "sasl.password": "secret",
    }
    assert "secret" not in repr(url)
    (tmp_path / "binary").write_bytes(b"\xff\xff")
    for wrong in (
        "kafka://a:1",
        "kafka:///t",
        "http://a/t",
        "kafka://a/t/u",
        "kafka://a/t?x.file=/no/file",
        f"kafka://a/t?x.file={tmp_path}/binary",
        "kafka://[a/t",
    ):
        with pytest.raises(SettingsError):
            KafkaUrl.parse(wrong)


def test_a_plus_sign_in_a_password_is_no_space() -> None:
    assert KafkaUrl.parse("kafka://a:1/t?sasl.password=a+b%2Fc%20d").config["sasl.password"] == "a+b/c d"


@pytest.mark.parametrize(
    "wrong",
    [
        "kafka://a:1?sasl.password=hunter2",
        "kafka://a:1/t/u?sasl.password=hunter2",
        "kafka:///t?sasl.password=hunter2",
        "kafka://ann:hunter2@a:1/t",
        "kafka://ann:hunter2@a:1",
        "kafka://ann:of/hunter2@a:1/t",
        "kafka://[ann:hunter2@a:1/t",
        "kafka://ann:hunter2@\u2100a:1/t",
        "kafka://a:1/t?sasl.password=hunter2&x.file=/no/file",
    ],
)
def test_error_messages_never_quote_a_password(wrong: str) -> None:
    with pytest.raises(SettingsError) as caught:
        KafkaUrl.parse(wrong)
    shown = "".join(traceback.format_exception(caught.value))
    assert "hunter2" not in shown.replace(f"KafkaUrl.parse({wrong!r})", "")
