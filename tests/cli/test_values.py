"""Shares, lengths of time and other values of options."""

from __future__ import annotations

import pytest
import typer

from immr.cli.values import a_duration, a_share, in_words, shares


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("10%", 0.1),
        ("0.1", 0.1),
        ("0.5%", 0.005),
        ("100%", 1.0),
        ("0", 0.0),
        ("50 %", 0.5),
        ("50", 0.5),
        (0.5, 0.5),
    ],
)
def test_a_share_is_a_percentage_or_a_fraction(text: str | float, share: float) -> None:
    """`--weight` took fractions only, `--ramp` and `--holdout` percentages only."""
    assert a_share(text) == pytest.approx(share)


def test_one_may_be_a_percentage_or_everybody() -> None:
    with pytest.raises(typer.BadParameter, match="1 may be 1% or 100%: add the %"):
        a_share("1")


@pytest.mark.parametrize("text", ["", "%", "half", "nan%", "inf"])
def test_other_texts_are_no_shares(text: str) -> None:
    with pytest.raises(typer.BadParameter, match=r"is not a share such as 10% or 0\.1"):
        a_share(text)


def test_a_list_of_shares_names_its_option() -> None:
    assert shares("1%,0.05, 25%", "--ramp") == pytest.approx([0.01, 0.05, 0.25])
    assert shares("1,5,25,50", "--ramp") == pytest.approx([0.01, 0.05, 0.25, 0.5])
    with pytest.raises(typer.BadParameter) as refused:
        shares("0.5,1", "--ramp")
    assert refused.value.param_hint == "--ramp"


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("5m", 300), ("6h", 21_600), ("1d", 86_400)])
def test_a_duration_is_read_and_written_the_same_way(text: str, seconds: int) -> None:
    assert a_duration(text) == seconds
    assert in_words(seconds) == text


@pytest.mark.parametrize("text", ["", "6", "soon", "0h", "²h", "1.5h"])
def test_other_texts_are_no_durations(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is not a length of time such as 30s"):
        a_duration(text)
