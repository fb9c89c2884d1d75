"""Paying: an agent's money and its payment channels: opening, taking up again, and accepting those of others.

Source: ledger, payment channels.
"""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final, Literal, overload

import msgspec

from . import asking
from .acknowledging import Acknowledging
from .amounts import Amount
from .channel_record import ENDED
from .connection import State
from .discovering import FoundAgent, agent_id_of
from .errors import ChannelNotOpened, ClientError, RefusedByServer, WrongAnswer
from .incoming_channels import PENDING, AcceptChannels, AnyChannel, OfferedChannel
from .lies import require_balance, require_channel_ordered
from .offline_channel import OfflineChannel
from .payment_channel import PaymentChannel

if TYPE_CHECKING:
    from .context import AgentContext
    from .told_messages import Message

ACCEPT_TIMEOUT_S: Final = 60.0
MESSAGE_TYPE: Final = "payment_channel"

Mode = Literal["online", "offline"]
ChannelStatus = Literal["pending", "open", "closing", "disputed", "closed", "declined", "expired"]
TAKEN_UP: Final[tuple[ChannelStatus, ...]] = ("pending", "open", "closing", "disputed")
"""States of channels that are taken up at the start."""

_LOG = logging.getLogger(__name__)


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """An agent's money, in minor units; the sum was checked.

    Args:
        available: What it can spend.
        escrow: Held for its tasks.
        channels: Its own side of payment channels.
        total: All of that.
    """

    available: int
    escrow: int
    channels: int
    total: int
    currency: str
    exponent: int


class _Announced(msgspec.Struct, frozen=True, kw_only=True):
    """Of a message of type `payment_channel`, or of a channel: which one, and how it stands."""

    channel_id: str
    status: str


