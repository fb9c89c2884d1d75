"""An honest party of a payment channel: what it signs, what it is owed by that, and how it asks for its money."""

from datetime import datetime, timedelta
from typing import Any

from channels.errors import Refusal
from channels.payment_state import Mode
from tests.channels.payment_stage import Stage
from tests.channels.payment_witness import Deed, Notary, doubly_signed
from tests.channels.roles import ALICE, BOB, FRESH_ID, Player

WINDOWS = 3
"""How many who asks may have to wait."""


class Honest:
    """A party that signs each nonce once, keeps all that both have signed, and asks once for its money.

    Args:
        stage: With the channel.
        who: Which of the two it is.
        notary: Signs for both.
    """

    def __init__(self, stage: Stage, who: Player, notary: Notary) -> None:
        self.stage, self.who, self.notary = stage, who, notary
        self.mallory = BOB if who is ALICE else ALICE
        self.chain: list[Deed] = []
        self.half: Deed | None = None
        self.shown: list[Deed] = []
        self.has_signed_a_close = False
        self.asked_at: datetime | None = None

    @property
    def is_online(self) -> bool:
        return self.stage.channel.mode is Mode.ONLINE

    @property
    def owed(self) -> int:
        """What it has by the last state that both have signed, less what it has signed away since."""
        channel = self.stage.channel
        mine = channel.deposit_a if self.who is ALICE else channel.deposit_b
        got = sum(-deed.amount if deed.paid_by(self.who) else deed.amount for deed in self.chain)
        return mine + got - (0 if self.half is None else self.half.amount)

    @property
    def ends_by(self) -> datetime | None:
        """When it must have its money."""
        window = timedelta(seconds=self.stage.channel.window_s)
        return None if self.asked_at is None else self.asked_at + WINDOWS * window

    @property
    def _signs(self) -> bool:
        """Whether it signs another transfer: one at a time, in an open channel, and none after a close."""
        return self.stage.channel.status == "open" and self.half is None and not self.has_signed_a_close

    def next_transfer(self, payer: Player, amount: int) -> Deed:
        """The next one after what both have signed, as it knows that."""
        channel = self.stage.channel
        last = self.chain[-1].balances if self.chain else (channel.deposit_a, channel.deposit_b)
        now = (channel.balance_a, channel.balance_b) if self.is_online else last
        moved = amount if payer is BOB else -amount
        nonce = 1 + (channel.last_nonce if self.is_online else len(self.chain))
        balances = (now[0] + moved, now[1] - moved)
        return Deed(channel_id=FRESH_ID, nonce=nonce, balances=balances, payer=payer.id, amount=amount)

    def pay(self, amount: int) -> None:
        """Sign a transfer and show it to Mallory, who may countersign it or not."""
        deed = self.next_transfer(self.who, amount)
        if min(deed.balances) < 0 or not self._signs:
            return
        signature = self.notary.sign(self.who, deed)
        if not self.is_online:
            self.half = deed
            self.shown.append(deed)
        elif self.tries("propose_transfer", amount=amount, nonce=deed.nonce, signature=signature):
            self.shown.append(deed)

    def is_countersigned(self) -> None:
        """Mallory has countersigned the last transfer outside."""
        if self.half is not None:
            self.chain.append(self.half)
            self.half = None

    def is_paid_outside(self, amount: int) -> None:
        """Mallory has signed a transfer outside, and it countersigns."""
        deed = self.next_transfer(self.mallory, amount)
        if min(deed.balances) >= 0 and self._signs:
            self.notary.sign_both(deed)
            self.chain.append(deed)
            self.shown.append(deed)

    def answers(self) -> None:
        """Acknowledge what Mallory has proposed."""
        pending = self.stage.channel.pending_proposal
        if pending is None or pending.from_agent_id == self.who.id:
            return
        balances = (pending.balance_a, pending.balance_b)
        deed = Deed(
            channel_id=FRESH_ID,
            nonce=pending.nonce,
            balances=balances,
            payer=pending.from_agent_id,
            amount=pending.amount,
        )
        signature = self.notary.sign(self.who, deed)
        if self.tries("acknowledge_transfer", amount=deed.amount, nonce=deed.nonce, signature=signature):
            self.shown.append(deed)

    def hears(self) -> None:
        """In online mode it learns from the channel what was executed; each time, both have signed."""
        if self.is_online:
            done = {step.nonce for step in self.stage.steps if step.kind == "transfer"}
            self.chain = [deed for deed in dict.fromkeys(self.shown) if deed.payer is not None and deed.nonce in done]

    def offers_a_close(self) -> None:
        """Over what both have signed, at the nonce of the server, which in offline mode may be behind."""
        channel = self.stage.channel
        if self.half is not None or channel.status not in {"open", "closing", "disputed"}:
            return
        finals = (channel.balance_a, channel.balance_b)
        if not self.is_online and self.chain:
            finals = self.chain[-1].balances
        deed = Deed(channel_id=FRESH_ID, nonce=channel.last_nonce, balances=finals)
        signature = self.notary.sign(self.who, deed)
        asked = {"final_balance_a": finals[0], "final_balance_b": finals[1], "signature": signature}
        if self.tries("close_request", **asked):
            self.shown.append(deed)
            self.has_signed_a_close = not self.is_online

    def asks(self) -> None:
        """From now on it wants its money."""
        self.asked_at = self.asked_at or self.stage.now
        self.acts()

    def acts(self) -> None:
        """What it does about what it is told: it hands in what is missing where the channel ends; and asks on."""
        self.hears()
        if self.asked_at is not None:
            self._asks_on()
        is_behind = not self.is_online and len(self.chain) > self.stage.channel.last_nonce
        if is_behind and self.stage.channel.status in {"closing", "disputed"}:
            chain = [doubly_signed(self.notary, deed) for deed in self.chain]
            assert self.tries("submit_transfers", transfers=chain), "what both have signed is executed"

    def _asks_on(self) -> None:
        channel = self.stage.channel
        if channel.status == "pending" and self.who is ALICE:
            self.tries("cancel")
        if channel.dispute is not None and channel.dispute.agent_id == self.who.id:
            self.tries("withdraw_dispute")
        if self.stage.channel.status == "open":
            assert self.tries("force_close"), "who asks is heard"

    def tries(self, event: str, /, **payload: Any) -> bool:
        try:
            self.stage.send(self.who, event, **payload)
        except Refusal:
            return False
        return True

    def require_safe(self) -> None:
        """Mallory has neither stopped the channel nor taken anything; and who asked waits no longer than it must."""
        channel = self.stage.channel
        assert channel.state_lost is None, "no party alone stops a channel"
        if self.stage.paid is not None:
            assert self.stage.paid[self.who is BOB] >= self.owed
        is_theirs = channel.status == "pending" and self.who is BOB  # Nothing of Bob's is in it.
        if self.ends_by is not None and self.stage.now >= self.ends_by and not is_theirs:
            assert self.stage.paid is not None, "three windows are over"
