"""LiveChannel: what can be done with every payment channel: close it, with the other party or without, and dispute.

Source: payment channels, `close`, `close_request`, `dispute`.
"""

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

import msgspec

from . import asking
from .backoff import NOT_NOW
from .channel_states import CloseRequest
from .errors import CannotSign, CloseNotAnswered, RefusedByServer
from .kept_channel import MOVING, Channel, Keeper, KeptChannel
from .receipts import ChannelHistory, ChannelReceipt, channel_history, channel_receipt

if TYPE_CHECKING:
    from .context import AgentContext

CLOSE_TIMEOUT_S: Final = 60.0

OVERTAKEN: Final = frozenset(
    ("transfer_pending", "nonce_replayed", "stale_state", "terminal_state", "channel_not_open", "invalid_signature")
)
"""Refusals of what was signed for a channel that has moved on meanwhile."""

_LOG = logging.getLogger(__name__)


class ChannelEnd(msgspec.Struct, frozen=True, kw_only=True):
    """How a payment channel has ended.

    Args:
        status: `closed`, `declined` or `expired`.
        cause: `joint_close`, `force_close`, `dispute_timeout`, `operator`, `declined`, `cancelled`, `expired`,
            `contact_revoked` or `banned`.
        own, other: What this agent and the other one were paid, in minor units.
    """

    channel_id: str
    status: str
    cause: str | None
    own: int
    other: int


class _Dispute(msgspec.Struct, frozen=True, kw_only=True):
    """Whose dispute is under way."""

    agent_id: str | None


