"""Paying over a channel, and for a task as it streams: each unit once it has come, and none ahead."""

from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from agrenting.client import (
    CannotSign,
    ChannelKeeper,
    NoAnswer,
    NotPaid,
    Position,
    StreamedTask,
    StreamPayer,
    Topic,
    pay,
)
from channels.payment_state import ChannelFacts
from channels.task_state import Escrow, Task
from tests.agrenting.client_task_server import TASK_ID, TaskServer
from tests.agrenting.test_client_payments import SIGNERS
from tests.channels.payment_stage import Stage
from tests.channels.roles import ALICE, BOB, NOW, as_told

Json = dict[str, Any]
NO_DIGEST = "0" * 64


TASK = Task(
    id=TASK_ID,
    client_agent_id=ALICE.id,
    provider_agent_id=BOB.id,
    client_owner_id="alice",
    is_countable=False,
    capability="translate",
    price=0,
    fee=0,
    fee_bps=0,
    escrow_status=Escrow.NONE,
    created_at=NOW,
    deadline=NOW,
)


class StageWithTask(Stage):
    """A channel of two who have a task."""

    def _facts(self, nonces: Iterable[int]) -> ChannelFacts:
        return msgspec.structs.replace(super()._facts(nonces), task=TASK)


class Channel:
    """Alice's topic of a channel that Bob keeps at the other end; he does what the test says.

    Args:
        folder: Where both keep their records.
    """

    def __init__(self, folder: Path) -> None:
        self.stage = StageWithTask()
        self.bobs_answer = "acknowledge_transfer"
        self.payments: list[Json] = []
        self._inbox: deque[tuple[str, Json]] = deque()
        self.alice = self._keeper(folder, "alice")
        self.bob = self._keeper(folder, "bob")

    def _keeper(self, folder: Path, name: str) -> ChannelKeeper:
        who = {"alice": ALICE, "bob": BOB}[name]
        keeper = ChannelKeeper(SIGNERS[who.id], agent_id=who.id, path=folder / name)
        keeper.take(self.stage.send(who, "join", known=keeper.known()))
        return keeper

    async def push(self, event: str, payload: Json) -> Json:
        reply = self.stage.send(ALICE, event, **payload)
        self.payments.append(payload)
        self._bob_answers()
        return reply

    async def next_event(self, _timeout_s: float | None = None) -> tuple[str, Json]:
        if not self._inbox:
            raise NoAnswer("nothing came")
        return self._inbox.popleft()

    def _bob_answers(self) -> None:
        proposed = self.stage.snapshot["pending_proposal"]
        self.bob.take(self.stage.send(BOB, "join", known=self.bob.known()))
        if self.bobs_answer == "acknowledge_transfer":
            self.stage.send(BOB, self.bobs_answer, **self.bob.acknowledge(proposed))
        elif self.bobs_answer:
            self.stage.send(BOB, self.bobs_answer, nonce=proposed["nonce"], reason="it is not owed")
        told, self.stage.told = self.stage.told, []
        self._inbox += [(one.event, as_told(one.payload)) for one in told]


@pytest.fixture
def channel(tmp_path: Path) -> Channel:
    return Channel(tmp_path)


def topic_of(channel: Channel) -> Topic:
    return cast("Topic", channel)


async def payer_of(channel: Channel, paid: int = 0, **price: Any) -> StreamPayer:
    """Alice pays for a task of hers, at 5 a chunk unless another price is named."""
    server = TaskServer({"amount": 5, "per": "chunk", "unit_bytes": None, "credit": 1, **price})
    server.paid = paid
    task = StreamedTask(TASK_ID, role="client")
    await task.join(server.socket("client"))
    return StreamPayer(channel.alice, topic_of(channel), task)


async def test_a_payment_is_made_once_both_have_signed_it(channel: Channel) -> None:
    nonce = await pay(channel.alice, topic_of(channel), 10, task_id=TASK_ID, memo="a page")

    assert nonce == channel.alice.channel["last_nonce"] == 1
    assert {**channel.payments[0], "signature": ""} == {
        "amount": 10,
        "nonce": 1,
        "signature": "",
        "task_id": TASK_ID,
        "memo": "a page",
    }
    assert channel.stage.snapshot["balance_a"] == 990


async def test_a_payment_that_is_rejected_is_none(channel: Channel) -> None:
    channel.bobs_answer = "reject_transfer"

    with pytest.raises(NotPaid, match="nonce 1") as told:
        await pay(channel.alice, topic_of(channel), 10)

    assert told.value.nonce == 1
    assert channel.stage.snapshot["balance_a"] == 1_000


async def test_a_payment_that_nobody_answers_is_waited_for_and_not_made_again(channel: Channel) -> None:
    channel.bobs_answer = ""

    with pytest.raises(NoAnswer):
        await pay(channel.alice, topic_of(channel), 10)
    with pytest.raises(CannotSign, match="a transfer is proposed"):
        await pay(channel.alice, topic_of(channel), 11)


async def test_each_chunk_is_paid_once_it_is_here_and_none_ahead(channel: Channel) -> None:
    payer = await payer_of(channel)

    amounts = [await payer.pay_for(Position(seq, seq * 100, NO_DIGEST)) for seq in (0, 1, 1, 2, 5)]

    assert amounts == [0, 5, 0, 5, 15]
    assert [payment["amount"] for payment in channel.payments] == [5, 5, 15]
    assert {payment["task_id"] for payment in channel.payments} == {TASK_ID}
    assert (payer.paid, payer.paid_up_to) == (25, 5)


async def test_a_unit_of_bytes_is_paid_once_it_has_begun(channel: Channel) -> None:
    payer = await payer_of(channel, per="bytes", unit_bytes=100)

    amounts = [await payer.pay_for(Position(1, size, NO_DIGEST)) for size in (0, 1, 100, 101, 250)]

    assert amounts == [0, 5, 0, 5, 5]


async def test_what_was_paid_before_a_program_started_anew_is_not_paid_again(channel: Channel) -> None:
    payer = await payer_of(channel, paid=12)

    assert payer.paid_up_to == 2
    assert await payer.pay_for(Position(2, 200, NO_DIGEST)) == 0
    assert await payer.pay_for(Position(3, 300, NO_DIGEST)) == 3


async def test_what_another_payer_has_paid_since_the_join_is_not_paid_again(channel: Channel) -> None:
    """As after the channel's topic was joined anew, while the task's was not."""
    server = TaskServer({"amount": 5, "per": "chunk", "unit_bytes": None, "credit": 1})
    task = StreamedTask(TASK_ID, role="client")
    await task.join(server.socket("client"))
    first = StreamPayer(channel.alice, topic_of(channel), task)
    await first.pay_for(Position(2, 200, NO_DIGEST))
    server.pay(10)
    server.end("completed")
    await task.end()

    second = StreamPayer(channel.alice, topic_of(channel), task)

    assert (task.paid, second.paid) == (10, 10)
    assert await second.pay_for(Position(3, 300, NO_DIGEST)) == 5


async def test_what_is_not_acknowledged_is_not_counted_as_paid(channel: Channel) -> None:
    payer = await payer_of(channel)
    channel.bobs_answer = "reject_transfer"

    with pytest.raises(NotPaid):
        await payer.pay_for(Position(1, 100, NO_DIGEST))

    assert payer.paid == 0


async def test_a_task_whose_price_is_held_is_not_paid_as_it_streams(channel: Channel) -> None:
    task = StreamedTask(TASK_ID, role="client")
    await task.join(TaskServer().socket("client"))

    with pytest.raises(ValueError, match="is held"):
        StreamPayer(channel.alice, topic_of(channel), task)
