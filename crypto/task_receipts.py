"""The check of a task that has ended: the document of a receipt of kind `task`.

Neither party signs a task: that it was so is the platform's word, whose signature covers the whole document. What can
be proved is that the document does not contradict itself: the money adds up, the fee follows from its rate, status,
escrow and settlement fit each other and what was delivered, and the streams are possible. Times are not compared: a
clock may have been set back. With the files at hand, their checksums prove what was delivered (stream_files.py).

Source: the rules of tasks, and SIGNING.md ("Receipts").
"""

from dataclasses import dataclass
from typing import Final

from .channel_parties import read_amount, read_money
from .errors import ReceiptError
from .evidence import DIGEST, ID, NAME, TEXT, TIME, Fields, Findings, choice
from .stream_payments import StreamPaid, read_stream_paid
from .task_streams import Direction, TaskStream, read_streams

KIND: Final = "task"

MEMBERS: Final = frozenset(
    (
        *("task_id", "client_agent_id", "provider_agent_id", "capability", "status", "negotiation_session_id"),
        *("price", "fee_bps", "escrow_status", "to_client", "to_provider", "fee", "settlement"),
        *("channel_id", "stream_price", "paid", "units", "paid_up_to", "streams"),
        *("input_digest", "result_given", "result_digest", "currency", "exponent"),
        *("created_at", "started_at", "ended_at"),
    )
)
_SETTLEMENT_MEMBERS: Final = frozenset(("decision", "decided_by", "reason", "disputed_at", "settled_at"))

BASIS_POINTS: Final = 10_000

_COMPLETED, _FAILED, _CANCELLED = "completed", "failed", "cancelled"
_STATUS: Final = choice(_COMPLETED, _FAILED, _CANCELLED)
_NONE, _RELEASED, _REFUNDED, _SPLIT = "none", "released", "refunded", "split"
_ESCROW: Final = choice(_NONE, _RELEASED, _REFUNDED, _SPLIT)
_DECISION: Final = choice("client", "provider", "split")
_OPERATOR, _DEFAULT, _AUTOMATIC = "operator", "default", "automatic"
_DECIDED_BY: Final = choice(_OPERATOR, _DEFAULT, _AUTOMATIC)

_ENDS: Final = {
    "client": (_FAILED, _REFUNDED),
    "provider": (_COMPLETED, _RELEASED),
    "split": (_COMPLETED, _SPLIT),
}
"""The status and the escrow that each decision of a dispute ends with."""

_UNDISPUTED: Final = {_COMPLETED: _RELEASED, _FAILED: _REFUNDED, _CANCELLED: _REFUNDED}
"""The escrow that each status ends with where there was a price and no dispute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Money:
    """Where the price went, in minor units; `to_provider` is what is left for it after the fee."""

    price: int
    to_client: int
    to_provider: int
    fee: int
    fee_bps: int

    @property
    def sentence(self) -> str:
        return (
            f"Of the price of {self.price} minor units the client got {self.to_client} back, the provider was paid "
            f"{self.to_provider}, and the fee was {self.fee}: {self.fee_bps} basis points of the provider's part, "
            "rounded down."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Settlement:
    decision: str
    decided_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _End:
    """How a task has ended, and what there was by then."""

    status: str
    escrow: str
    settlement: _Settlement | None
    streams: dict[Direction, TaskStream]
    is_started: bool
    is_result_given: bool

    @property
    def is_delivered(self) -> bool:
        return self.is_result_given or self.streams["output"].is_delivered

    @property
    def sentence(self) -> str:
        if self.settlement is None:
            return f"The task was {self.status} without a dispute being settled."
        return (
            f"A dispute was settled for the {self.settlement.decision} ({self.settlement.decided_by}), and the task "
            f"ended as {self.status}."
        )


def check_task(document: object, *, signing_domain: str, document_id: str) -> Findings:
    """Prove that what the platform says of a task that has ended does not contradict itself.

    Args:
        document: The receipt's `document`, of any shape.
        signing_domain: The deployment's; nothing inside the document is signed by itself.
        document_id: The receipt's `id`, which must be the task's.

    Raises:
        ReceiptError: `shape`, `identity`, `sum`, `fee`, `escrow`, `status`, `settlement`, `stream`, `stream_price`.
    """
    del signing_domain
    fields = Fields(document, pointer="/document", names=MEMBERS)
    subject = _read_subject(fields, document_id=document_id)
    money = _read_money(fields)
    end = _read_end(fields, price=money.price)
    _require_paid_out(money, end)
    _require_status(end)
    _require_settlement(end)
    paid = read_stream_paid(fields, output=end.streams["output"])
    if paid is not None:
        _require_unheld(fields, money)
    return Findings(
        checks=(
            subject,
            end.sentence,
            *_of_payment(money, paid),
            *(end.streams[direction].sentence for direction in end.streams),
            *_of_documents(fields, end),
            "All of this is the platform's word: neither party has signed it. It does not contradict itself.",
        ),
        parties={},
    )


def _read_subject(fields: Fields, *, document_id: str) -> str:
    if fields.text("task_id", ID) != document_id:
        raise ReceiptError("The ids of receipt and task are not the same.", check="identity")
    client, provider = fields.text("client_agent_id", ID), fields.text("provider_agent_id", ID)
    if client == provider:
        raise ReceiptError("Client and provider are one agent.", check="identity")
    read_money(fields)
    fields.text("created_at", TIME)
    fields.text("ended_at", TIME)
    session_id = fields.optional_text("negotiation_session_id", ID)
    agreed = "" if session_id is None else f", by the agreement {session_id}"
    return f"Client {client} has hired provider {provider} for {fields.text('capability', NAME)}{agreed}."


def _read_money(fields: Fields) -> _Money:
    """The money, if it adds up and the fee follows from its rate."""
    money = _Money(
        price=read_amount(fields, "price"),
        to_client=read_amount(fields, "to_client"),
        to_provider=read_amount(fields, "to_provider"),
        fee=read_amount(fields, "fee"),
        fee_bps=fields.integer("fee_bps", minimum=0, maximum=BASIS_POINTS),
    )
    if money.to_client + money.to_provider + money.fee != money.price:
        raise ReceiptError("What client and provider were paid and the fee do not add up to the price.", check="sum")
    fee = (money.price - money.to_client) * money.fee_bps // BASIS_POINTS  # Rounds down, in the provider's favour.
    if money.fee != fee:
        raise ReceiptError(f"/document/fee: its rate, of the provider's part, makes {fee}.", check="fee")
    return money


def _read_end(fields: Fields, *, price: int) -> _End:
    end = _End(
        status=fields.text("status", _STATUS),
        escrow=fields.text("escrow_status", _ESCROW),
        settlement=_read_settlement(fields),
        streams=read_streams(fields),
        is_started=fields.optional_text("started_at", TIME) is not None,
        is_result_given=fields.flag("result_given"),
    )
    if (end.escrow == _NONE) != (price == 0):
        raise ReceiptError("/document/escrow_status: it is none just where the price is 0.", check="escrow")
    return end


def _read_settlement(fields: Fields) -> _Settlement | None:
    if fields.member("settlement") is None:
        return None
    inside = Fields(fields.member("settlement"), pointer="/document/settlement", names=_SETTLEMENT_MEMBERS)
    inside.text("disputed_at", TIME)
    inside.text("settled_at", TIME)
    settlement = _Settlement(
        decision=inside.text("decision", _DECISION), decided_by=inside.text("decided_by", _DECIDED_BY)
    )
    if (settlement.decided_by == _OPERATOR) != (inside.optional_text("reason", TEXT) is not None):
        raise ReceiptError(
            "/document/settlement/reason: a reason is there just where an operator has decided.", check="settlement"
        )
    return settlement


def _require_paid_out(money: _Money, end: _End) -> None:
    """Return if the amounts are those that the escrow says. The price of a split is never all the client's."""
    is_possible = {
        _NONE: True,  # All amounts are 0, because they add up to the price.
        _RELEASED: money.to_client == 0,
        _REFUNDED: money.to_client == money.price,
        _SPLIT: money.to_client < money.price,
    }
    if not is_possible[end.escrow]:
        raise ReceiptError(f"/document/to_client: a price that was {end.escrow} goes elsewhere.", check="escrow")


