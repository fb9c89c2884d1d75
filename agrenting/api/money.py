"""Money as it is sent: an integer of minor units, or a decimal string of major units. Nothing is ever rounded.

Answers, sockets and signed amounts are integers only.
"""

from typing import Annotated, Final

from msgspec import Meta

from channels.fields import DECIMAL
from channels.ledger import MONEY_MAX
from channels.registration import parse_money

FORMAT: Final = "money"
"""What the document's schemas call it, until `FORMS` takes its place."""

FORMS: Final = (
    {"type": "integer", "minimum": 0, "maximum": MONEY_MAX, "description": "Minor units."},
    {
        "type": "string",
        "pattern": f"^{DECIMAL.pattern.removesuffix('Z').removesuffix(chr(92))}$",
        "description": 'Major units: "8.50".',
    },
)
"""The two forms, for the document."""

Money = Annotated[int | str, Meta(extra_json_schema={"format": FORMAT})]
"""An amount in a body; `parse_money` says whether it is one."""


def parse_query_money(text: str, *, exponent: int, field: str) -> int:
    """An amount in a query, where everything is text: digits alone are minor units, with a point it is major units.

    Raises:
        Invalid: `invalid_amount`.
    """
    is_integer = text.isascii() and text.isdigit()
    digits_max = len(str(MONEY_MAX))
    value = int(text) if is_integer and len(text) <= digits_max else text
    return parse_money(value, exponent=exponent, field=field)
