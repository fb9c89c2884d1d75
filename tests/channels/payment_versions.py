"""A payment channel with 50 transfers, and every version of it that there ever was."""

from functools import cache
from typing import Any

from channels.payment_state import Mode
from tests import paying
from tests.channels.payment_stage import Json, Stage
from tests.channels.roles import ALICE, BOB, Player, refused

VERSIONS = 50
AMOUNTS = [7 if number % 5 else -3 for number in range(1, VERSIONS + 1)]
"""What Mallory pays, and now and then gets: every earlier version but some would leave more to Mallory."""


def other(who: Player) -> Player:
    return BOB if who is ALICE else ALICE


def _signed_amounts(mallory: Player) -> list[int]:
    return AMOUNTS if mallory is ALICE else [-amount for amount in AMOUNTS]


class Story:
    """A channel with 50 transfers, and every version of it.

    Args:
        mode: Online, the server has executed all of them; offline, it has seen none.
        mallory: Who has paid most of them.
    """

    def __init__(self, mode: Mode, mallory: Player) -> None:
        self.mallory, self.victim = mallory, other(mallory)
        self.fresh = Stage(mode=mode)
        self.chain = paying.chain(self.fresh.snapshot, ALICE.secret_key, BOB.secret_key, _signed_amounts(mallory))
        self.versions: list[Json] = [self.fresh.snapshot]
        for transfer in self.chain:
            now = self.versions[-1]
            moved = {"from_agent_id": transfer["from_agent_id"], "amount": transfer["amount"]}
            balance_a, balance_b = paying.after(now, **moved)
            self.versions.append(
                {**now, "balance_a": balance_a, "balance_b": balance_b, "last_nonce": transfer["nonce"]}
            )
        self.stage = self.fresh.copy()
        if mode is Mode.ONLINE:
            for transfer in self.chain:
                pay(self.stage, transfer)

    def finals(self, version: int) -> tuple[int, int]:
        return self.versions[version]["balance_a"], self.versions[version]["balance_b"]

    def close(self, version: int, *, nonce: int, **signers: bytes) -> Json:
        """A close with the balances of a version; the victim's signature is of a key that is named."""
        finals = self.finals(version)
        keys = {"a": ALICE.secret_key, "b": BOB.secret_key} | signers
        signatures = {
            f"signature_{side}": paying.close_signature(self.stage.snapshot, keys[side], finals, nonce=nonce)
            for side in "ab"
        }
        return {"final_balance_a": finals[0], "final_balance_b": finals[1], **signatures}

    @property
    def side(self) -> str:
        """The victim's."""
        return "a" if self.victim is ALICE else "b"


@cache
def _told(mode: Mode, mallory_id: str) -> Story:
    return Story(mode, ALICE if mallory_id == ALICE.id else BOB)


def told(mode: Mode, mallory: Player) -> Story:
    """Nobody changes it: who goes on copies its stage."""
    return _told(mode, mallory.id)


def pay(stage: Stage, transfer: Json) -> None:
    """A transfer that both have signed already, proposed and acknowledged."""
    payer = ALICE if transfer["from_agent_id"] == ALICE.id else BOB
    same = {"amount": transfer["amount"], "nonce": transfer["nonce"]}
    own, others = ("signature_a", "signature_b") if payer is ALICE else ("signature_b", "signature_a")
    stage.send(payer, "propose_transfer", **same, signature=transfer[own])
    stage.send(other(payer), "acknowledge_transfer", **same, signature=transfer[others])


def require_refused(stage: Stage, who: Player, event: str, /, **payload: Any) -> str:
    """The reason of a refusal that has changed nothing."""
    before = stage.everything()
    refusal = refused(stage.send, who, event, **payload)
    assert stage.everything() == before
    return refusal.reason
