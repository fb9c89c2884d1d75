"""What is wrong with a scrambled move: other things signed than what is due, and chains with a flaw."""

import msgspec

from tests.channels.payment_stage import Json
from tests.channels.payment_witness import Deed, Notary
from tests.channels.roles import ALICE, BOB, CAROL, OTHER_ID, Player

FALSEHOODS = ("nonce", "ahead", "channel", "domain", "swapped", "forged", "payer", "amount", "garbage")
"""What a signature may be over; `forged`: by another's key."""

FLAWS = ("swapped", "mixed", "stranger", "signature", "amount", "again")
"""What may be wrong with one transfer of a chain."""


def false_signature(notary: Notary, signer: Player, deed: Deed, falsehood: str) -> str:
    """A signature over something else than what is due; with an empty falsehood, just that."""
    told = _other_deed(deed, falsehood)
    if min(told.balances) < 0:
        return "too much to be signed"
    signature = notary.sign(signer, told)
    return signature[:-1] if falsehood == "garbage" else signature


def _other_deed(deed: Deed, falsehood: str) -> Deed:
    balance_a, balance_b = deed.balances
    changed: dict[str, Json] = {
        "nonce": {"nonce": max(deed.nonce - 1, 0)},
        "ahead": {"nonce": deed.nonce + 1},
        "channel": {"channel_id": OTHER_ID},
        "domain": {"domain": "other.test"},
        "swapped": {"balances": (balance_b, balance_a)},
        "payer": {"payer": BOB.id if deed.paid_by(ALICE) else ALICE.id},
        "amount": {"amount": deed.amount + 1},
    }
    is_unsaid = deed.payer is None and falsehood in {"payer", "amount"}  # A close says neither.
    return deed if is_unsaid else msgspec.structs.replace(deed, **changed.get(falsehood, {}))


def spoilt(chain: list[Json], flaw: str, pick: int) -> list[Json]:
    """A chain with one flaw, in one of its last three transfers: what was handed in before is not looked at again."""
    if not chain or not flaw:
        return chain
    at = len(chain) - 1 - pick % min(len(chain), 3)
    one = chain[at]
    changed: dict[str, Json] = {
        "swapped": {"signature_a": one["signature_b"], "signature_b": one["signature_a"]},
        "mixed": {"signature_a": chain[0]["signature_a"]},
        "stranger": {"from_agent_id": CAROL.id},
        "signature": {"signature_b": "x"},
        "amount": {"amount": one["amount"] + 1},
        "again": {"nonce": one["nonce"] + 1},
    }
    return [*chain[:at], {**one, **changed[flaw]}, *chain[at + 1 :]]


def closing(finals: tuple[int, int], **signatures: str) -> Json:
    """The payload of a close or of a request for one."""
    return {"final_balance_a": finals[0], "final_balance_b": finals[1], **signatures}
