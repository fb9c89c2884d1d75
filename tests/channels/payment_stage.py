"""One payment channel with its steps, its ledger and its timer: what is sent is decided, carried out and kept.

It does what the server does between a frame and its reply: decode, load, decide, store, tell. A refusal changes
nothing. What is stored and told goes through JSON, as it does in the server. The clock stands still until `wait`.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from datetime import datetime, timedelta
from typing import Any, Literal, cast

import msgspec

from channels import payment, payment_opening
from channels.changes import Change, Insert, NoteStep, Timer
from channels.channel_steps import ChannelStep
from channels.errors import Conflict
from channels.handlers import Context, Decision, Handler
from channels.ledger import Entry, available, channel_lock
from channels.limits import Market
from channels.opening import Opening
from channels.payment_disputes import DecideChannel, decide_channel
from channels.payment_moves import revoked
from channels.payment_opening import AcceptanceFacts, OpenChannel
from channels.payment_state import Cause, ChannelFacts, Mode, PaymentChannel, history_header, receipt_document, snapshot
from channels.told import Broadcast
from crypto import (
    HistoryDigest,
    ReceiptReport,
    canonical_digest,
    format_public_key,
    public_key_of,
    receipt_message,
    sign,
    verify_history,
    verify_receipt,
)
from tests.channels.roles import ALICE, BOB, FRESH_ID, MARKET, NOW, OTHER_ID, Player, as_told, context

PURSE = 1_000_000
HOUR_S = 3_600
DAY_S = 86_400
WEEK_S = 7 * DAY_S
PLATFORM = bytes([7]) * 32
CALLS = {
    **payment.HANDLERS,
    "join": payment.JOIN,
    "force_close": payment.FORCE_CLOSE,
    "accept": payment_opening.ACCEPT,
    "decline": payment_opening.DECLINE,
    "cancel": payment_opening.CANCEL,
    "deposit": payment_opening.DEPOSIT,
}
"""Everything that a party can ask of a channel, on its topic or by REST."""

Json = dict[str, Any]
LoadWhat = Literal["", "nonce", "newer", "chain", "evidence", "agents"]
LOADS: dict[str, LoadWhat] = {
    "payment": "",
    "payment_at_nonce": "nonce",
    "payment_acknowledging": "nonce",
    "payment_proposing": "nonce",
    "payment_join": "newer",
    "payment_handing_in": "chain",
    "payment_disputing": "evidence",
    "payment_accepting": "agents",
}


class Stage:
    """A channel that Alice opens with Bob.

    Args:
        mode: Of the channel.
        window_s: Of a force-close.
        deposit: Alice's, in minor units.
        counter_deposit: Bob's; None: he has not accepted yet.
        market: Its limits.
        channel_id: Of the channel.
    """

    def __init__(
        self,
        *,
        mode: Mode = Mode.ONLINE,
        window_s: int = DAY_S,
        deposit: int = 1_000,
        counter_deposit: int | None = 1_000,
        market: Market = MARKET,
        channel_id: str = FRESH_ID,
    ) -> None:
        self.market = market
        self.now = NOW
        self.accounts: dict[str, int] = defaultdict(int, {available(who.id): PURSE for who in (ALICE, BOB)})
        self.steps: list[ChannelStep] = []
        self.timer: datetime | None = None
        self.told: list[Broadcast] = []
        opening = Opening(client=ALICE.agent, provider=BOB.agent, open_count=0)
        asked = OpenChannel(counterparty_agent_id=BOB.id, deposit=deposit, mode=mode, window_s=window_s)
        opened = payment_opening.open_channel(
            opening, asked, context(ALICE, market=market, now=self.now, new_id=lambda: channel_id)
        )
        (stored,) = (change for change in opened.changes if isinstance(change, Insert))
        self.channel: PaymentChannel = stored.state
        self._carry_out(opened)
        if counter_deposit is not None:
            self.send(BOB, "accept", deposit=counter_deposit)

    # What players do

    def send(self, who: Player, event: str, /, **payload: Any) -> Json:
        """The reply to an event; a refusal is raised."""
        handler: Handler = CALLS[event]
        request = msgspec.convert(as_told(payload), handler.request)
        return self.carry_out(lambda context: handler.decide(self._load(handler, request), request, context), who)

    def carry_out(self, decide: Callable[[Context], Decision], who: Player = ALICE) -> Json:
        """The reply of a decision that is carried out."""
        decision = decide(self.context(who))
        self._carry_out(decision)
        return cast("Json", as_told(decision.reply))

    def decide(self, final_balance_a: int, final_balance_b: int) -> Json:
        """What an operator decides."""
        request = DecideChannel(final_balance_a=final_balance_a, final_balance_b=final_balance_b, reason="So be it.")
        return self.carry_out(lambda context: decide_channel(self._facts(()), request, context))

    def revoke(self, cause: Cause = Cause.CONTACT_REVOKED) -> Json:
        """The contact of the two ends, or one of them is banned."""
        return self.carry_out(lambda context: revoked(self.channel, context, cause=cause))

    # What the clock does

    def wait(self, seconds: int, *, is_timer_late: bool = False) -> None:
        """Let time pass; the timer runs when it is due, unless it is late."""
        end = self.now + timedelta(seconds=seconds)
        while not is_timer_late and self.timer is not None and self.timer <= end:
            self.now = max(self.now, self.timer)
            self.run_timer()
        self.now = end

    def run_timer(self) -> None:
        """What the server does when the timer is due."""
        self.timer = None
        self._carry_out(payment.clock(self._facts(()), self.context(ALICE)))

    # What can be known

    def copy(self) -> "Stage":
        """The same channel, to go on in another way."""
        another = copy(self)
        another.accounts, another.steps, another.told = self.accounts.copy(), self.steps.copy(), self.told.copy()
        return another

    @property
    def snapshot(self) -> Json:
        """The channel as both parties see it."""
        return cast("Json", as_told(snapshot(self.channel, self.market)))

    @property
    def lock(self) -> int:
        """What lies in the channel's account."""
        return self.accounts[channel_lock(self.channel.id)]

    @property
    def paid(self) -> tuple[int, int] | None:
        """What Alice and Bob were paid out; None while the channel goes on."""
        channel = self.channel
        if channel.final_balance_a is None or channel.final_balance_b is None:
            return None
        had = (PURSE - channel.deposit_a + channel.final_balance_a, PURSE - channel.deposit_b + channel.final_balance_b)
        assert (self.purse(ALICE), self.purse(BOB)) == had, "the ledger has paid what the channel says"
        assert self.lock == 0
        return channel.final_balance_a, channel.final_balance_b

    def purse(self, who: Player) -> int:
        """What a player can spend."""
        return self.accounts[available(who.id)]

    def context(self, who: Player) -> Context:
        return context(who, now=self.now, market=self.market, topic=self.channel.topic)

    def everything(self) -> tuple[object, ...]:
        """All that a refusal leaves as it is."""
        encoded = msgspec.json.encode(self.channel)
        return encoded, msgspec.json.encode(self.steps), dict(self.accounts), self.timer, len(self.told)

    def verify(self) -> ReceiptReport:
        """Prove the whole history offline, as it would be exported now; and the receipt, once there is one."""
        header = as_told(history_header(self.channel, self.market))
        steps = as_told(self.steps)
        chain = HistoryDigest(header)
        for step in steps:
            chain.add(step)
        keys = {"platform_key": public_key_of(PLATFORM)}
        last = {"kind": "platform", "steps": len(steps), "digest": chain.hexdigest}
        if self.channel.status == "closed":
            document = as_told(receipt_document(self.channel, self.market))
            kind = "payment_channel"
            signed = self._platform_signs(kind, canonical_digest(document))
            receipt = {"kind": kind, "id": self.channel.id, "signing_domain": self.market.signing_domain}
            verify_receipt({**receipt, "document": document, "platform": signed}, **keys)
        return verify_history(
            [header, *steps, {**last, **self._platform_signs("payment_history", chain.hexdigest)}], **keys
        )

    def _platform_signs(self, kind: str, digest: str) -> dict[str, str]:
        message = receipt_message(
            signing_domain=self.market.signing_domain,
            kind=kind,
            document_id=self.channel.id,
            document_digest=digest,
        )
        return {"public_key": format_public_key(public_key_of(PLATFORM)), "signature": sign(PLATFORM, message)}

    # How it is done

    def _facts(self, nonces: Iterable[int]) -> ChannelFacts:
        wanted = set(nonces)
        used = tuple(step for step in self.steps if step.nonce is not None and step.nonce in wanted)
        return ChannelFacts(channel=self.channel, used=used)

    def _load(self, handler: Handler, request: Any) -> ChannelFacts | AcceptanceFacts:
        """What the server's loader of that name would load."""
        match LOADS[handler.loads]:
            case "nonce":
                return self._facts({request.nonce} - {None})
            case "newer":
                known = request.known
                return self._facts(() if known is None else range(max(known.nonce, 1), self.channel.last_nonce + 1))
            case "chain":
                return self._facts(transfer.nonce for transfer in request.transfers)
            case "evidence":
                evidence = request.evidence
                transfers: list[Mapping[str, Any]] = evidence.get("transfers", []) if isinstance(evidence, dict) else []
                return self._facts(transfer["nonce"] for transfer in transfers)
            case "agents":
                return AcceptanceFacts(channel=self.channel, agents=(ALICE.agent, BOB.agent))
            case _:
                return self._facts(())

    def _carry_out(self, decision: Decision) -> None:
        self._move_money(decision.changes)
        if decision.state is not None:
            self.channel = msgspec.json.decode(msgspec.json.encode(decision.state), type=PaymentChannel)
        for change in decision.changes:
            if isinstance(change, NoteStep):
                self.steps.append(msgspec.json.decode(msgspec.json.encode(change.step), type=ChannelStep))
            elif isinstance(change, Timer):
                assert (change.kind, change.topic) == ("payment_clock", self.channel.topic)
                self.timer = change.due_at
        self.told += [told for told in decision.broadcasts if isinstance(told, Broadcast)]

    def _move_money(self, changes: tuple[Change, ...]) -> None:
        after = self.accounts.copy()
        for entry in changes:
            if isinstance(entry, Entry):
                for posting in entry.postings:
                    after[posting.account] += posting.amount
                    if after[posting.account] < 0:
                        raise Conflict("insufficient_balance", "There is not so much.")
        self.accounts = after


def elsewhere(channel: Json) -> Json:
    """A second channel of the same two, in the very same state."""
    return {**channel, "channel_id": OTHER_ID}
