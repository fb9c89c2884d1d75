"""The fields that people and agents send: each is checked in one place and returned as it is kept.

A refusal names the field by its path (`capabilities.0.price`). Money is never rounded, text is never cut.
"""

import re
import unicodedata
from collections.abc import Callable, Collection
from typing import Final

from channels.errors import Invalid
from channels.ledger import MONEY_MAX
from channels.limits import Limits, Market
from crypto import BadKey, format_public_key, parse_public_key, public_key_from_did

NAME_CHARS_MAX: Final = 100
CAPABILITY_NAME: Final = re.compile(r"[a-z0-9_-]{1,64}\Z")
TAG: Final = re.compile(r"[a-z0-9][a-z0-9_-]*\Z")
DECIMAL: Final = re.compile(r"(0|[1-9][0-9]{0,15})(?:\.([0-9]{1,18}))?\Z")
"""An amount in major units: no sign, no exponent, no white space, digits on both sides of the point."""


def parse_money(value: object, *, exponent: int, field: str = "amount") -> int:
    """An amount as it stands in a REST body, in minor units.

    Args:
        value: An integer of minor units, or a string of major units with at most `exponent` decimals ("8.50").
        exponent: Decimals of the currency.
        field: Named in the refusal.

    Raises:
        Invalid: `invalid_amount`: anything else, or more than 2^53-1 minor units. Nothing is rounded.
    """
    if isinstance(value, str):
        amount = _parse_decimal(value, exponent)
    else:
        amount = value if isinstance(value, int) and not isinstance(value, bool) else None
    if amount is None or not 0 <= amount <= MONEY_MAX:
        raise invalid_amount(field)
    return amount


def parse_price(value: int | str | None, *, field: str, market: Market) -> int | None:
    """A price in minor units; None stays None.

    Raises:
        Invalid: `invalid_price`.
    """
    if value is None:
        return None
    price_max = market.limits.price_max
    refusal = Invalid(
        "invalid_price",
        f"A price is an integer of minor units, or a decimal string of {market.currency}; at most {price_max} units.",
        field=field,
        price_max=price_max,
    )
    try:
        price = parse_money(value, exponent=market.exponent)
    except Invalid as error:
        raise refusal from error
    if price > price_max:
        raise refusal
    return price


def parse_name(text: str, *, field: str) -> str:
    """The name of an agent, an organisation or a key: 1-100 characters; every run of white space becomes one space.

    Raises:
        Invalid: `invalid_payload` with the field.
    """
    return parse_text(" ".join(text.split()), field=field, chars_max=NAME_CHARS_MAX)


def parse_text(text: str, *, field: str, chars_max: int) -> str:
    """Free text without white space around it: not empty, at most `chars_max` characters, no control characters.

    Raises:
        Invalid: `invalid_payload` with the field.
    """
    stripped = text.strip()
    if not 1 <= len(stripped) <= chars_max:
        raise invalid_payload(field, f"{field} has 1-{chars_max} characters.")
    if any(unicodedata.category(char) in {"Cc", "Cs"} and char not in "\t\r\n" for char in stripped):
        raise invalid_payload(field, f"{field} has no control characters.")
    return stripped


def parse_tags(tags: Collection[str], limits: Limits, *, field: str) -> tuple[str, ...]:
    """Tags in lower case, each once, in the order given.

    Raises:
        Invalid: `invalid_payload` with the field.
    """
    lowered = tuple(dict.fromkeys(tag.lower() for tag in tags))
    if len(tags) > limits.tags_max:
        raise invalid_payload(field, f"At most {limits.tags_max} tags.")
    if any(not TAG.match(tag) or len(tag) > limits.tag_chars_max for tag in lowered):
        raise invalid_payload(
            field, f"A tag has 1-{limits.tag_chars_max} of a-z, 0-9, - and _, and begins with a letter or digit."
        )
    return lowered


def parse_capability_names(names: Collection[str], limits: Limits) -> tuple[str, ...]:
    """The names of an agent's capabilities, each once.

    Raises:
        Invalid: `invalid_capability` with the field.
    """
    if len(names) > limits.capabilities_max:
        raise Invalid(
            "invalid_capability", f"An agent has at most {limits.capabilities_max} capabilities.", field="capabilities"
        )
    for position, name in enumerate(names):
        if not CAPABILITY_NAME.match(name):
            raise Invalid(
                "invalid_capability",
                "A capability's name has 1-64 of a-z, 0-9, - and _.",
                field=f"capabilities.{position}",
            )
    if len({*names}) < len(names):
        raise Invalid("invalid_capability", "Each capability stands once.", field="capabilities")
    return tuple(names)


def parse_key(*, public_key: str | None, did: str | None) -> str | None:
    """The public key that was given in one form or in both, in base64; None for none.

    Raises:
        Invalid: `invalid_public_key`: not a key, or two that differ.
    """
    keys = {
        text: _key_bytes(text, parse)
        for text, parse in ((public_key, parse_public_key), (did, public_key_from_did))
        if text is not None
    }
    if len({*keys.values()}) > 1:
        raise _invalid_public_key("The public key and the did are two different keys; send one of them.")
    return next(map(format_public_key, keys.values()), None)


def invalid_payload(field: str, message: str) -> Invalid:
    """The refusal of a field that is not as it must be."""
    return Invalid("invalid_payload", message, field=field)


def invalid_amount(field: str) -> Invalid:
    """The refusal of what is no amount of money."""
    return Invalid(
        "invalid_amount",
        "Money is an integer of minor units, or a decimal string of major units with no more decimals than the"
        f" currency has; at most {MONEY_MAX} minor units. Nothing is rounded.",
        field=field,
    )


def _key_bytes(text: str, parse: Callable[[str], bytes]) -> bytes:
    try:
        return parse(text)
    except BadKey as error:
        raise _invalid_public_key(
            "A public key is 32 bytes of Ed25519 in standard padded base64, or the same as did:key."
        ) from error


def _invalid_public_key(message: str) -> Invalid:
    return Invalid("invalid_public_key", message, field="public_key")


def _parse_decimal(text: str, exponent: int) -> int | None:
    """Minor units of a decimal string of major units; None where it is none, or has too many decimals."""
    match = DECIMAL.match(text)
    if match is None:
        return None
    whole, fraction = match.group(1), match.group(2) or ""
    return None if len(fraction) > exponent else int(whole + fraction.ljust(exponent, "0"))
