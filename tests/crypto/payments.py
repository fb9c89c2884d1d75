"""Honest payment channels of Alice and Bob: what they have signed, the history of it, and the receipt."""

import hashlib
from typing import Any, Final, Self

from crypto import canonical_digest, canonical_json, close_message, receipt_message, sign, transfer_message

from .roles import ALICE, BOB, DOMAIN, PLATFORM, Role

Json = dict[str, Any]

CHANNEL_ID: Final = "22222222-2222-4222-8222-222222222222"
TASK_ID: Final = "33333333-3333-4333-8333-333333333333"
OTHER_ID: Final = "99999999-9999-4999-8999-999999999999"


class Story:
    """A channel, as it goes on: each verb is a step of its history, signed by whom it needs.

    Args:
        opener, counterparty: Alice and Bob, unless somebody takes their place.
    """

    def __init__(
        self, mode: str = "online", *, opener: Role = ALICE, counterparty: Role = BOB, domain: str = DOMAIN
    ) -> None:
        self.mode, self.a, self.b, self.domain = mode, opener, counterparty, domain
        self.steps: list[Json] = []
        self.deposits, self.since, self.balances = [0, 0], [0, 0], [0, 0]
        self.nonce = 0
        self.last_transfer: Json | None = None

    def step(self, kind: str, by: Role | None = None, **details: Any) -> Self:
        self.steps.append(
            {
                "number": len(self.steps) + 1,
                "kind": kind,
                "at": f"2026-11-01T12:{len(self.steps) // 60 % 60:02}:{len(self.steps) % 60:02}Z",
                "agent_id": None if by is None else by.agent_id,
                "balance_a": self.balances[0],
                "balance_b": self.balances[1],
                "last_nonce": self.nonce,
                "details": details,
            }
        )
        return self

    def opened(self, deposit: int = 10_000) -> Self:
        self._raise(self.a, deposit)
        return self.step("opened", self.a, deposit=deposit)

    def accepted(self, deposit: int = 0) -> Self:
        self._raise(self.b, deposit)
        return self.step("accepted", self.b, deposit=deposit)

    def deposit(self, by: Role, amount: int) -> Self:
        self._raise(by, amount)
        return self.step("deposit", by, amount=amount)

    def _raise(self, by: Role, amount: int) -> None:
        for amounts in (self.deposits, self.since, self.balances):
            amounts[self.side(by)] += amount

    def side(self, role: Role) -> int:
        return 0 if role.agent_id == self.a.agent_id else 1

    def other(self, role: Role) -> Role:
        return self.b if self.side(role) == 0 else self.a

    def signed_transfer(
        self, signer: Role, payer: Role, amount: int, *, nonce: int, balances: list[int], task_id: str | None = None
    ) -> str:
        message = transfer_message(
            signing_domain=self.domain,
            channel_id=CHANNEL_ID,
            nonce=nonce,
            payer_agent_id=payer.agent_id,
            amount=amount,
            balance_a=balances[0],
            balance_b=balances[1],
            task_id=task_id,
        )
        return sign(signer.secret_key, message)

    def signed_close(self, signer: Role, finals: tuple[int, int], *, nonce: int | None = None) -> str:
        message = close_message(
            signing_domain=self.domain,
            channel_id=CHANNEL_ID,
            nonce=self.nonce if nonce is None else nonce,
            final_balance_a=finals[0],
            final_balance_b=finals[1],
        )
        return sign(signer.secret_key, message)

    def _paid(self, payer: Role, amount: int) -> list[int]:
        moved = -amount if self.side(payer) == 0 else amount
        return [self.balances[0] + moved, self.balances[1] - moved]

    def transfer(self, payer: Role, amount: int, *, task_id: str | None = None, memo: str | None = None) -> Self:
        balances = self._paid(payer, amount)
        said: Json = {
            "nonce": self.nonce + 1,
            "amount": amount,
            "from_agent_id": payer.agent_id,
            "to_agent_id": self.other(payer).agent_id,
            "task_id": task_id,
        }
        signed: Json = {"nonce": self.nonce + 1, "balances": balances, "task_id": task_id}
        signatures = {
            f"signature_{side}": self.signed_transfer(signer, payer, amount, **signed)
            for side, signer in (("a", self.a), ("b", self.b))
        }
        self.nonce, self.balances, self.since = self.nonce + 1, balances, [0, 0]
        self.last_transfer = {
            **said,
            **signatures,
            "balance_a": balances[0],
            "balance_b": balances[1],
            "completed_at": "2026-11-01T12:00:00Z",
        }
        return self.step("transfer", self.other(payer), **said, memo=memo, **signatures)

    def voided(self, payer: Role, amount: int, reason: str, *, by: Role | None = None, text: str | None = None) -> Self:
        self.nonce += 1
        return self.step(
            "voided",
            by,
            nonce=self.nonce,
            amount=amount,
            from_agent_id=payer.agent_id,
            to_agent_id=self.other(payer).agent_id,
            task_id=None,
            memo=None,
            signature=self.signed_transfer(payer, payer, amount, nonce=self.nonce, balances=self._paid(payer, amount)),
            reason=reason,
            text=text,
        )

    def close_request(self, by: Role, final_balance_a: int, final_balance_b: int) -> Self:
        return self.step(
            "close_request",
            by,
            nonce=self.nonce,
            final_balance_a=final_balance_a,
            final_balance_b=final_balance_b,
            signature=self.signed_close(by, (final_balance_a, final_balance_b)),
        )

    def force_close(self, by: Role | None) -> Self:
        return self.step("force_close", by, ends_at="2026-11-02T12:00:00.25Z")

    def dispute(self, by: Role, evidence: Any = None) -> Self:
        return self.step("dispute", by, reason="unfair", evidence=evidence, ends_at="2026-11-02T12:00:00Z")

    def state_lost(self, by: Role, *, nonce: int, amount: int, balances: list[int]) -> Self:
        signed: Json = {"nonce": nonce, "balances": balances}
        self.nonce = max(self.nonce, nonce)
        return self.step(
            "state_lost",
            by,
            nonce=nonce,
            amount=amount,
            from_agent_id=self.a.agent_id,
            balance_a=balances[0],
            balance_b=balances[1],
            task_id=None,
            signature_a=self.signed_transfer(self.a, self.a, amount, **signed),
            signature_b=self.signed_transfer(self.b, self.a, amount, **signed),
        )

    def closed(self, cause: str, finals: tuple[int, int] | None = None, *, by: Role | None = None) -> Self:
        paid = (self.balances[0], self.balances[1]) if finals is None else finals
        is_joint = cause == "joint_close"
        return self.step(
            "closed",
            by,
            cause=cause,
            final_balance_a=paid[0],
            final_balance_b=paid[1],
            signature_a=self.signed_close(self.a, paid) if is_joint else None,
            signature_b=self.signed_close(self.b, paid) if is_joint else None,
            reason="both had a point" if cause == "operator" else None,
        )

    def lines(self) -> list[Json]:
        """The history as it is exported."""
        header = {
            "kind": "payment_history",
            "id": CHANNEL_ID,
            "signing_domain": self.domain,
            "currency": "USD",
            "exponent": 6,
            "mode": self.mode,
            "window_s": 86_400,
            "agent_a_id": self.a.agent_id,
            "agent_b_id": self.b.agent_id,
            "public_key_a": self.a.public_key_text,
            "public_key_b": self.b.public_key_text,
        }
        return platform_chains([header, *self.steps, {}])

    def receipt(self) -> Json:
        """The receipt of a channel that has been closed."""
        end = self.steps[-1]["details"]
        names = ("final_balance_a", "final_balance_b", "signature_a", "signature_b")
        close = {"nonce": self.nonce, **{name: end[name] for name in names}}
        document = {
            "channel_id": CHANNEL_ID,
            "mode": self.mode,
            "agent_a_id": self.a.agent_id,
            "agent_b_id": self.b.agent_id,
            "public_key_a": self.a.public_key_text,
            "public_key_b": self.b.public_key_text,
            "deposit_a": self.deposits[0],
            "deposit_b": self.deposits[1],
            "last_nonce": self.nonce,
            "last_transfer": self.last_transfer,
            "deposited_since_a": self.since[0],
            "deposited_since_b": self.since[1],
            "balance_a": self.balances[0],
            "balance_b": self.balances[1],
            "cause": end["cause"],
            "close": close if end["cause"] == "joint_close" else None,
            "reason": end["reason"],
            "final_balance_a": end["final_balance_a"],
            "final_balance_b": end["final_balance_b"],
            "currency": "USD",
            "exponent": 6,
            "opened_at": "2026-11-01T12:00:00Z",
            "closed_at": "2026-11-01T12:00:05.5Z",
        }
        return {"kind": "payment_channel", "id": CHANNEL_ID, "signing_domain": self.domain, "document": document}


