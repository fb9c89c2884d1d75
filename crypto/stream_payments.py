"""What a task's receipt says of output that was paid as it streamed: the price of a unit, and how far it was paid.

Source: the rules of paying as it streams, and SIGNING.md ("Receipts").
"""

from dataclasses import dataclass
from typing import Final

from .channel_parties import read_amount
from .errors import ReceiptError
from .evidence import ID, Fields, choice
from .task_streams import TaskStream

_PER_BYTES: Final = "bytes"
_PER: Final = choice("chunk", _PER_BYTES)
_MEMBERS: Final = frozenset(("amount", "per", "unit_bytes", "credit"))


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPrice:
    """What a unit of the output costs.

    Args:
        amount: In minor units.
        unit_bytes: A unit is so many bytes begun; None where it is a chunk.
        credit: Units that may be delivered ahead of their payment.
    """

    amount: int
    unit_bytes: int | None
    credit: int

    def units_of(self, output: TaskStream) -> int:
        """The units of an output as far as it came without a gap."""
        if self.unit_bytes is None:
            return output.chunks
        return -(-output.total_size // self.unit_bytes)  # Rounds up: a unit that has begun is one.


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPaid:
    """How far the output was paid.

    Args:
        paid: By the client for this task, in minor units.
        units: That were stored.
        paid_up_to: Units that are paid whole.
    """

    channel_id: str
    price: StreamPrice
    paid: int
    units: int
    paid_up_to: int

    @property
    def sentence(self) -> str:
        """What the receipt says of it."""
        unit = "chunk" if self.price.unit_bytes is None else f"{self.price.unit_bytes} bytes begun"
        return (
            f"It was paid as it streamed, over the payment channel {self.channel_id}, whose history proves the "
            f"transfers: {self.price.amount} minor units for each unit ({unit}), {self.units} units delivered, "
            f"{self.paid_up_to} paid by {self.paid} minor units; never more than {self.price.credit} ahead of them."
        )


def read_stream_paid(fields: Fields, *, output: TaskStream) -> StreamPaid | None:
    """How the output was paid as it streamed; None where a price was held, or nothing was to pay.

    Args:
        fields: The task's document.
        output: Its output stream.

    Raises:
        ReceiptError: `shape`, `stream_price`.
    """
    paid = read_amount(fields, "paid")
    if fields.member("stream_price") is None:
        if paid or any(fields.member(name) is not None for name in ("channel_id", "units", "paid_up_to")):
            raise ReceiptError(
                "/document/stream_price: without one there is no channel, and nothing is paid over it.",
                check="stream_price",
            )
        return None
    found = StreamPaid(
        channel_id=fields.text("channel_id", ID),
        price=_read_price(Fields(fields.member("stream_price"), pointer="/document/stream_price", names=_MEMBERS)),
        paid=paid,
        units=read_amount(fields, "units"),
        paid_up_to=read_amount(fields, "paid_up_to"),
    )
    _require_units(found, output)
    return found


def _read_price(fields: Fields) -> StreamPrice:
    is_per_bytes = fields.text("per", _PER) == _PER_BYTES
    if is_per_bytes != (fields.member("unit_bytes") is not None):
        raise ReceiptError(
            "/document/stream_price/unit_bytes: a unit has a size just where it is one of bytes.", check="stream_price"
        )
    return StreamPrice(
        amount=read_amount(fields, "amount", minimum=1),
        unit_bytes=read_amount(fields, "unit_bytes", minimum=1) if is_per_bytes else None,
        credit=read_amount(fields, "credit", minimum=1),
    )


def _require_units(found: StreamPaid, output: TaskStream) -> None:
    """Return if the units are those of the output, and of what was paid. Chunks beyond a gap are counted too."""
    price = found.price
    whole = found.paid // price.amount  # Rounds down: only whole units are paid.
    if found.paid_up_to != whole:
        raise ReceiptError(f"/document/paid_up_to: what was paid makes {whole} whole units.", check="stream_price")
    if found.units > whole + price.credit:
        raise ReceiptError("/document/units: more were delivered than were paid and on credit.", check="stream_price")
    units = price.units_of(output)
    if found.units < units or (output.checksum is not None and found.units != units):
        raise ReceiptError(f"/document/units: the output makes {units}.", check="stream_price")
    if price.unit_bytes is not None and output.total_size > output.chunks * price.unit_bytes:
        raise ReceiptError(
            "/document/streams/output/total_size: no chunk is larger than a unit of bytes.", check="stream_price"
        )
