import pytest

from serving.wire.json_body import read_json
from serving.wire.problems import ProblemError


def test_json_is_read() -> None:
    assert read_json('{"k": [1, {"ü": null}]}'.encode()) == {"k": [1, {"ü": None}]}


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000])
def test_what_is_not_json_is_a_400(body: bytes) -> None:
    with pytest.raises(ProblemError, match="not valid JSON"):
        read_json(body)


def test_a_repeated_key_is_refused_at_any_depth() -> None:
    with pytest.raises(ProblemError, match="'k' occurs more than once"):
        read_json(b'[{"a": {"k": 1, "k": 2}}]')
