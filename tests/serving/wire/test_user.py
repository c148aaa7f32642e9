from __future__ import annotations

import pytest

from serving.wire.problems import ProblemError
from serving.wire.schemas import USER_HEADER, USER_KEY_HEADER
from serving.wire.user import user_headers, user_of


@pytest.mark.parametrize("user", ["ann", "Zoë / 7%", "a\r\nb", "", "用户" * 100])
def test_a_user_survives_the_headers(user: str) -> None:
    headers = user_headers(user)
    assert all(value.isascii() and value.isprintable() for value in headers.values())
    assert user_of(headers)[0] == user


def test_half_a_character_does_not_stop_a_search() -> None:
    assert user_of(user_headers("a\ud800"))[0] == "a?"


@pytest.mark.parametrize("header", [{USER_KEY_HEADER: "not hex"}, {USER_HEADER: "u" * 201}])
def test_headers_of_others_are_refused(header: dict[str, str]) -> None:
    with pytest.raises(ProblemError) as refused:
        user_of(header)
    assert refused.value.problem.status == 422
