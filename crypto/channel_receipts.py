"""The check of a closed payment channel: the document of a receipt of kind `payment_channel`.

The last transfer and the close are made anew from the document and verified with both parties' keys. So nobody can
change what a transfer made of the balances, or what both agreed to end with. What was deposited, that later nonces are
void, that a window ran out and what an operator decided rest on the platform's signature, which covers the whole
document; the channel's history proves more of it.

Source: the rules of payment channels, and SIGNING.md ("Receipts").
"""

from dataclasses import dataclass
from typing import Final

from .channel_parties import (
    CAUSE,
    JOINT_CLOSE,
    MODE,
    OFFLINE,
    OPERATOR,
    Parties,
    Transfer,
    read_amount,
    read_money,
    read_parties,
)
from .errors import ReceiptError
from .evidence import ID, TEXT, TIME, Fields, Findings

KIND: Final = "payment_channel"

_MEMBERS: Final = frozenset(
    (
        *("channel_id", "mode", "agent_a_id", "agent_b_id", "public_key_a", "public_key_b", "deposit_a", "deposit_b"),
        *("last_nonce", "last_transfer", "deposited_since_a", "deposited_since_b", "balance_a", "balance_b", "cause"),
        *("close", "reason", "final_balance_a", "final_balance_b", "currency", "exponent", "opened_at", "closed_at"),
    )
)
_TRANSFER_MEMBERS: Final = frozenset(
    (
        *("nonce", "amount", "from_agent_id", "to_agent_id", "balance_a", "balance_b", "task_id"),
        *("signature_a", "signature_b", "completed_at"),
    )
)
_CLOSE_MEMBERS: Final = frozenset(("nonce", "final_balance_a", "final_balance_b", "signature_a", "signature_b"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sides:
    """An amount of each of the two, in minor units."""

    a: int
    b: int

    @property
    def total(self) -> int:
        return self.a + self.b


def check_channel(document: object, *, signing_domain: str, document_id: str) -> Findings:
    """Prove all that the parties' signatures can prove about a closed payment channel.

    Args:
        document: The receipt's `document`, of any shape.
        document_id: The receipt's `id`, which must be the channel's.

    Raises:
        ReceiptError: `shape`, `identity`, `key`, `sum`, `nonce`, `balances`, `transfer_signature`, `payout`,
            `close_signature`.
    """
    fields = Fields(document, pointer="/document", names=_MEMBERS)
    if fields.text("channel_id", ID) != document_id:
        raise ReceiptError("The ids of receipt and channel are not the same.", check="identity")
    parties = read_parties(fields, signing_domain=signing_domain, channel_id=document_id)
    _read_words(fields)
    deposits, balances = _read_sides(fields, "deposit"), _read_sides(fields, "balance")
    finals = _read_sides(fields, "final_balance")
    if not deposits.total == balances.total == finals.total:
        raise ReceiptError("The deposits, the balances and what was paid out are not one sum.", check="sum")
    last_nonce = read_amount(fields, "last_nonce")
    transfer = _read_transfer(fields, parties, last_nonce=last_nonce)
    since = _read_sides(fields, "deposited_since")
    _require_balances(fields, transfer, deposits=deposits, since=since, balances=balances)
    payout = _check_payout(fields, parties, last_nonce=last_nonce, balances=balances, finals=finals)
    return Findings(
        checks=(parties.sentence, *_of_transfer(transfer, last_nonce), _of_balances(transfer, balances, since), payout),
        parties=parties.keys,
    )


def _read_words(fields: Fields) -> None:
    """Look at the form of what nothing but the platform vouches for."""
    read_money(fields)
    fields.text("opened_at", TIME)
    fields.text("closed_at", TIME)


def _read_sides(fields: Fields, name: str) -> _Sides:
    return _Sides(a=read_amount(fields, f"{name}_a"), b=read_amount(fields, f"{name}_b"))


def _read_transfer(fields: Fields, parties: Parties, *, last_nonce: int) -> Transfer | None:
    """The last transfer, signed by both; None where there was none."""
    is_offline = fields.text("mode", MODE) == OFFLINE
    transfer = None
    if fields.member("last_transfer") is not None:
        inside = Fields(fields.member("last_transfer"), pointer="/document/last_transfer", names=_TRANSFER_MEMBERS)
        inside.text("completed_at", TIME)
        transfer = Transfer(
            nonce=read_amount(inside, "nonce", minimum=1),
            payer_agent_id=parties.read_payer(inside),
            amount=read_amount(inside, "amount", minimum=1),
            balance_a=read_amount(inside, "balance_a"),
            balance_b=read_amount(inside, "balance_b"),
            task_id=inside.optional_text("task_id", ID),
        )
        _require_possible(transfer, parties)
        parties.require_transfer_signed_by_both(transfer, inside)
    nonce = 0 if transfer is None else transfer.nonce
    if last_nonce < nonce:
        raise ReceiptError(f"/document/last_nonce: the last transfer has used up nonce {nonce}.", check="nonce")
    if is_offline and last_nonce != nonce:
        raise ReceiptError("/document/last_nonce: in offline mode only transfers use up nonces.", check="nonce")
    return transfer


def _require_possible(transfer: Transfer, parties: Parties) -> None:
    """Return if the payee has the amount that it was paid."""
    is_paid_to_a = transfer.payer_agent_id == parties.counterparty.agent_id
    if transfer.amount > (transfer.balance_a if is_paid_to_a else transfer.balance_b):
        raise ReceiptError(
            "/document/last_transfer/amount: the payee's balance after the transfer is less.", check="balances"
        )


def _require_balances(
    fields: Fields, transfer: Transfer | None, *, deposits: _Sides, since: _Sides, balances: _Sides
) -> None:
    """Return if the balances are those of the last transfer and what was deposited since.

    Without a transfer all deposits came since then: no part is larger than its whole, and both have one sum.
    """
    if since.a > deposits.a or since.b > deposits.b:
        raise ReceiptError("More was deposited since the last transfer than in all.", check="balances")
    if transfer is not None and since.total and fields.member("mode") == OFFLINE:
        raise ReceiptError("In offline mode nothing is deposited later.", check="balances")
    before = _Sides(a=0, b=0) if transfer is None else _Sides(a=transfer.balance_a, b=transfer.balance_b)
    if balances != _Sides(a=before.a + since.a, b=before.b + since.b):
        raise ReceiptError(
            "The balances are not those after the last transfer and what was deposited since.", check="balances"
        )


def _check_payout(fields: Fields, parties: Parties, *, last_nonce: int, balances: _Sides, finals: _Sides) -> str:
    """Check why the channel has paid what it has paid, and say it."""
    cause = fields.text("cause", CAUSE)
    if (cause == JOINT_CLOSE) != (fields.member("close") is not None):
        raise ReceiptError("/document/close: a close is there where both have signed one.", check="payout")
    if (cause == OPERATOR) != (fields.member("reason") is not None):
        raise ReceiptError("/document/reason: a reason is there where an operator has decided.", check="payout")
    paid = f"{finals.a} minor units to the opener and {finals.b} to the counterparty"
    if cause == OPERATOR:
        fields.text("reason", TEXT)
        return f"An operator has decided to pay {paid}. That is the platform's word: neither party has signed it."
    if cause == JOINT_CLOSE:
        _check_close(fields, parties, last_nonce=last_nonce, finals=finals)
        return f"Both have signed the close at nonce {last_nonce}, which pays {paid}."
    if finals != balances:
        raise ReceiptError("Without a close that both have signed, the balances are paid out.", check="payout")
    return (
        f"No close has both signatures: the balances were paid out, {paid}. That the time for it had come ({cause}), "
        "and that no later transfer was handed in, is the platform's word."
    )


def _check_close(fields: Fields, parties: Parties, *, last_nonce: int, finals: _Sides) -> None:
    close = Fields(fields.member("close"), pointer="/document/close", names=_CLOSE_MEMBERS)
    if read_amount(close, "nonce") != last_nonce:
        raise ReceiptError(f"/document/close/nonce: the last consumed nonce is {last_nonce}.", check="payout")
    if _read_sides(close, "final_balance") != finals:
        raise ReceiptError("/document/close: it pays other amounts than were paid out.", check="payout")
    parties.require_close_signed_by_both(close, nonce=last_nonce, finals=(finals.a, finals.b))


def _of_transfer(transfer: Transfer | None, last_nonce: int) -> tuple[str, ...]:
    if transfer is None:
        signed = "The receipt names no transfer that both have signed."
    else:
        signed = (
            f"Both have signed transfer {transfer.nonce}, of {transfer.amount} minor units by agent "
            f"{transfer.payer_agent_id}: after it the opener had {transfer.balance_a} and the counterparty "
            f"{transfer.balance_b}."
        )
    first_void = 1 if transfer is None else transfer.nonce + 1
    if first_void > last_nonce:
        return (signed,)
    which = f"nonce {last_nonce} is" if first_void == last_nonce else f"nonces {first_void} to {last_nonce} are"
    void = f"The {which} said to be void, which is the platform's word; the channel's history shows who had signed."
    return signed, void


def _of_balances(transfer: Transfer | None, balances: _Sides, since: _Sides) -> str:
    which = "" if transfer is None else f"With what was deposited since then ({since.a} and {since.b}), "
    return (
        f"{which}{'the' if which else 'The'} balances were {balances.a} and {balances.b}, together all that was ever "
        "deposited. That it was deposited is the platform's word."
    )