def chained(lines: list[Json]) -> str:
    """The digest of a history: of its header, and of its steps one after the other."""
    head = canonical_digest(lines[0])
    for step in lines[1:-1]:
        head = hashlib.sha256(f"{head}\n".encode() + canonical_json(step, nesting_max=72)).hexdigest()
    return head


def platform_chains(lines: list[Json], *, key: Role = PLATFORM) -> list[Json]:
    """Make the last line the platform's word for whatever the others say."""
    digest = chained(lines)
    message = receipt_message(
        signing_domain=lines[0]["signing_domain"],
        kind="payment_history",
        document_id=lines[0]["id"],
        document_digest=digest,
    )
    lines[-1] = {
        "kind": "platform",
        "steps": len(lines) - 2,
        "digest": digest,
        "public_key": key.public_key_text,
        "signature": sign(key.secret_key, message),
    }
    return lines


def paid_story() -> Story:
    """The channel of the vectors, before its close."""
    return Story().opened(10_000).accepted(0).transfer(ALICE, 250).transfer(BOB, 50, task_id=TASK_ID, memo="rebate")


STORIES: Final = {
    "joint_close": paid_story().close_request(ALICE, 9_800, 200).closed("joint_close", (9_800, 200), by=BOB),
    "force_close": (
        Story()
        .opened(100)
        .accepted(50)
        .deposit(BOB, 25)
        .voided(ALICE, 100, "rejected", by=BOB, text="too much")
        .transfer(BOB, 75)
        .deposit(ALICE, 5)
        .deposit(BOB, 7)
        .voided(BOB, 7, "withdrawn", by=BOB)
        .voided(ALICE, 1, "expired")
        .voided(ALICE, 2, "contact_revoked")
        .step("revoked")
        .force_close(None)
        .closed("force_close")
    ),
    "dispute_timeout": (
        Story()
        .opened(100)
        .accepted()
        .voided(ALICE, 9, "dispute", by=ALICE)
        .dispute(ALICE, {"photo": "…", "pages": [1, 2]})
        .step("dispute_withdrawn", ALICE)
        .voided(ALICE, 8, "force_close", by=BOB)
        .force_close(BOB)
        .dispute(BOB)
        .closed("dispute_timeout")
    ),
    "operator": Story().opened(100).accepted(20).transfer(ALICE, 30).dispute(BOB).closed("operator", (0, 120)),
    "offline": (
        Story("offline")
        .opened(100)
        .accepted(10)
        .transfer(ALICE, 30)
        .force_close(ALICE)
        .dispute(BOB, {"transfers": []})
        .transfer(BOB, 40, task_id=TASK_ID)
        .step("dispute_settled", BOB)
        .closed("force_close")
    ),
    "offline without a transfer": Story("offline").opened(1).accepted().force_close(BOB).closed("force_close"),
    "all deposited later": Story().opened(1).accepted(2).closed("joint_close", (3, 0), by=ALICE),
}
"""A channel that has been closed, for every cause and kind of step."""