def _require_status(end: _End) -> None:
    """Return if status, escrow and settlement fit each other, and what was delivered."""
    if end.settlement is not None:
        if (end.status, end.escrow) != _ENDS[end.settlement.decision]:
            status, escrow = _ENDS[end.settlement.decision]
            raise ReceiptError(
                f"/document/status: a dispute decided for the {end.settlement.decision} ends as {status}, {escrow}.",
                check="status",
            )
    elif end.escrow not in {_NONE, _UNDISPUTED[end.status]}:
        raise ReceiptError(
            f"/document/escrow_status: without a dispute, the price of a task that was {end.status} is "
            f"{_UNDISPUTED[end.status]}.",
            check="status",
        )
    output = end.streams["output"]
    if not end.is_started and (end.status == _COMPLETED or end.is_result_given or output.was_used):
        raise ReceiptError("/document/started_at: work that came was started.", check="status")
    if end.settlement is None and end.status == _COMPLETED:
        if not end.is_delivered:
            raise ReceiptError(
                "/document/status: without verified output or a result no task is completed.", check="status"
            )
        if output.chunks and output.checksum is None:
            raise ReceiptError(
                "/document/streams/output: a task is completed once the output that was begun is closed.",
                check="status",
            )
    if end.settlement is None and end.status != _COMPLETED and end.is_result_given:
        raise ReceiptError("/document/result_given: a result comes with the completion.", check="status")


def _require_settlement(end: _End) -> None:
    """Return if who decided could decide so."""
    if end.settlement is None or end.settlement.decided_by == _OPERATOR:
        return
    if end.settlement.decided_by == _DEFAULT:
        decision = "provider" if end.is_delivered else "client"
        why = "the clock decides for the provider just where output was verified or a result given"
    else:
        decision = "nobody" if end.is_result_given or end.streams["output"].chunks else "client"
        why = "at once it is decided for the client, and only where nothing was delivered"
    if end.settlement.decision != decision:
        raise ReceiptError(f"/document/settlement/decision: {why}.", check="settlement")


def _require_unheld(fields: Fields, money: _Money) -> None:
    if money.price or fields.member("negotiation_session_id") is not None:
        raise ReceiptError(
            "/document/stream_price: what is paid as it streams has no held price and no agreement.",
            check="stream_price",
        )


def _of_payment(money: _Money, paid: StreamPaid | None) -> tuple[str, ...]:
    if paid is not None:
        return (paid.sentence,)
    return (money.sentence,) if money.price else ("It had no price.",)


def _of_documents(fields: Fields, end: _End) -> tuple[str, ...]:
    """What was said at the opening and at the completion; a digest stands for it, so that it need not be shown."""
    digests = {name: fields.optional_text(f"{name}_digest", DIGEST) for name in ("input", "result")}
    if digests["result"] is not None and not end.is_result_given:
        raise ReceiptError("/document/result_digest: there is no result.", check="status")
    said = {"input": "given at the opening", "result": "given with the completion"}
    return tuple(
        f"The canonical JSON of the {name} {said[name]} has the SHA-256 {digest}."
        for name, digest in digests.items()
        if digest is not None
    )
