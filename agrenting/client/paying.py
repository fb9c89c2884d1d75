"""Paying over a payment channel: one transfer that both sign; and the output of a task, unit by unit as it streams.

    payer = StreamPayer(keeper, channel_topic, task)
    while (chunk := await task.next_chunk()) is not None:
        await payer.pay_for(task.incoming.position)

Nobody else reads the channel's topic meanwhile.
"""

from .errors import NotPaid
from .payments import ChannelKeeper
from .socket import REPLY_TIMEOUT_S, Topic
from .streamed_task import StreamedTask
from .streams import Position


async def pay(
    keeper: ChannelKeeper,
    topic: Topic,
    amount: int,
    *,
    task_id: str | None = None,
    memo: str | None = None,
    timeout_s: float | None = REPLY_TIMEOUT_S,
) -> int:
    """Pay the other party, and wait until it has signed the same; the transfer's nonce.

    Args:
        keeper: The channel's, which has taken all that came so far.
        topic: The channel's. What comes on it is handed to the keeper.
        amount: Minor units.
        task_id: The task that it pays for; signed.
        memo: For people; not signed.
        timeout_s: How long to wait for each thing that comes; None: without limit.

    Raises:
        NotPaid: The other party has rejected it, or it was withdrawn.
        LyingServer, CannotSign, AlreadySigned, BrokenRecord: As for `ChannelKeeper.propose` and `take`.
        RefusedByServer, NoAnswer, Disconnected, TopicEnded: As for a topic. It may have been paid all the same: join,
            and take the reply.
    """
    proposal = keeper.propose(amount, task_id=task_id, memo=memo)
    nonce: int = proposal["nonce"]
    keeper.take(await topic.push("propose_transfer", proposal))
    while keeper.channel["last_nonce"] < nonce:
        keeper.hear(*await topic.next_event(timeout_s))
    done = keeper.channel["last_transfer"]
    if done is None or done["nonce"] != nonce:
        raise NotPaid(nonce)
    return nonce


class StreamPayer:
    """Pays for a task's output over a channel: each unit once it has arrived, and none ahead.

    It counts what came itself. So who stops paying has paid for nothing that did not come, and the provider is at most
    its credit ahead.

    Args:
        keeper: The channel's.
        topic: The channel's.
        task: The client's side of the task, joined; it has a stream price.
        timeout_s: How long the provider has for signing a transfer; None: without limit.
    """

    def __init__(
        self, keeper: ChannelKeeper, topic: Topic, task: StreamedTask, timeout_s: float | None = REPLY_TIMEOUT_S
    ) -> None:
        price = task.price
        if price is None:
            raise ValueError("the task's price is held: nothing is paid as it streams")
        self.price = price
        self.paid = task.paid
        """What was paid for the task, in minor units."""
        self._task = task
        self._keeper = keeper
        self._topic = topic
        self._timeout_s = timeout_s

    @property
    def paid_up_to(self) -> int:
        """Units that are paid whole."""
        return self.paid // self.price.amount  # Rounds down: whole units.

    async def pay_for(self, arrived: Position) -> int:
        """Pay what has arrived and is not paid yet; the amount, in minor units.

        Args:
            arrived: How far the output has come: `task.incoming.position`.

        Raises:
            NotPaid, LyingServer, CannotSign, AlreadySigned, BrokenRecord, RefusedByServer, NoAnswer, Disconnected,
            TopicEnded: As for `pay`.
        """
        self.paid = max(self.paid, self._task.paid)  # Another payer may have been at work, before a reconnection.
        due = self.price.units(arrived) * self.price.amount - self.paid
        if due <= 0:
            return 0
        await pay(self._keeper, self._topic, due, task_id=self._task.id, timeout_s=self._timeout_s)
        self.paid += due
        return due