UNCLOSED: Final = {
    "pending": Story().opened(),
    "open": paid_story(),
    "declined": Story().opened().step("declined", BOB, reason="no, thanks"),
    "declined by a ban": Story().opened().step("declined", reason="banned"),
    "cancelled": Story().opened().step("cancelled", ALICE),
    "expired": Story().opened().step("expired"),
    "revoked and expired": Story().opened().step("revoked").step("expired"),
    "lost": (
        Story()
        .opened(100)
        .accepted()
        .voided(ALICE, 5, "state_lost")
        .state_lost(BOB, nonce=7, amount=10, balances=[90, 30])
        .close_request(ALICE, 60, 40)
    ),
}
"""One that has not, or never opened."""

LOST: Final = {
    "with the acceptance": (
        Story().opened(100).state_lost(BOB, nonce=3, amount=0, balances=[70, 30]).closed("operator", (70, 30))
    ),
    "closed by both": (
        Story()
        .opened(100)
        .state_lost(ALICE, nonce=1, amount=30, balances=[70, 30])
        .close_request(BOB, 70, 30)
        .closed("joint_close", (70, 30), by=ALICE)
    ),
    "expired": Story().opened(100).state_lost(ALICE, nonce=1, amount=1, balances=[0, 1]).step("expired"),
}
"""One whose newest states the server has lost."""

HISTORIES: Final = {**STORIES, **UNCLOSED, **{f"lost {name}": story for name, story in LOST.items()}}
"""All of them."""