class Paying:
    """An agent's payment channels.

    Args:
        context: The agent's.
    """

    def __init__(self, context: "AgentContext") -> None:
        self._context = context
        self._channels: dict[str, AnyChannel] = {}
        self._opening = asyncio.Lock()
        self._incoming: AcceptChannels | None = None
        self._taking_up: set[str] = set()

    @property
    def channels(self) -> tuple[AnyChannel, ...]:
        """Those that are kept up here, and have not ended."""
        return tuple(channel for channel in self._channels.values() if not channel.is_over)

    # Money.

    async def balance(self) -> Balance:
        """The agent's money.

        Raises:
            WrongBalance, WrongMarket, MalformedAnswer: It does not add up, or is none.
            RefusedByServer, Disconnected: As for any call.
        """
        told = await asking.get(self._context, "/ledger/balance", dict[str, Any])
        require_balance(told)
        return asking.converted(told, Balance)

    def transactions(
        self, *, kind: str | None = None, task_id: str | None = None, channel_id: str | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        """What has moved the agent's available money, newest first; the fields stand in PROTOCOL.md.

        Args:
            kind: Of one kind alone, such as `deposit`.
            task_id, channel_id: Of one task or channel alone.
        """
        filters = {"kind": kind, "task_id": task_id, "channel_id": channel_id}
        return asking.every(self._context, "/ledger/transactions", dict[str, Any], **filters)

    # Opening.

    @overload
    async def open_channel(
        self,
        other: FoundAgent | str,
        deposit: Amount,
        *,
        mode: Literal["online"] = "online",
        window_s: int | None = None,
        accept_timeout_s: float | None = ACCEPT_TIMEOUT_S,
        acknowledge: Acknowledging | None = None,
        closes: bool = True,
    ) -> PaymentChannel: ...

    @overload
    async def open_channel(
        self,
        other: FoundAgent | str,
        deposit: Amount,
        *,
        mode: Literal["offline"],
        window_s: int | None = None,
        accept_timeout_s: float | None = ACCEPT_TIMEOUT_S,
        acknowledge: Acknowledging | None = None,
        closes: bool = True,
    ) -> OfflineChannel: ...

    async def open_channel(
        self,
        other: FoundAgent | str,
        deposit: Amount,
        *,
        mode: Mode = "online",
        window_s: int | None = None,
        accept_timeout_s: float | None = ACCEPT_TIMEOUT_S,
        acknowledge: Acknowledging | None = None,
        closes: bool = True,
    ) -> AnyChannel:
        """Open a payment channel, and wait until the other agent has accepted it.

        Args:
            other: With whom: an id, a handle, or a hit of a search.
            deposit: What is locked in it: minor units, or text in major units.
            mode: `online`, or `offline` for payments that are signed over any medium.
            window_s: How long a force-close takes; None: the market's own.
            accept_timeout_s: How long the other agent has; then the channel is taken back. None: as long as the market
                keeps it.
            acknowledge: What is confirmed of what the other agent pays; None: everything is left to the application.
            closes: Whether to agree to a close that the other agent offers for the balances as they stand.

        Raises:
            ChannelNotOpened: It was declined, has expired, or was taken back: the deposit is back.
            NoSigningKey: The agent was given none.
            FolderInUse: Another program pays with the agent's folder; nothing was opened.
            RefusedByServer: `contact_required`, `insufficient_balance`, `public_key_required` and more.
            WrongAnswer, WrongBalance: The server has opened another one.
            LyingServer, BrokenRecord, Disconnected: As for `ChannelKeeper`, and any call.
        """
        context = self._context
        context.require_signer()
        context.folder.lock()
        other_id, minor = await agent_id_of(context, other), context.amount(deposit)
        body: dict[str, Any] = {"counterparty_agent_id": other_id, "deposit": minor, "mode": mode}
        if window_s is not None:
            body["window_s"] = window_s
        told = await asking.post(context, "/payment-channels", body, dict[str, Any], key=uuid.uuid4().hex)
        require_channel_ordered(
            told, agent_a_id=context.me.id, agent_b_id=other_id, mode=mode, window_s=window_s, deposit=minor
        )
        channel_id = asking.converted(told, _Announced).channel_id
        channel = await self.channel(channel_id, acknowledge=acknowledge, closes=closes)
        await self._accepted(channel, accept_timeout_s)
        return channel

    async def channel(
        self, channel_id: str, *, acknowledge: Acknowledging | None = None, closes: bool = True
    ) -> AnyChannel:
        """A payment channel of the agent, kept up from now on: also after a restart, with the file of before.

        Look at `unfinished` of an online one: a payment that was under way when the program ended.

        Args:
            channel_id: Which one. One that is kept up here already stays as it is.
            acknowledge: What is confirmed of what the other agent pays; None: everything is left to the application.
            closes: Whether to agree to a close that the other agent offers for the balances as they stand.

        Raises:
            NoSigningKey: The agent was given none.
            FolderInUse: Another program pays with the agent's folder.
            RefusedByServer: `not_found`.
            LyingServer, CannotSign, BrokenRecord, Disconnected: As for `ChannelKeeper`, and any call.
        """
        async with self._opening:
            known = self._channels.get(channel_id)
            if known is not None and known.failure is None:
                return known
            if known is not None:
                await known.stop()
            told = await asking.get(self._context, f"/payment-channels/{channel_id}", dict[str, Any])
            if told.get("channel_id") != channel_id:
                raise WrongAnswer("another payment channel was told", expected=channel_id, told=told.get("channel_id"))
            kind = OfflineChannel if told.get("mode") == "offline" else PaymentChannel
            self._context.folder.lock()
            channel = kind(self._context, channel_id, acknowledge=acknowledge, closes=closes)
            await channel.start()
            if not channel.is_over:
                self._channels[channel_id] = channel
                channel.when_ended(lambda: self._forget(channel))
            return channel

    def listed(
        self, *, status: ChannelStatus | None = None, role: Literal["opener", "counterparty"] | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        """All payment channels of the agent, newest first, as the server tells them: nothing of it is checked."""
        return asking.every(self._context, "/payment-channels", dict[str, Any], status=status, role=role)

    # What others open.

    async def accept(self, policy: AcceptChannels) -> None:
        """Take up payment channels that others have opened, and will open.

        Raises:
            NoSigningKey: The agent was given none.
            FolderInUse: Another program pays with the agent's folder; no channel was accepted.
            RefusedByServer: The key does not have the scope `messages` or `payments`.
            LyingServer: As for any call.
            Disconnected: The connection is closed.
        """
        self._context.require_signer()
        self._context.folder.lock()
        is_first, self._incoming = self._incoming is None, policy
        mailbox = self._context.mailbox
        if is_first:
            mailbox.on(MESSAGE_TYPE, self._hear)
        await mailbox.start()
        for status in TAKEN_UP:
            async for told in self.listed(status=status, role="counterparty"):
                channel_id = asking.converted(told, _Announced).channel_id
                try:
                    await self._take_up(channel_id)
                except ClientError as error:
                    # One that cannot be kept up, such as one whose record is damaged, keeps no other from it.
                    if self._context.connection.state is State.CLOSED:
                        raise
                    _LOG.error("payment channel %s cannot be kept up: %s", channel_id, error)

    async def _hear(self, message: "Message") -> None:
        announced = asking.converted(message.payload, _Announced)
        if announced.status == PENDING:  # Else it is an answer, which the channel's own topic tells.
            await self._take_up(announced.channel_id)

    async def _take_up(self, channel_id: str) -> None:
        """Accept or decline a channel of another's, and keep it up. What is under way already is not begun again."""
        policy = self._incoming
        if policy is None or channel_id in self._channels or channel_id in self._taking_up:
            return
        self._taking_up.add(channel_id)
        try:
            if await self._answered(channel_id, policy):
                channel = await self.channel(channel_id, acknowledge=policy.acknowledge, closes=policy.closes)
                policy.tell(channel)
        finally:
            self._taking_up.discard(channel_id)

    async def _answered(self, channel_id: str, policy: AcceptChannels) -> bool:
        """Whether a channel of another's is to be kept up, once it is accepted or declined."""
        context, path = self._context, f"/payment-channels/{channel_id}"
        told = await asking.get(context, path, dict[str, Any])
        offered = asking.converted(told, OfferedChannel)
        if told.get("agent_b_id") != context.me.id or told.get("status") in ENDED:
            return False
        if told.get("status") != PENDING:
            return True
        refusal = await policy.refusal(offered, context.amount)
        if refusal is None:
            await asking.post(
                context, f"{path}/accept", {"deposit": context.amount(policy.own_deposit)}, dict[str, Any]
            )
        else:
            await asking.post(context, f"{path}/decline", {"reason": refusal}, dict[str, Any])
        return refusal is None

    # How it is done.

    def _forget(self, channel: AnyChannel) -> None:
        """A channel has ended: it is the application's alone, or an agent that is paid for years would keep each."""
        if self._channels.get(channel.id) is channel:
            del self._channels[channel.id]

    async def _accepted(self, channel: AnyChannel, timeout_s: float | None) -> None:
        """Wait until a channel was accepted, or take it back."""
        try:
            await channel.accepted(timeout_s)
        except TimeoutError:
            try:
                await channel.take_back()
            except RefusedByServer:
                await channel.accepted(None)  # It was accepted, or has ended, just now.
        if channel.is_over and channel.status != "closed":
            told = channel.channel
            raise ChannelNotOpened(channel.id, status=channel.status, cause=told["cause"], reason=told.get("reason"))
