"""What is done with payment channels that others open: accepted or declined, and then kept up.

    agent.accept_channels(AcceptChannels(AcknowledgeUpTo("0.50", tasks_only=True), deposit_max="100.00"))

Without it they are left alone: the owner may answer them, or they expire. With it the mailbox tells of new ones; at the
start, and after every restart, those that wait or are open already are taken up too, so none is lost.
"""

import inspect
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final

import msgspec

from .acknowledging import AcknowledgeNothing, Acknowledging
from .amounts import Amount
from .offline_channel import OfflineChannel
from .payment_channel import PaymentChannel

AnyChannel = PaymentChannel | OfflineChannel

PENDING: Final = "pending"


class OfferedChannel(msgspec.Struct, frozen=True, kw_only=True):
    """A payment channel that another agent has opened with this one.

    Args:
        channel_id: Which one.
        agent_a_id: Who has opened it.
        deposit_a: What that one has put in, in minor units.
        mode: `online` or `offline`.
        window_s: How long a force-close would take, in seconds; to accept it is to agree.
        expires_at: Until when it can be accepted.
    """

    channel_id: str
    agent_a_id: str
    deposit_a: int
    mode: str
    window_s: int
    expires_at: datetime


Who = Callable[[OfferedChannel], bool | Awaitable[bool]]


class AcceptChannels:
    """What is done with payment channels that others open.

    Args:
        acknowledge: What is confirmed of what they pay.
        deposit_max: The most that the other one may put in; more is declined. None: anything.
        own_deposit: What this agent puts into each.
        who: Whether to take one; None: everybody who may open one, which contacts decide.
        closes: Whether to agree to a close that the other one offers for the balances as they stand.
        modes: What kinds are taken; others are declined.
        opened: Told of each channel once it is kept up: new ones, and at the start those that are open already.
    """

    def __init__(
        self,
        acknowledge: Acknowledging | None = None,
        *,
        deposit_max: Amount | None = None,
        own_deposit: Amount = 0,
        who: Who | None = None,
        closes: bool = True,
        modes: tuple[str, ...] = ("online",),
        opened: Callable[[AnyChannel], None] | None = None,
    ) -> None:
        self.acknowledge: Acknowledging = acknowledge or AcknowledgeNothing()
        self.deposit_max = deposit_max
        self.own_deposit = own_deposit
        self.closes = closes
        self.modes = modes
        self._who = who
        self._opened = opened

    async def refusal(self, offered: OfferedChannel, amount: Callable[[Amount], int]) -> str | None:
        """Why a channel is not taken, for who has opened it; None: it is.

        Args:
            offered: The channel.
            amount: Makes minor units of an amount.
        """
        if offered.mode not in self.modes:
            return f"{offered.mode} channels are not taken"
        if self.deposit_max is not None and offered.deposit_a > amount(self.deposit_max):
            return "the deposit is more than is taken"
        if self._who is not None:
            answer = self._who(offered)
            if not (await answer if inspect.isawaitable(answer) else answer):
                return "it is not wanted"
        return None

    def tell(self, channel: AnyChannel) -> None:
        """A channel is kept up."""
        if self._opened is not None:
            self._opened(channel)
