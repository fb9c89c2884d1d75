"""What a hired task delivers: its output chunk by chunk, and the payment of each where it is paid as it streams."""

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from .asking import get
from .errors import ClientError, StreamBroken, StreamRewritten, UnfinishedPayment
from .kept_task import KeptTask
from .payment_channel import OwnPayment

if TYPE_CHECKING:
    from .context import AgentContext


class Payer(Protocol):
    """What pays for output as it streams: an open payment channel."""

    @property
    def id(self) -> str:
        """The channel's."""
        ...

    @property
    def other_agent_id(self) -> str:
        """Who is paid."""
        ...

    @property
    def last_payment(self) -> OwnPayment | None:
        """The last payment that this agent has signed there, and what has become of it."""
        ...

    async def pay(self, amount: int, *, task_id: str | None = None) -> int:
        """Pay so many minor units for a task, and wait until they are paid; the nonce."""
        ...


class _Paid(msgspec.Struct, frozen=True, kw_only=True):
    """Of a task: what was paid for it as it streamed, in minor units."""

    paid: int


Payment = asyncio.Task[ClientError | OSError | None]
"""A payment for units that is under way; why it was not made."""

NO_PAYMENT: Final = (0, 0)
"""A doubt about what others may have paid: an earlier program, or who has read the task before."""


class UnitPayer:
    """Pays for what has come, and for nothing ahead: who stops has paid for nothing that did not come.

    Args:
        context: The client's.
        kept: The client's side of the task.
        payer: What pays; None: the price is held.
        under_way: By task, payments of all who pay for units in this program.
    """

    def __init__(
        self, context: "AgentContext", kept: KeptTask, payer: Payer | None, under_way: dict[str, Payment] | None = None
    ) -> None:
        self._context = context
        self._kept = kept
        self._payer = payer
        self._paid = 0
        self._accounted = 0
        """The nonce of the last own payment for this task that is in `_paid`, or was not made."""
        self._doubt: tuple[int, int] | None = NO_PAYMENT
        """A payment that failed: its nonce, and what was paid with it if it was made after all."""
        self._under_way: dict[str, Payment] = {} if under_way is None else under_way
        self._payment: Payment | None = None
        """The last one that was begun here, until somebody has been told how it went."""

    @property
    def paid(self) -> int:
        """What was paid for the task, in minor units."""
        return max(self._paid, self._kept.streamed.paid)

    async def pay(self) -> None:
        """Pay what has come and is not paid. Who is cancelled meanwhile leaves the payment to itself: it is made once.

        Raises:
            ClientError: As for the channel's `pay`. What failed and may have been made after all is not paid anew.
            OSError: The channel's record cannot be written.
        """
        payment = self._payment or self._under_way.get(self._kept.id)
        if payment is None:
            payer = self._payer
            if payer is None or self._due() <= 0:
                return
            payment = self._begin(payer)
        elif payment is not self._payment:
            self._doubt = self._doubt or NO_PAYMENT
        failure = await asyncio.shield(payment)
        if payment is self._payment:
            self._payment = None
        if failure is not None:
            raise failure

    def _due(self) -> int:
        """What has come and is not paid, in minor units; more than that is not, where a payment is in doubt."""
        price = self._kept.price
        return 0 if price is None else price.units(self._kept.streamed.incoming.position) * price.amount - self.paid

    def _begin(self, payer: Payer) -> Payment:
        """Begin to pay what is due; from here on nobody else of this program does so beside."""
        task_id = self._kept.id
        payment = self._payment = self._context.spawn(self._pay(payer), f"payment for task {task_id}")
        self._under_way[task_id] = payment
        payment.add_done_callback(lambda _payment: self._under_way.pop(task_id))
        return payment

    async def _pay(self, payer: Payer) -> ClientError | OSError | None:
        """Pay; why not. It is for who reads: raised here, it would end the agent."""
        try:
            await self._require_certain(payer)
        except (ClientError, OSError) as error:
            return error
        due = self._due()
        if due <= 0:
            return None
        after = self.paid + due
        try:
            self._accounted = await payer.pay(due, task_id=self._kept.id)
        except (ClientError, OSError) as error:
            last = payer.last_payment
            if last is not None and last.task_id == self._kept.id and last.nonce > self._accounted:
                self._doubt = last.nonce, after
            return error
        self._paid = max(self._paid, after)
        return None

    async def _require_certain(self, payer: Payer) -> None:
        """Know what was paid before anything more is: one that failed, or an earlier program's, may have been made.

        Raises:
            UnfinishedPayment: It is not known yet: `resume` it, or `withdraw` it.
        """
        last = payer.last_payment
        own = last if last is not None and last.task_id == self._kept.id and last.nonce > self._accounted else None
        if own is None and self._doubt is None:
            return
        if own is not None and own.is_paid is None:
            raise UnfinishedPayment(own.nonce, amount=own.amount, task_id=own.task_id)
        told = await get(self._context, f"/tasks/{self._kept.id}", _Paid)
        self._paid = max(self._paid, told.paid)
        if own is not None:
            if self._doubt is not None and own.is_paid and self._doubt[0] == own.nonce:
                self._paid = max(self._paid, self._doubt[1])
            self._accounted = own.nonce
        self._doubt = None


