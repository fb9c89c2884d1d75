"""Receivers that say nothing, or do not even read: what is pushed again and when it ends, and what waits for them."""

import asyncio
import json
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

import pytest
from websockets.asyncio.client import connect

from tests.system.halls import narrow
from tests.system.harness import MarketProcess
from tests.system.mail_halls import Fields, Mailbox, MailHall, Writer, mail_market, payloads, refused, until
from tests.system.raw import Wire

REPEATS_S = (0.6, 1.2, 1.8, 2.4)
"""So far apart that no server is as late as that: what has become due meanwhile would be pushed once."""
PUSHES = 1 + len(REPEATS_S)
TTL_S = 5
MIB = 1_048_576
OUTBOX = 262_144
DEAF = 2


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MarketProcess]:
    """Where messages are repeated soon."""
    settings = {"AGRENTING_MESSAGE_REPEATS_S": json.dumps(REPEATS_S), "AGRENTING_OUTBOX_BYTES_MAX": str(OUTBOX)}
    with mail_market(tmp_path_factory.mktemp("silent") / "var", **settings) as market:
        yield market


@pytest.fixture
def hall(market: MarketProcess) -> MailHall:
    return MailHall(market)


@pytest.fixture(scope="module")
def brief(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MarketProcess]:
    """Where messages are over soon, and looked for often."""
    settings = {"AGRENTING_LIMITS_MESSAGE_TTL_S": str(TTL_S), "AGRENTING_TIMER_POLL_S": "0.1"}
    with mail_market(tmp_path_factory.mktemp("brief") / "var", **settings) as market:
        yield market


# What is pushed again.


class Push(NamedTuple):
    """A message, and when it came, by the loop's clock."""

    message: Fields
    at: float


async def hear_until(mailbox: Mailbox, message_id: str, times: int = PUSHES) -> list[Push]:
    """All that is pushed until a message has been pushed so often."""
    heard: list[Push] = []
    while times:
        message = await mailbox.next()
        heard.append(Push(message, asyncio.get_running_loop().time()))
        times -= message["id"] == message_id
    return heard


def counted(heard: list[Push]) -> Counter[str]:
    """How often each message was pushed."""
    return Counter(push.message["id"] for push in heard)


async def test_what_is_not_answered_is_pushed_four_times_again_and_then_waits_for_the_next_join(hall: MailHall) -> None:
    async with hall.writer(hall.alice) as alice, hall.mailbox() as mailbox:
        started_at = asyncio.get_running_loop().time()
        waiting = await alice.write("nobody answers this")
        heard = await hear_until(mailbox, waiting["id"])
        for push, after_s in zip(heard, (0, *REPEATS_S), strict=True):
            assert push.message == heard[0].message
            assert push.at - started_at >= after_s, "too early"
        assert (await alice.read(waiting["id"]))["status"] == "delivered"

        # By the time that another one has been pushed as often, the first would have come again.
        marker = await alice.write("nor this")
        assert counted(await hear_until(mailbox, marker["id"])) == {marker["id"]: PUSHES}

        assert await mailbox.join() == 2
        again = await hear_until(mailbox, marker["id"])
        assert counted(again) == {waiting["id"]: PUSHES, marker["id"]: PUSHES}
        assert [push.message["id"] for push in again[:2]] == [waiting["id"], marker["id"]]


async def test_what_is_answered_on_one_socket_is_not_pushed_again_to_any(hall: MailHall) -> None:
    async with hall.writer(hall.alice) as alice, hall.mailbox() as one, hall.mailbox() as other:
        written = [await alice.write(number) for number in range(8)]
        for message, _ in zip(written, await one.take(8), strict=True):
            if message["payload"] % 4 == 0:
                await one.acknowledge(message["id"])
            elif message["payload"] % 4 == 1:
                await other.reject(message["id"], "no")

        for mailbox in (one, other):
            times = counted(await hear_until(mailbox, written[-1]["id"], PUSHES - (mailbox is one)))
            first = int(mailbox is one)  # That was heard above.
            for message in written:
                if message["payload"] % 4 >= 2:
                    assert times[message["id"]] + first == PUSHES
                else:  # It may have been pushed again before it was answered.
                    assert times[message["id"]] + first < PUSHES


async def test_a_receiver_that_answers_late_is_told_a_thing_again_until_then_and_each_counts_once(
    hall: MailHall,
) -> None:
    """It answers only what it has been told a second time."""
    async with hall.writer(hall.alice) as alice, hall.mailbox() as mailbox:
        written = [(await alice.write(number))["id"] for number in range(40)]
        told: Counter[str] = Counter()
        answered: list[str] = []
        while len(answered) < len(written):
            message = await mailbox.next()
            told[message["id"]] += 1
            if told[message["id"]] == 2:
                assert "duplicate" not in await mailbox.acknowledge(message["id"])
                answered.append(message["id"])

        assert list(told) == written  # First pushes are in order.
        assert sorted(answered) == written
        assert max(told.values()) <= PUSHES
        assert await mailbox.join() == 0


