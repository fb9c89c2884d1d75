"""How the page writes numbers, read back: an amount is compared as an amount, however many zeros end it."""

import re
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final

EXPONENT: Final = 6
NOTHING: Final = "–"
AMOUNT: Final = re.compile(r"(-?)\$([\d,]+)(?:\.(\d+))?")
NUMBER: Final = re.compile(r"\d[\d,]*(?:\.\d+)?")


def dollars(minor: int) -> re.Pattern[str]:
    """What says so many minor units of a dollar, in full."""
    whole, rest = divmod(abs(minor), 10**EXPONENT)
    digits = f"{rest:06d}".rstrip("0")
    sign = "-" if minor < 0 else ""
    fraction = rf"\.{digits}0*" if digits else r"(?:\.0+)?"
    return re.compile(rf"(?<![\d.]){sign}\${whole:,}{fraction}(?![\d.,]*\d)")


def minor_units(text: str) -> int:
    """The one amount in a text, in minor units."""
    ((sign, whole, fraction),) = AMOUNT.findall(text)
    minor = int(whole.replace(",", "")) * 10**EXPONENT + int((fraction or "0").ljust(EXPONENT, "0"))
    return -minor if sign else minor


def numbers(text: str) -> list[float]:
    """Every plain number in a text, in order."""
    return [float(found.replace(",", "")) for found in NUMBER.findall(text)]


def count(number: float) -> str:
    """A number with separators, at most two decimals."""
    return f"{Decimal(str(number)).quantize(Decimal('0.01'), ROUND_HALF_EVEN):,}".removesuffix(".00")


def percent(share: float | None) -> str:
    """A part of one, to a tenth of a per cent."""
    if share is None:
        return NOTHING
    return f"{share * 100:.1f}".removesuffix(".0") + "%"


def milliseconds(text: str) -> float | None:
    """A time below an hour, as it is written: `840 ms`, `3.2 s`, `1 min 10 s`."""
    if text == NOTHING:
        return None
    units = {"ms": 1, "s": 1_000, "min": 60_000}
    parts = re.findall(r"([\d.,]+) (ms|s|min)", text)
    assert parts, text
    return sum(float(number.replace(",", "")) * units[unit] for number, unit in parts)
