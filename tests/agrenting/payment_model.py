"""A model of payment channels that trusts no signature but those that it has seen made, and knows no cryptography.

It is kept apart from the rules under test: it says from the specification alone what each move makes of two channels
of the same two agents, and of the money that they have.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from crypto import close_message, sign, transfer_message

DAY_S, PROPOSAL_S = 86_400, 300
LIVE = ("open", "closing", "disputed")
FINAL = ("closed", "declined", "expired")

Json = dict[str, Any]
Pair = tuple[int, int]


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """What a party sends.

    Args:
        who: 0 for Alice, the opener, 1 for Bob.
        event: On the wire, or the REST call.
        payload: Of it.
        door: One of the agent's sockets, or REST, by number.
    """

    who: int
    event: str
    payload: Json
    door: int = 0


class Transfer(msgspec.Struct, frozen=True, kw_only=True):
    """What a transfer says; the balances are those after it."""

    nonce: int
    payer: int
    amount: int
    balances: Pair


class Ink:
    """Signs for both, and remembers who has signed what.

    Args:
        domain: Line 2 of what is signed.
        ids: Of Alice and Bob.
        seeds: Of the two, and of somebody whose signatures are worth nothing.
    """

    def __init__(self, domain: str, ids: tuple[str, str], seeds: tuple[bytes, bytes, bytes]) -> None:
        self.domain = domain
        self.ids = ids
        self.seeds = seeds
        self._meaning: dict[str, tuple[int, bytes]] = {}

    def sign(self, who: int, message: bytes) -> str:
        signature = sign(self.seeds[who], message)
        self._meaning[signature] = (who, message)
        return signature

    def is_signed(self, who: int, message: bytes, signature: object) -> bool:
        return self._meaning.get(str(signature)) == (who, message)

    def transfer(self, channel_id: str, transfer: Transfer) -> bytes:
        return transfer_message(
            signing_domain=self.domain,
            channel_id=channel_id,
            nonce=transfer.nonce,
            payer_agent_id=self.ids[transfer.payer],
            amount=transfer.amount,
            balance_a=transfer.balances[0],
            balance_b=transfer.balances[1],
            task_id=None,
        )

    def close(self, channel_id: str, nonce: int, finals: Pair) -> bytes:
        return close_message(
            signing_domain=self.domain,
            channel_id=channel_id,
            nonce=nonce,
            final_balance_a=finals[0],
            final_balance_b=finals[1],
        )

    def balances_after(self, channel_id: str, steps: list[Json]) -> Pair:
        """What follows from the deposits of a history, and its transfers, each of which both have signed."""
        balances = [0, 0]
        for step in steps:
            details = step["details"]
            if step["kind"] in {"opened", "accepted", "deposit"}:
                amount = details["amount"] if step["kind"] == "deposit" else details["deposit"]
                balances[self.ids.index(step["agent_id"])] += amount
            elif step["kind"] == "transfer":
                payer, amount = self.ids.index(details["from_agent_id"]), details["amount"]
                balances[payer] -= amount
                balances[1 - payer] += amount
                after = (balances[0], balances[1])
                transfer = Transfer(nonce=details["nonce"], payer=payer, amount=amount, balances=after)
                message = self.transfer(channel_id, transfer)
                assert self.is_signed(0, message, details["signature_a"])
                assert self.is_signed(1, message, details["signature_b"])
        return balances[0], balances[1]


class Model:
    """One channel as it should be, and the purses that it shares with the others of the two.

    `apply` says whether a move has an effect, and goes on with it.
    """

    def __init__(self, ink: Ink, channel: Json, *, now: datetime, purses: list[int]) -> None:
        self.ink = ink
        self.id: str = channel["id"]
        self.is_online = channel["mode"] == "online"
        self.window = timedelta(seconds=channel["window_s"])
        self.expires_at = now + timedelta(seconds=DAY_S)
        self.now = now
        self.status = "pending"
        self.purses = purses
        self.deposits = [channel["deposit_a"], 0]
        self.purses[0] -= channel["deposit_a"]
        self.balances: Pair = (channel["deposit_a"], 0)
        self.last_nonce = 0
        self.used: dict[int, Transfer] = {}
        self.last_transfer: Transfer | None = None
        self.proposal: Transfer | None = None
        self.proposal_ends = now
        self.requests: dict[int, Pair] = {}
        self.closing_ends: datetime | None = None
        self.dispute: tuple[int, datetime] | None = None
        self.disputes_used: set[int] = set()
        self.is_frozen = self.is_revoked = False
        self.finals: Pair | None = None
        self.completed: list[int] = []
        """The nonces of what was acknowledged: each is told to both, once."""

    # What is to be seen.

    def view(self) -> Json:
        """What the join reply must say."""
        return {
            "status": self.status,
            "deposits": tuple(self.deposits),
            "balances": self.balances,
            "last_nonce": self.last_nonce,
            "pending": self.proposal,
            "last_transfer": self.last_transfer,
            "close_requests": self.requests,
            "closing_ends": self.closing_ends,
            "dispute": self.dispute,
            "disputes_used": self.disputes_used,
            "is_frozen": self.is_frozen,
            "is_revoked": self.is_revoked,
            "finals": self.finals,
        }

    def seen(self, snapshot: Json) -> Json:
        """The same of what a join reply says."""
        who = self.ink.ids.index
        closing, dispute = snapshot["closing"], snapshot["dispute"]
        finals = (snapshot["final_balance_a"], snapshot["final_balance_b"])
        return {
            "status": snapshot["status"],
            "deposits": (snapshot["deposit_a"], snapshot["deposit_b"]),
            "balances": (snapshot["balance_a"], snapshot["balance_b"]),
            "last_nonce": snapshot["last_nonce"],
            "pending": self.read(snapshot["pending_proposal"]),
            "last_transfer": self.read(snapshot["last_transfer"]),
            "close_requests": {
                who(one["agent_id"]): (one["final_balance_a"], one["final_balance_b"])
                for one in snapshot["close_requests"]
            },
            "closing_ends": None if closing is None else _time(closing["ends_at"]),
            "dispute": None if dispute is None else (who(dispute["agent_id"]), _time(dispute["ends_at"])),
            "disputes_used": {who(id_) for id_ in snapshot["disputes_used"]},
            "is_frozen": snapshot["state_lost"] is not None,
            "is_revoked": snapshot["is_revoked"],
            "finals": None if finals == (None, None) else finals,
        }

    def read(self, sent: Json | None) -> Transfer | None:
        """A transfer as it is told."""
        if sent is None:
            return None
        payer = self.ink.ids.index(sent["from_agent_id"])
        balances = (sent["balance_a"], sent["balance_b"])
        return Transfer(nonce=sent["nonce"], payer=payer, amount=sent["amount"], balances=balances)

    def next(self, payer: int, amount: int) -> Transfer:
        """The next transfer, if it can be."""
        return _follow(self.balances, self.last_nonce + 1, payer, amount)

    @property
    def locked(self) -> Pair:
        """What each has in it."""
        return (0, 0) if self.finals is not None else self.balances

    # What happens.

    def tick(self, now: datetime) -> None:
        """The clock decides, also before its timer has run."""
        self.now = now
        if self.finals is not None or self.is_frozen:
            return
        if self.status == "pending":
            if now >= self.expires_at:
                self._end("expired", self.balances)
        elif self.dispute is not None:
            if now >= self.dispute[1]:
                self._end("closed", self.balances)
        elif self.closing_ends is not None:
            if now >= self.closing_ends:
                self._end("closed", self.balances)
        elif self.proposal is not None and now >= self.proposal_ends:
            self._void()

    def apply(self, move: Move) -> bool:
        """Whether a move has an effect, which it then has."""
        handle: Any = getattr(self, f"_{move.event}")
        return bool(handle(move.who, **move.payload))

    def decide(self, finals: Pair) -> bool:
        """An operator decides."""
        is_asked = self.finals is None and (self.dispute is not None or self.is_frozen)
        return is_asked and self._is_all(finals) and self._end("closed", finals)

    def revoke(self) -> None:
        """One of the two blocks the other."""
        if self.status == "pending":
            if not self.is_frozen:
                self._end("declined", self.balances)
        elif self.finals is None:
            self._void()
            self.is_revoked = True

    def _accept(self, who: int, deposit: int) -> bool:
        if self.status != "pending" or self.is_frozen or who != 1 or not 0 <= deposit <= self.purses[1]:
            return False
        self.status = "open"
        return self._lock(1, deposit)

    def _decline(self, who: int, reason: str) -> bool:
        return self.status == "pending" and not self.is_frozen and who == 1 and self._end("declined", self.balances)

    def _cancel(self, who: int) -> bool:
        return self.status == "pending" and not self.is_frozen and who == 0 and self._end("declined", self.balances)

    def _deposit(self, who: int, amount: int) -> bool:
        if not self._trades() or self.proposal is not None or not 1 <= amount <= self.purses[who]:
            return False
        self.requests = {}
        return self._lock(who, amount)

    def _propose_transfer(self, who: int, amount: int, nonce: int, signature: str) -> bool:
        if not self._trades() or self.proposal is not None or nonce != self.last_nonce + 1:
            return False
        if not 1 <= amount <= self.balances[who]:
            return False
        transfer = self.next(who, amount)
        if not self.ink.is_signed(who, self.ink.transfer(self.id, transfer), signature):
            return False
        self.proposal, self.proposal_ends = transfer, self.now + timedelta(seconds=PROPOSAL_S)
        return True

    def _acknowledge_transfer(self, who: int, amount: int, nonce: int, signature: str) -> bool:
        transfer = self.proposal
        if transfer is None or transfer.payer == who or (transfer.amount, transfer.nonce) != (amount, nonce):
            return False
        if not self.ink.is_signed(who, self.ink.transfer(self.id, transfer), signature):
            return False
        self.completed.append(transfer.nonce)
        return self._execute(transfer)

    def _reject_transfer(self, who: int, nonce: int | None = None, reason: str = "") -> bool:
        return self.proposal is not None and nonce in {None, self.proposal.nonce} and self._void()

    def _close_request(self, who: int, final_balance_a: int, final_balance_b: int, signature: str) -> bool:
        finals = (final_balance_a, final_balance_b)
        if not self._may_close(finals) or not self._has_signed_close(who, finals, signature):
            return False
        is_new = self.requests.get(who) != finals
        self.requests[who] = finals
        return is_new

    def _close(self, who: int, final_balance_a: int, final_balance_b: int, signature_a: str, signature_b: str) -> bool:
        finals = (final_balance_a, final_balance_b)
        if not self._may_close(finals):
            return False
        signed = [self._has_signed_close(side, finals, one) for side, one in enumerate((signature_a, signature_b))]
        return all(signed) and self._end("closed", finals)

    def _force_close(self, who: int) -> bool:
        if self.status != "open" or self.is_frozen:
            return False
        self._void()
        self.status, self.closing_ends = "closing", self.now + self.window
        return True

    def _dispute(self, who: int, reason: str, evidence: Json | None = None) -> bool:
        if self.status not in {"open", "closing"} or self.is_frozen or who in self.disputes_used:
            return False
        if evidence is not None and not self.is_online:
            if self._hand_in(evidence["transfers"]) is None:
                return False
        else:
            ends = self.now + timedelta(seconds=DAY_S)
            if not self.is_online:
                ends = max(ends, self.closing_ends or self.now + self.window)
            self._void()
            self.status, self.dispute = "disputed", (who, ends)
        self.disputes_used.add(who)
        return True

    def _withdraw_dispute(self, who: int) -> bool:
        if self.dispute is None or self.dispute[0] != who:
            return False
        self.dispute = None
        self.status = "open" if self.closing_ends is None else "closing"
        self.tick(self.now)
        return True

    def _submit_transfers(self, who: int, transfers: list[Json]) -> bool:
        return self.status in LIVE and not self.is_online and bool(self._hand_in(transfers))

    def _phx_join(self, who: int, known: Json) -> bool:
        """An online channel freezes when a doubly signed state is proved that it never had; a newer one again."""
        transfer = self.read(known)
        assert transfer is not None, "it is sent whole"
        is_told = self.is_frozen and transfer.nonce <= self.last_nonce
        if self.finals is not None or is_told or not self.is_online or transfer.amount < 0 or transfer.nonce < 1:
            return False
        if transfer in (self.proposal, self.used.get(transfer.nonce)):
            return False
        message = self.ink.transfer(self.id, transfer)
        if not all(self.ink.is_signed(side, message, known[f"signature_{'ab'[side]}"]) for side in (0, 1)):
            return False
        self._void()
        self.last_nonce, self.requests = max(self.last_nonce, transfer.nonce), {}
        self.is_frozen = True
        return True

    # How it goes on.

    def _trades(self) -> bool:
        return self.status == "open" and self.is_online and not self.is_frozen and not self.is_revoked

    def _may_close(self, finals: Pair) -> bool:
        is_live = self.status in LIVE or (self.is_frozen and self.finals is None)
        return is_live and self.proposal is None and self._is_all(finals)

    def _is_all(self, finals: Pair) -> bool:
        return min(finals) >= 0 and sum(finals) == sum(self.deposits)

    def _has_signed_close(self, who: int, finals: Pair, signature: str) -> bool:
        return self.ink.is_signed(who, self.ink.close(self.id, self.last_nonce, finals), signature)

    def _lock(self, who: int, amount: int) -> bool:
        self.deposits[who] += amount
        self.purses[who] -= amount
        self.balances = (self.balances[0] + amount * (not who), self.balances[1] + amount * who)
        return True

    def _execute(self, transfer: Transfer) -> bool:
        self.used[transfer.nonce] = self.last_transfer = transfer
        self.last_nonce, self.balances = transfer.nonce, transfer.balances
        self.proposal, self.requests = None, {}
        return True

    def _void(self) -> bool:
        if self.proposal is not None:
            self.used[self.proposal.nonce] = self.proposal
            self.last_nonce, self.requests = self.proposal.nonce, {}
        self.proposal = None
        return True

    def _hand_in(self, chain: Sequence[Json]) -> int | None:
        """How many transfers of a chain are new, all of them executed; None where one of them is not good."""
        if not chain:
            return None
        kept = self.used.copy(), self.last_nonce, self.balances, self.last_transfer, self.requests
        for sent in chain:
            if not self._hand_in_one(sent, is_new=sent["nonce"] > self.last_nonce):
                self.used, self.last_nonce, self.balances, self.last_transfer, self.requests = kept
                return None
        return self.last_nonce - kept[1]

    def _hand_in_one(self, sent: Json, *, is_new: bool) -> bool:
        payer, amount = self.ink.ids.index(sent["from_agent_id"]), sent["amount"]
        if not is_new:
            had = self.used.get(sent["nonce"])
            return had is not None and (had.payer, had.amount) == (payer, amount)
        if sent["nonce"] != self.last_nonce + 1 or not 1 <= amount <= self.balances[payer]:
            return False
        transfer = self.next(payer, amount)
        message = self.ink.transfer(self.id, transfer)
        signatures = (sent["signature_a"], sent["signature_b"])
        return all(self.ink.is_signed(*one) for one in zip((0, 1), (message, message), signatures, strict=True)) and (
            self._execute(transfer)
        )

    def _end(self, status: str, finals: Pair) -> bool:
        self.status, self.finals = status, finals
        self.closing_ends = self.dispute = None
        if status == "closed":
            self.requests = {}
        for side in (0, 1):
            self.purses[side] += finals[side]
        return True


def _follow(balances: Pair, nonce: int, payer: int, amount: int) -> Transfer:
    moved = amount if payer else -amount
    return Transfer(nonce=nonce, payer=payer, amount=amount, balances=(balances[0] + moved, balances[1] - moved))


def _time(text: str) -> datetime:
    return msgspec.convert(text, datetime)
