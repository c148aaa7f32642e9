import pytest

from serving.gateway.visitor import new_visitor, signed, visitor_of

OLD, NEW = b"old" * 11, b"new" * 11


def test_a_cookie_identifies_its_visitor() -> None:
    visitor = new_visitor()
    assert visitor_of(signed(visitor, NEW), [NEW, OLD]) == (visitor, True)
    assert visitor_of(signed(visitor, OLD), [NEW, OLD]) == (visitor, False)  # to be signed again
    assert new_visitor() != visitor


@pytest.mark.parametrize("cookie", ["", "ann", "a" * 32, f"{'a' * 32}.{'b' * 22}", f"{'A' * 32}.{'b' * 22}"])
def test_a_forged_cookie_identifies_nobody(cookie: str) -> None:
    assert visitor_of(cookie, [NEW]) == ("", False)


def test_nobody_can_assume_another_visitors_id() -> None:
    mine, other = new_visitor(), new_visitor()
    forged = f"{other}.{signed(mine, NEW).split('.')[1]}"
    assert visitor_of(forged, [NEW]) == ("", False)