class HiredOutput:
    """A task's output as its client takes it. All of it is kept, so that it can be checked as a whole.

    Args:
        kept: The client's side of the task.
        payer: What pays for it as it comes.
    """

    def __init__(self, kept: KeptTask, payer: UnitPayer) -> None:
        self.is_whole = False
        """Whether all of it has come, and digest and checksum were right."""
        self._kept = kept
        self._payer = payer
        self._chunks: list[bytes] = []
        """What has come, and was not taken back."""
        self._cursor = 0
        """The first chunk that was not handed on."""
        self._rewritten: StreamRewritten | None = None
        self._turn = 0
        """How often something was fetched."""
        self._fetching = asyncio.Lock()

    @property
    def content(self) -> bytes:
        """What has come."""
        return b"".join(self._chunks)

    def pop(self) -> bytes | None:
        """The next chunk to be handed on, if it has come.

        Raises:
            StreamRewritten: Some of those that were handed on have other bytes now. Said once.
        """
        rewritten, self._rewritten = self._rewritten, None
        if rewritten is not None:
            raise rewritten
        if self._cursor == len(self._chunks):
            return None
        self._cursor += 1
        return self._chunks[self._cursor - 1]

    async def fetch(self) -> None:
        """Take the next chunk, or the end, and pay for what has come. Cancelled, nothing that has come is lost.

        Raises:
            StreamBroken: The task has ended before its output was complete. Without any output, that is for the task's
                status to say: it may have completed with a result alone.
            ClientError: As for `KeptTask.next_chunk`, or the channel's `pay`.
            OSError: The channel's record cannot be written; nothing that has come is lost.
        """
        turn = self._turn
        async with self._fetching:
            await self._payer.pay()  # What was left unpaid by a payment that failed.
            if self.is_whole or self._turn != turn:
                return  # Somebody else has fetched meanwhile: what came may be what is waited for here.
            try:
                chunk = await self._kept.next_chunk()
            except StreamRewritten as rewritten:
                self._turn += 1
                self._forget(rewritten)
                return
            except StreamBroken as broken:
                if self._chunks or broken.status != "completed":
                    raise
                chunk = None
            if chunk is None:
                self.is_whole = True
                return
            self._chunks.append(chunk)
            self._turn += 1
            await self._payer.pay()

    def _forget(self, rewritten: StreamRewritten) -> None:
        """Take back what was rewritten; whoever was handed some of it is told."""
        del self._chunks[rewritten.seq :]
        if self._cursor > rewritten.seq:
            self._cursor = rewritten.seq
            self._rewritten = rewritten