class LiveChannel(KeptChannel):
    """What is common to online and offline payment channels. Made by `Paying`.

    Args:
        context: The agent's.
        channel_id: Which channel.
        keeper: Checks and signs in it.
        closes: Whether to agree to a close that the other party offers for the balances as they stand.
    """

    def __init__(self, context: "AgentContext", channel_id: str, keeper: Keeper, *, closes: bool) -> None:
        super().__init__(context, channel_id, keeper)
        self._closes = closes

    def __repr__(self) -> str:
        """Which channel it is, and how it stands."""
        return f"<{type(self).__name__} {self.id}, {self.channel.get('status', 'not joined')}>"

    # How it stands.

    @property
    def is_opener(self) -> bool:
        """Whether this agent has opened it."""
        return bool(self.channel["agent_a_id"] == self._context.me.id)

    @property
    def other_agent_id(self) -> str:
        """With whom it is."""
        return str(self.channel["agent_b_id" if self.is_opener else "agent_a_id"])

    @property
    def deposited(self) -> int:
        """All that this agent has put into it, in minor units."""
        return self._of_own("deposit")

    @property
    def window_s(self) -> int:
        """How long a force-close takes, in seconds."""
        return asking.converted(self.channel.get("window_s"), int)

    # What can be done with every channel.

    async def close(
        self, *, finals: tuple[int, int] | None = None, timeout_s: float | None = CLOSE_TIMEOUT_S
    ) -> ChannelEnd:
        """Close it together with the other party: agree to its offer, or make one and wait.

        Args:
            finals: What opener and counterparty are paid, in minor units; None: their balances. They have to be named
                where the server has lost states.
            timeout_s: How long to wait; None: without limit.

        Raises:
            CloseNotAnswered: The other party has not agreed in time. The offer stands; `force_close` needs nobody.
            AlreadySigned: Another close was signed, and nothing paid since: wait, or `force_close`.
            CannotSign: It was not accepted yet; or the server has lost states, and no finals are named.
            ValueError: The finals do not sum to all that is locked.
            RefusedByServer, LyingServer, BrokenRecord, Disconnected: As for `ChannelKeeper`, and any push.
        """
        try:
            async with asyncio.timeout(timeout_s), self._acting:
                while not self.is_over:
                    await self._come_closer(finals)
        except TimeoutError:
            if not self.is_over:
                raise CloseNotAnswered(self.id, window_s=self.window_s) from None
        return self._end()

    async def force_close(self) -> None:
        """Begin to close it without the other party: the balances are paid once `window_s` has passed.

        Until then the other party may hand in transfers (offline), agree to a close, or dispute. Wait for `closed`.

        Raises:
            RefusedByServer: `channel_not_open` where it is closing or disputed already, and more.
            LyingServer, BrokenRecord, Disconnected: As for `close`.
        """
        await self._post("force-close")

    async def dispute(self, reason: str, evidence: Any = None) -> None:
        """Freeze it, once, until the parties close it, an operator decides, or the time is over.

        Args:
            reason: At most `text_chars_max` characters.
            evidence: Any JSON whose only numbers are integers; of an offline channel best
                `{"transfers": channel.unsubmitted}`, which settles it at once.

        Raises:
            RefusedByServer: `dispute_used`, `channel_not_open`, `bad_transfer` and more.
            LyingServer, BrokenRecord, Disconnected: As for `close`.
        """
        await self._push("dispute", {"reason": reason, "evidence": evidence})

    async def withdraw_dispute(self) -> None:
        """Take the own dispute back: the channel is as before.

        Raises:
            RefusedByServer: `forbidden_role` where it is the other party's, `not_disputed`.
            LyingServer, BrokenRecord, Disconnected: As for `close`.
        """
        dispute = asking.converted(self.channel.get("dispute") or {"agent_id": None}, _Dispute)
        was_own = dispute.agent_id == self._context.me.id
        try:
            await self._push("withdraw_dispute", {})
        except RefusedByServer as refusal:
            # Said again after a loss, it is withdrawn already.
            if not was_own or refusal.reason not in {"not_disputed", "terminal_state"}:
                raise
            await self._look_again()

    async def accepted(self, timeout_s: float | None = None) -> None:
        """Wait until it is accepted, or has ended: look at `status`.

        Raises:
            TimeoutError: Nobody has answered, in time.
            LyingServer, BrokenRecord, RefusedByServer, Disconnected: Nothing more is heard of it, for this reason.
        """
        async with asyncio.timeout(timeout_s):
            await self.until(lambda: self.status != "pending")

    async def take_back(self) -> None:
        """Take it back, as its opener, before it was accepted: the deposit comes back.

        Raises:
            RefusedByServer: `channel_not_pending`, `terminal_state`: it was answered already.
            LyingServer, BrokenRecord, Disconnected: As for `close`.
        """
        await self._post("cancel")

    async def closed(self, timeout_s: float | None = None) -> ChannelEnd:
        """Wait until it has ended.

        Raises:
            TimeoutError: It has not, in time.
            LyingServer, BrokenRecord, RefusedByServer, Disconnected: Nothing more is heard of it, for this reason.
        """
        async with asyncio.timeout(timeout_s):
            await self.until(lambda: self.is_over)
        return self._end()

    async def receipt(self) -> ChannelReceipt:
        """The receipt of the closed channel, verified, and kept in the agent's folder.

        Raises:
            RefusedByServer: `not_closed`.
            LyingServer, BrokenRecord, NoAnswer, Disconnected: As for `channel_receipt`.
        """
        return await channel_receipt(self._context, self.id, self._checks.record)

    async def history(self) -> ChannelHistory:
        """Everything that ever changed the channel, verified step by step, and kept.

        Raises:
            LyingServer, BrokenRecord, NoAnswer, Disconnected: As for `channel_history`.
        """
        return await channel_history(self._context, self.id, self._checks.record)

    # Closing.

    async def _do_chore(self) -> bool:
        """Answer one thing that the other party waits for; whether there was one.

        It does not wait for who is signing: that one may wait for this very answer.
        """
        offered = self._offered(None) if self._closes else None
        if offered is None:
            return False
        await self._agree(offered)
        return True

    async def _come_closer(self, finals: tuple[int, int] | None) -> None:
        """Do the next thing towards a close, or wait for it."""
        self._require_sound()
        mark = self._mark()
        offered = self._offered(finals)
        if self.channel["pending_proposal"] is not None or (offered is None and self._has_offered(finals)):
            await self.until(lambda: self._mark() != mark)
            return
        try:
            if offered is not None:
                await self._push("close", self._checks.close(offered, finals))
            else:
                await self._push("close_request", self._checks.close_request(finals))
        except CannotSign:
            if not self.is_over:
                raise
        except RefusedByServer as refusal:
            await self._look_again()
            if refusal.reason not in OVERTAKEN or self._mark() == mark:
                raise

    async def _agree(self, offered: Channel) -> None:
        """Agree to a close for the balances as they stand."""
        try:
            await self._push("close", self._checks.close(offered))
        except (RefusedByServer, CannotSign) as error:
            if isinstance(error, RefusedByServer) and error.reason in NOT_NOW:
                raise
            _LOG.info("payment channel %s: the close that is offered was not agreed to: %s", self.id, error)
            mark = self._mark()
            await self._look_again()
            await self.until(lambda: self.is_over or self._mark() != mark)

    def _offered(self, finals: tuple[int, int] | None) -> Channel | None:
        """The close that the other party offers for these finals, or for the balances."""
        return self._request_of(self.other_agent_id, finals)

    def _has_offered(self, finals: tuple[int, int] | None) -> bool:
        return self._request_of(self._context.me.id, finals) is not None

    def _request_of(self, agent_id: str, finals: tuple[int, int] | None) -> Channel | None:
        channel = self.channel
        if channel["pending_proposal"] is not None or (finals is None and self.is_state_lost):
            return None
        shares = (channel["balance_a"], channel["balance_b"]) if finals is None else finals
        for told in channel["close_requests"]:
            request = asking.converted(told, CloseRequest)
            if (request.agent_id, request.nonce, request.finals) == (agent_id, channel["last_nonce"], shares):
                return dict(told)
        return None

    def _mark(self) -> tuple[Any, ...]:
        """What a close rests on: it is another one once something of it has changed."""
        channel = self.channel
        pending = channel["pending_proposal"]
        offers = [(one["agent_id"], one["nonce"], one["signature"]) for one in channel["close_requests"]]
        moving = tuple(channel[name] for name in MOVING)
        return channel["status"], *moving, None if pending is None else pending["nonce"], tuple(offers)

    def _end(self) -> ChannelEnd:
        own, other = self._of_own("final_balance"), self._of_other("final_balance")
        return ChannelEnd(channel_id=self.id, status=self.status, cause=self.channel["cause"], own=own, other=other)

    def _of_own(self, name: str) -> int:
        return int(self.channel[f"{name}_{'a' if self.is_opener else 'b'}"] or 0)

    def _of_other(self, name: str) -> int:
        return int(self.channel[f"{name}_{'b' if self.is_opener else 'a'}"] or 0)
