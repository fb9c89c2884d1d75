"""Amounts: minor units and major units, without rounding."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agrenting.client.amounts import AMOUNT_MAX, format_amount, parse_amount
from channels.errors import Invalid
from channels.fields import parse_money


@pytest.mark.parametrize(
    ("value", "exponent", "minor"),
    [
        (8_500_000, 6, 8_500_000),
        ("8.50", 6, 8_500_000),
        ("8", 6, 8_000_000),
        ("0.000001", 6, 1),
        ("8.5", 2, 850),
        ("8", 0, 8),
        (0, 2, 0),
        (AMOUNT_MAX, 2, AMOUNT_MAX),
    ],
)
def test_integers_are_minor_units_and_text_is_major_units(value: int | str, exponent: int, minor: int) -> None:
    assert parse_amount(value, exponent) == minor


@pytest.mark.parametrize("value", [8.5, True, None, b"8.50"])
def test_what_could_be_rounded_or_meant_otherwise_is_no_amount(value: Any) -> None:
    with pytest.raises(TypeError, match=r'"8\.50"'):
        parse_amount(value, 6)


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("8,50", "write major units with a point"),
        ("USD 8", "write major units with a point"),
        ("", "write major units with a point"),
        ("-1", "write major units with a point"),
        ("٨", "write major units with a point"),
        ("8.501", "3 decimals, and this market's currency has 2"),
        (-1, "not -1"),
        (AMOUNT_MAX + 1, str(AMOUNT_MAX)),
        ("9999999999999999", str(AMOUNT_MAX)),
    ],
)
def test_the_refusal_of_an_amount_says_what_to_write(value: int | str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_amount(value, 2)


@given(value=st.one_of(st.integers(-2, 2**54), st.from_regex(r"[0-9]{1,17}(\.[0-9]{0,8})?", fullmatch=True)))
def test_amounts_mean_what_they_mean_to_the_server(value: int | str) -> None:
    try:
        expected = parse_money(value, exponent=6)
    except Invalid:
        with pytest.raises(ValueError, match=r"."):
            parse_amount(value, 6)
    else:
        assert parse_amount(value, 6) == expected


@pytest.mark.parametrize(
    ("minor", "exponent", "shown"),
    [
        (8_500_000, 6, "USD 8.50"),
        (8_500_001, 6, "USD 8.500001"),
        (0, 6, "USD 0.00"),
        (7, 0, "USD 7"),
        (85, 1, "USD 8.5"),
        (80, 1, "USD 8.0"),
        (-1_250_000, 6, "USD -1.25"),
    ],
)
def test_people_see_major_units_with_all_that_is_not_zero(minor: int, exponent: int, shown: str) -> None:
    assert format_amount(minor, currency="USD", exponent=exponent) == shown


@given(minor=st.integers(0, AMOUNT_MAX), exponent=st.integers(0, 18))
def test_what_people_see_can_be_written(minor: int, exponent: int) -> None:
    shown = format_amount(minor, currency="USD", exponent=exponent).removeprefix("USD ")

    assert parse_amount(shown, exponent) == minor