async def test_a_message_that_nobody_answers_is_over_at_last_and_the_sender_is_told(brief: MarketProcess) -> None:
    """Three silent receivers: one that was never there, one that hears, one that answers in time."""
    hall = MailHall(brief)
    async with hall.writer(hall.alice) as alice, hall.mailbox(hall.alice) as told, hall.mailbox() as mailbox:
        away = hall.agent("bob", "Away", "--global")
        heard, unheard, taken = await alice.write(1), await alice.write(2, to=away), await alice.write(3)
        for message in await mailbox.take(2):
            if message["id"] == taken["id"]:
                await mailbox.acknowledge(taken["id"])

        steps: dict[str, list[str]] = {message["id"]: [] for message in (heard, unheard, taken)}
        while not (steps[heard["id"]][-1:] == steps[unheard["id"]][-1:] == ["expired"]):
            news = await told.updated()
            assert news["reason"] is None
            steps[news["id"]].append(news["status"])
            if news["status"] == "expired":
                assert news["updated_at"] == (await alice.read(news["id"]))["expires_at"]
        assert list(steps.values()) == [["delivered", "expired"], ["expired"], ["delivered", "acknowledged"]]

        gone = await alice.listed("messages/sent?status=expired")
        assert [one["id"] for one in gone] == [unheard["id"], heard["id"]]
        await refused(mailbox.acknowledge(heard["id"]), "expired", expired_at=heard["expires_at"])
        await refused(mailbox.reject(heard["id"], "too late"), "expired")
        async with hall.writer(away) as late:
            await refused(late.call("POST", f"messages/{unheard['id']}/acknowledge"), "expired", status=410)
            assert await late.listed("messages") == []
        for account in (hall.bob, away):
            async with hall.mailbox(account) as again:
                assert again.undelivered == 0
                await again.nothing()


async def test_a_message_is_over_in_time_also_where_the_server_was_down_then(brief: MarketProcess) -> None:
    """Whatever the server does in those seconds, the sender reads the truth at once when it is back."""
    hall = MailHall(brief)
    async with hall.writer(hall.alice) as alice:
        message = await alice.write("over soon")
        hall.ground.kill()
        await hall.ground.is_up()
        await until(lambda: _is_over(alice, message["id"]))
        async with hall.mailbox() as mailbox:
            assert mailbox.undelivered == 0
            await mailbox.nothing()


async def _is_over(alice: Writer, message_id: str) -> bool:
    status: str = (await alice.read(message_id))["status"]
    return status == "expired"


# Who does not read.


@asynccontextmanager
async def deaf_mailbox(hall: MailHall) -> AsyncIterator[Wire]:
    """A socket that joins Bob's mailbox, and reads only when the test does. Its buffers are small."""
    async with connect(
        hall.market.socket_url,
        additional_headers={"x-api-key": hall.bob.api_key},
        compression=None,
        ping_interval=None,
        max_size=None,
        max_queue=8,
        sock=await narrow(hall.market),
    ) as connection:
        wire = Wire(connection)
        await wire.send("1", "1", hall.topic, "phx_join")
        try:
            yield wire
        finally:
            connection.transport.abort()  # It would not read the answer to a close either.


async def hear(wire: Wire, count: int) -> list[Fields]:
    """The first so many different messages, in the order in which they came first. It reads fast from now on."""
    wire.socket.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MIB)
    heard: dict[str, Fields] = {}
    while len(heard) < count:
        message = (await wire.receive_event("new_message"))[4]
        assert heard.setdefault(message["id"], message) == message
    return list(heard.values())


@pytest.mark.parametrize("are_there_before", [True, False], ids=["while it comes", "after it came"])
async def test_who_does_not_read_is_not_closed_and_finds_everything_in_order_when_it_reads(
    hall: MailHall, *, are_there_before: bool
) -> None:
    """Twenty times an outbox for sockets that do not read: it stays in the database, and is queued there."""
    texts = [f"{number}:" + "x" * 50_000 for number in range(20 * OUTBOX // 50_000)]
    async with hall.writer(hall.alice) as alice, AsyncExitStack() as stack:
        if are_there_before:
            deaf = [await stack.enter_async_context(deaf_mailbox(hall)) for _ in range(DEAF)]
            other = await stack.enter_async_context(hall.mailbox())
            written = [await alice.write(text) for text in texts]
            heard: dict[str, Fields] = {}
            while len(heard) < len(texts):  # Another socket is not held up.
                message = await other.next()
                heard[message["id"]] = message
            assert payloads(list(heard.values())) == texts
        else:
            written = [await alice.write(text) for text in texts]
            deaf = [await stack.enter_async_context(deaf_mailbox(hall)) for _ in range(DEAF)]
            await until(lambda: _has_status(alice, written[0]["id"], "delivered"))
            await until_it_is_stuck(alice, written)
            assert (await alice.read(written[-1]["id"]))["status"] == "queued"

        for wire in deaf:
            assert [one["id"] for one in await hear(wire, len(written))] == [one["id"] for one in written]
            await wire.is_alive()
        await until(lambda: _has_status(alice, written[-1]["id"], "delivered"))


async def until_it_is_stuck(alice: Writer, written: list[Fields]) -> None:
    """Look at one message after the other: the first that has not been pushed is not pushed before the next look."""
    for message in written:
        if not await _has_status(alice, message["id"], "delivered"):
            await alice.listed("messages/sent?status=rejected")
            if not await _has_status(alice, message["id"], "delivered"):
                return


async def _has_status(writer: Writer, message_id: str, status: str) -> bool:
    seen: str = (await writer.read(message_id))["status"]
    return seen == status
