"""Money as people write it: integers are minor units, text is major units."""

import re
from typing import Final, TypeAlias

Amount: TypeAlias = int | str
"""Minor units as an integer (`8_500_000`), or major units as text (`"8.50"`). Never a float: it would round."""

AMOUNT_MAX: Final = 2**53 - 1
"""The most minor units that any amount has: what JSON carries exactly everywhere."""

DECIMALS_SHOWN_MIN: Final = 2

_MAJOR: Final = re.compile(r"(0|[1-9][0-9]{0,15})(?:\.([0-9]{1,18}))?")


def parse_amount(value: Amount, exponent: int) -> int:
    """An amount in minor units. Nothing is rounded.

    Args:
        value: Minor units as an integer, or major units as text with at most `exponent` decimals.
        exponent: The decimals of the market's currency.

    Raises:
        TypeError: It is neither, such as a float.
        ValueError: It is text of another form, has too many decimals, is negative, or above 2^53-1 minor units.
    """
    if not _is_amount(value):
        raise TypeError(
            f'an amount is an integer of minor units, or text of major units such as "8.50"; not {type(value).__name__}'
        )
    amount = value if isinstance(value, int) else _minor(value, exponent)
    if not 0 <= amount <= AMOUNT_MAX:
        raise ValueError(f"an amount is 0 to {AMOUNT_MAX} minor units, not {amount}")
    return amount


def format_amount(minor: int, *, currency: str, exponent: int) -> str:
    """An amount for people: `USD 8.50`. All that is not zero is shown, and two decimals where the currency has them.

    Args:
        minor: Minor units.
        currency: The market's.
        exponent: The decimals of that currency.
    """
    whole, part = divmod(abs(minor), 10**exponent)
    shown = f"{part:0{exponent}d}".rstrip("0") if exponent else ""
    shown = shown.ljust(min(DECIMALS_SHOWN_MIN, exponent), "0")
    return f"{currency} {'-' if minor < 0 else ''}{whole}{'.' if shown else ''}{shown}"


def _is_amount(value: object) -> bool:
    """Whether it is of a type that loses nothing; callers without a type checker may hand in a float."""
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def _minor(text: str, exponent: int) -> int:
    match = _MAJOR.fullmatch(text)
    if match is None:
        raise ValueError(f'{text!r} is no amount: write major units with a point, such as "8.50"')
    whole, part = match[1], match[2] or ""
    if len(part) > exponent:
        raise ValueError(f"{text} has {len(part)} decimals, and this market's currency has {exponent}")
    return int(whole + part.ljust(exponent, "0"))
