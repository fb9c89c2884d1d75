"""A witness of a payment channel: it trusts no signature but those that it has seen made, and knows no cryptography.

The notary notes what is signed while it is signed. The witness says what each event should make of the channel, from
the specification alone; it knows neither steps nor ledger nor the functions under test.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from channels.payment_state import Mode
from tests import paying
from tests.channels.payment_stage import DAY_S, Json
from tests.channels.roles import ALICE, BOB, MARKET, NOW, Player

PROPOSAL_S = 300
PLAYERS = {ALICE.id: ALICE, BOB.id: BOB}
LIVE = ("open", "closing", "disputed")


class Deed(msgspec.Struct, frozen=True, kw_only=True):
    """What a signature says: of a transfer, or with `payer` None of a close."""

    channel_id: str
    nonce: int
    balances: tuple[int, int]
    payer: str | None = None
    amount: int = 0
    task_id: str | None = None
    domain: str = MARKET.signing_domain

    def paid_by(self, who: Player | str) -> bool:
        return self.payer == (who if isinstance(who, str) else who.id)


class Notary:
    """Signs for the players, and remembers who has signed what."""

    def __init__(self) -> None:
        self.meaning: dict[str, tuple[str, Deed]] = {}
        self.signed: dict[Deed, dict[str, str]] = {}

    def sign(self, who: Player, deed: Deed) -> str:
        known = self.signed.setdefault(deed, {})
        if who.id not in known:
            known[who.id] = self._sign(who, deed)
            self.meaning[known[who.id]] = (who.id, deed)
        return known[who.id]

    def sign_both(self, deed: Deed) -> tuple[str, str]:
        return self.sign(ALICE, deed), self.sign(BOB, deed)

    def has_signed(self, agent_id: str, deed: Deed, signature: object) -> bool:
        """Whether it is the signature of that agent under just that."""
        return self.meaning.get(str(signature)) == (agent_id, deed)

    def signed_by_both(self) -> list[Deed]:
        """Every transfer that both have ever signed, in the order in which it was begun."""
        return [deed for deed, by in self.signed.items() if deed.payer is not None and len(by) == len(PLAYERS)]

    def _sign(self, who: Player, deed: Deed) -> str:
        channel = {"channel_id": deed.channel_id, "signing_domain": deed.domain}
        if deed.payer is None:
            return paying.close_signature(channel, who.secret_key, deed.balances, nonce=deed.nonce)
        return paying.transfer_signature(
            channel,
            who.secret_key,
            from_agent_id=deed.payer,
            amount=deed.amount,
            nonce=deed.nonce,
            task_id=deed.task_id,
            balances=deed.balances,
        )


def doubly_signed(notary: Notary, deed: Deed) -> Json:
    """A transfer as submit_transfers takes it, signed by both."""
    signature_a, signature_b = notary.sign_both(deed)
    return {
        "amount": deed.amount,
        "nonce": deed.nonce,
        "from_agent_id": deed.payer,
        "task_id": deed.task_id,
        "signature_a": signature_a,
        "signature_b": signature_b,
    }


def known(notary: Notary, deed: Deed) -> Json:
    """The same as a join may state it."""
    balance_a, balance_b = deed.balances
    return {**doubly_signed(notary, deed), "balance_a": balance_a, "balance_b": balance_b}


class Witness:
    """What a channel should be after all that was done to it.

    Every event method says whether the event takes effect, and goes on with it.
    """

    def __init__(self, notary: Notary, *, channel_id: str, mode: Mode, window_s: int, deposit: int, purse: int) -> None:
        self.notary = notary
        self.channel_id = channel_id
        self.is_online = mode is Mode.ONLINE
        self.window = timedelta(seconds=window_s)
        self.status = "pending"
        self.now = NOW
        self.deposits = {ALICE.id: deposit, BOB.id: 0}
        self.purses = {ALICE.id: purse - deposit, BOB.id: purse}
        self.balances = (deposit, 0)
        self.nonces: list[Deed] = []
        self.transfers: list[Deed] = []
        self.proposal: Deed | None = None
        self.proposal_ends = NOW
        self.requests: dict[str, tuple[int, int]] = {}
        self.closing_ends: datetime | None = None
        self.dispute: tuple[str, datetime] | None = None
        self.disputes_used: set[str] = set()
        self.is_frozen = False
        self.lost_nonce = 0
        self.is_revoked = False
        self.finals: tuple[int, int] | None = None

    # What is so

    @property
    def last_nonce(self) -> int:
        return max(len(self.nonces), self.lost_nonce)

    @property
    def total(self) -> int:
        return sum(self.deposits.values())

    def balance(self, who: Player | str) -> int:
        agent_id = who if isinstance(who, str) else who.id
        return self.balances[agent_id != ALICE.id]

    def transfer(self, payer: Player | str, amount: int, *, task_id: str | None = None) -> Deed:
        """The next transfer."""
        payer_id = payer if isinstance(payer, str) else payer.id
        moved = amount if payer_id == BOB.id else -amount
        balances = (self.balances[0] + moved, self.balances[1] - moved)
        return Deed(
            channel_id=self.channel_id,
            nonce=self.last_nonce + 1,
            balances=balances,
            payer=payer_id,
            amount=amount,
            task_id=task_id,
        )

    def close_deed(self, finals: tuple[int, int]) -> Deed:
        return Deed(channel_id=self.channel_id, nonce=self.last_nonce, balances=finals)

    # What the clock does

    def tick(self, now: datetime) -> None:
        self.now = now
        if self.finals is not None or self.is_frozen:
            return
        if self.status == "pending" and now >= NOW + timedelta(seconds=DAY_S):
            self._end("expired", self.balances)
        elif self.dispute is not None:
            if now >= self.dispute[1]:
                self._end("closed", self.balances)
        elif self.status == "closing" and self.closing_ends is not None and now >= self.closing_ends:
            self._end("closed", self.balances)
        elif self.proposal is not None and now >= self.proposal_ends:
            self._void()

    # What parties do

    def accept(self, who: Player, deposit: int) -> bool:
        if not self._is_unopened() or who is not BOB or deposit < 0:
            return False
        self.status = "open"
        return deposit == 0 or self._lock(BOB, deposit)

    def decline(self, who: Player) -> bool:
        return self._is_unopened() and who is BOB and self._end("declined", self.balances)

    def cancel(self, who: Player) -> bool:
        return self._is_unopened() and who is ALICE and self._end("declined", self.balances)

    def _is_unopened(self) -> bool:
        """Whether nobody has accepted it, and nothing says that somebody once had."""
        return self.status == "pending" and not self.is_frozen

    def deposit(self, who: Player, amount: int) -> bool:
        if not self._trades() or self.proposal is not None or not 1 <= amount <= self.purses[who.id]:
            return False
        self.requests = {}
        return self._lock(who, amount)

    def propose(self, who: Player, *, amount: int, nonce: int, signature: str) -> bool:
        if not self._trades() or self.proposal is not None or nonce != self.last_nonce + 1:
            return False
        deed = self.transfer(who, amount)
        if not 1 <= amount <= self.balance(who) or not self.notary.has_signed(who.id, deed, signature):
            return False
        self.proposal, self.proposal_ends = deed, self.now + timedelta(seconds=PROPOSAL_S)
        return True

    def acknowledge(self, who: Player, *, amount: int, nonce: int, signature: str) -> bool:
        deed = self.proposal
        if deed is None or self.is_frozen or deed.paid_by(who) or (deed.amount, deed.nonce) != (amount, nonce):
            return False
        if not self.notary.has_signed(who.id, deed, signature):
            return False
        self.proposal = None
        return self._execute(deed)

    def reject(self, nonce: int | None) -> bool:
        if self.proposal is None or self.is_frozen or nonce not in {None, self.proposal.nonce}:
            return False
        return self._void()

    def close_request(self, who: Player, finals: tuple[int, int], signature: str) -> bool:
        if not self._may_close(finals) or not self.notary.has_signed(who.id, self.close_deed(finals), signature):
            return False
        is_new = self.requests.get(who.id) != finals
        self.requests[who.id] = finals
        return is_new

    def close(self, finals: tuple[int, int], signatures: tuple[str, str]) -> bool:
        deed = self.close_deed(finals)
        signed = all(map(self.notary.has_signed, PLAYERS, (deed, deed), signatures))
        return self._may_close(finals) and signed and self._end("closed", finals)

    def force_close(self) -> bool:
        if self.status != "open" or self.is_frozen:
            return False
        self._void()
        self.status, self.closing_ends = "closing", self.now + self.window
        return True

    def open_dispute(self, who: Player, chain: Sequence[Mapping[str, Any]] | None = None) -> bool:
        if self.status not in {"open", "closing"} or self.is_frozen or who.id in self.disputes_used:
            return False
        if chain is not None and not self.is_online:
            if self._follow(chain) is None:
                return False
        else:
            ends = self.now + timedelta(seconds=DAY_S)
            window_ends = self.closing_ends or self.now + self.window
            self.dispute = (who.id, ends if self.is_online else max(ends, window_ends))
            self.status = "disputed"
            self._void()
        self.disputes_used.add(who.id)
        return True

    def withdraw_dispute(self, who: Player) -> bool:
        if self.finals is not None or self.dispute is None or self.dispute[0] != who.id:
            return False
        self.dispute = None
        self.status = "open" if self.closing_ends is None else "closing"
        self.tick(self.now)
        return True

    def submit(self, chain: Sequence[Mapping[str, Any]]) -> bool:
        return self.status in LIVE and not self.is_online and bool(self._follow(chain))

    def join(self, deed: Deed, signatures: tuple[str, str]) -> bool:
        """With `known`, of a doubly signed transfer; an online channel freezes if the server never had it.

        The nonces up to it count as used.
        """
        is_told = self.is_frozen and deed.nonce <= self.last_nonce
        if (
            self.finals is not None
            or is_told
            or not self.is_online
            or deed.channel_id != self.channel_id
            or deed.nonce < 1
        ):
            return False
        had = [*self.nonces, *([] if self.proposal is None else [self.proposal])]
        if deed in had or not all(map(self.notary.has_signed, PLAYERS, (deed, deed), signatures)):
            return False
        self._void()
        self.is_frozen, self.lost_nonce, self.requests = True, deed.nonce, {}
        return True

    # What others do

    def decide(self, finals: tuple[int, int]) -> bool:
        is_open_question = self.finals is None and (self.status == "disputed" or self.is_frozen)
        return is_open_question and self._is_all(finals) and self._end("closed", finals)

    def revoke(self, *, is_ban: bool) -> bool:
        if self.finals is not None:
            return False
        if self.status == "pending":
            return not self.is_frozen and self._end("declined", self.balances)
        was = self.is_revoked
        self._void()
        self.is_revoked = True
        if is_ban and self.status == "open" and not self.is_frozen:
            return self.force_close()
        if is_ban and self.status == "disputed" and self.closing_ends is None and not self.is_frozen:
            self.closing_ends = self.now + self.window  # It runs beside the dispute.
            return True
        return not was

    # How it goes on

    def _trades(self) -> bool:
        return self.status == "open" and self.is_online and not self.is_frozen and not self.is_revoked

    def _may_close(self, finals: tuple[int, int]) -> bool:
        is_live = self.status in LIVE or (self.is_frozen and self.finals is None)
        return is_live and self.proposal is None and self._is_all(finals)

    def _is_all(self, finals: tuple[int, int]) -> bool:
        return min(finals) >= 0 and sum(finals) == self.total

    def _lock(self, who: Player, amount: int) -> bool:
        self.deposits[who.id] += amount
        self.purses[who.id] -= amount
        balance_a, balance_b = self.balances
        self.balances = (balance_a + amount, balance_b) if who is ALICE else (balance_a, balance_b + amount)
        return True

    def _execute(self, deed: Deed) -> bool:
        self.nonces.append(deed)
        self.transfers.append(deed)
        self.balances = deed.balances
        self.requests = {}
        return True

    def _void(self) -> bool:
        if self.proposal is not None:
            self.nonces.append(self.proposal)
            self.requests = {}
        self.proposal = None
        return True

    def _follow(self, chain: Sequence[Mapping[str, Any]]) -> int | None:
        """How many transfers of a chain are new, all of them executed; None where one of them is not good."""
        before = self.balances, self.nonces.copy(), self.transfers.copy(), self.requests
        for sent in chain:
            content = (sent["amount"], sent["from_agent_id"], sent["task_id"])
            if 0 < sent["nonce"] <= self.last_nonce:
                applied = self.nonces[sent["nonce"] - 1]
                is_good = (applied.amount, applied.payer, applied.task_id) == content
            else:
                is_good = self._follow_one(sent)
            if not is_good:
                self.balances, self.nonces, self.transfers, self.requests = before
                return None
        return len(self.nonces) - len(before[1]) if chain else None

    def _follow_one(self, sent: Mapping[str, Any]) -> bool:
        if sent["from_agent_id"] not in PLAYERS or sent["nonce"] != self.last_nonce + 1:
            return False
        if not 1 <= sent["amount"] <= self.balance(sent["from_agent_id"]):
            return False
        deed = self.transfer(sent["from_agent_id"], sent["amount"], task_id=sent["task_id"])
        signatures = (sent["signature_a"], sent["signature_b"])
        return all(map(self.notary.has_signed, PLAYERS, (deed, deed), signatures)) and self._execute(deed)

    def _end(self, status: str, finals: tuple[int, int]) -> bool:
        self.status, self.finals, self.dispute = status, finals, None
        for agent_id, final in zip(PLAYERS, finals, strict=True):
            self.purses[agent_id] += final
        return True


def effects(witness: Witness, who: Player, sent: Json) -> dict[str, Callable[[], bool]]:
    """What a witness says to each event of a party, by the payload that was sent."""
    return {
        "accept": lambda: witness.accept(who, sent["deposit"]),
        "decline": lambda: witness.decline(who),
        "cancel": lambda: witness.cancel(who),
        "deposit": lambda: witness.deposit(who, sent["amount"]),
        "propose_transfer": lambda: witness.propose(who, **sent),
        "acknowledge_transfer": lambda: witness.acknowledge(who, **sent),
        "reject_transfer": lambda: witness.reject(sent["nonce"]),
        "close_request": lambda: witness.close_request(who, _finals(sent), sent["signature"]),
        "close": lambda: witness.close(_finals(sent), (sent["signature_a"], sent["signature_b"])),
        "force_close": witness.force_close,
        "dispute": lambda: witness.open_dispute(who, (sent["evidence"] or {}).get("transfers")),
        "withdraw_dispute": lambda: witness.withdraw_dispute(who),
        "submit_transfers": lambda: witness.submit(sent["transfers"]),
        "join": lambda: _is_news(witness, sent["known"]),
    }


def _finals(sent: Json) -> tuple[int, int]:
    return sent["final_balance_a"], sent["final_balance_b"]


def _is_news(witness: Witness, state: Json | None) -> bool:
    if state is None:
        return False
    deed = Deed(
        channel_id=witness.channel_id,
        nonce=state["nonce"],
        balances=(state["balance_a"], state["balance_b"]),
        payer=state["from_agent_id"],
        amount=state["amount"],
        task_id=state["task_id"],
    )
    return witness.join(deed, (state["signature_a"], state["signature_b"]))
