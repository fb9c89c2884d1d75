"""Mailboxes over real sockets: what was accepted arrives in order, survives crashes, and is not asked for twice."""

import asyncio
import random
from collections.abc import Iterator

import pytest

from tests.system.harness import AgentAccount, MarketProcess
from tests.system.mail_halls import (
    LOST,
    WHOLE,
    Fields,
    Mailbox,
    MailHall,
    Writer,
    mail_market,
    payloads,
    refused,
    topic_of,
)

SEED = 6
MESSAGES = 1_000
KILLED_AT = (250, 600, 985)
"""How many messages have been answered for when the server is killed: the last while the last ones are sent."""


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MarketProcess]:
    with mail_market(tmp_path_factory.mktemp("mail") / "var") as market:
        yield market


@pytest.fixture
def hall(market: MarketProcess) -> MailHall:
    return MailHall(market)


# A thousand messages, three senders, and crashes.


class Sending:
    """Three senders who write at once, each in order, while the server is killed at some of their messages."""

    def __init__(self, hall: MailHall, chance: random.Random) -> None:
        self.hall = hall
        self.stored: dict[str, Fields] = {}
        """What was answered for, by id."""
        self.duplicates = 0
        self.left = MESSAGES
        self.chance = chance
        self.kills = list(KILLED_AT)

    async def run(self) -> None:
        """Write everything."""
        senders = (self.hall.alice, self.hall.carol, self.hall.dave)
        await asyncio.gather(*(self._write(sender) for sender in senders))

    async def _write(self, sender: AgentAccount) -> None:
        async with self.hall.writer(sender) as writer:
            number = 0
            while self.left:
                self.left -= 1
                payload = {"from": sender.id, "number": number, "text": "ä" * self.chance.randrange(200)}
                message = await writer.write_surely(payload, dedup_key=f"number {number}")
                assert message["payload"] == payload
                assert message["id"] not in self.stored
                self.stored[message["id"]] = message
                self.duplicates += "duplicate" in message
                number += 1
                if self.kills and len(self.stored) >= self.kills[0]:
                    self.kills.pop(0)
                    self.hall.ground.kill()  # Two other messages are under way.


class Taking:
    """Bob's program, which comes again until it has taken everything, and remembers what it was answered."""

    def __init__(self, hall: MailHall, kills: list[int]) -> None:
        self.hall = hall
        self.kills = kills
        self.came: dict[str, Fields] = {}
        self.acknowledged: set[str] = set()
        self.repetitions = 0

    async def run(self, count: int) -> None:
        """Take so many messages."""
        while len(self.acknowledged) < count:
            await self.hall.ground.is_up()
            async with self.hall.mailbox() as mailbox:
                await self._take(mailbox, count)

    async def _take(self, mailbox: Mailbox, count: int) -> None:
        known = len(self.acknowledged)
        # Some of what was under way when the server was killed is acknowledged, and nobody knows.
        assert count - known - 1 <= mailbox.undelivered <= count - known
        last = ""
        for _ in range(mailbox.undelivered):
            message = await mailbox.next()
            assert message["id"] > last, "not the oldest first"
            last = message["id"]
            assert last not in self.acknowledged, "an acknowledged message came again"
            assert self.came.setdefault(last, message) == message
            saying = asyncio.create_task(mailbox.acknowledge(last))
            if self.kills and len(self.acknowledged) >= self.kills[0]:
                self.kills.pop(0)
                await asyncio.sleep(0)  # It is sent, or not even that.
                self.hall.ground.kill()
            try:
                reply = await saying
            except LOST:
                await mailbox.client.expect("closed")
                return
            assert reply == {"message_id": last, "status": "acknowledged"}
            self.acknowledged.add(last)
        if len(self.acknowledged) < count:  # The one that nobody knew of.
            (lost,) = self.came.keys() - self.acknowledged
            assert (await mailbox.acknowledge(lost))["duplicate"] is True
            self.acknowledged.add(lost)
            self.repetitions += 1


@pytest.mark.timeout(300)
async def test_a_thousand_messages_to_an_agent_that_is_away_survive_kills_and_each_is_acknowledged_once(
    hall: MailHall,
) -> None:
    """The last kill comes while the last ones are being sent; two more while they are taken."""
    sending = Sending(hall, random.Random(SEED))
    await sending.run()
    await hall.ground.is_up()
    assert hall.ground.kills == len(KILLED_AT)
    assert len(sending.stored) == MESSAGES

    taking = Taking(hall, kills=[0, 400])
    await taking.run(MESSAGES)

    assert hall.ground.kills == len(KILLED_AT) + 2
    require_what_was_stored(taking.came, sending.stored)
    for sender in (hall.alice, hall.carol, hall.dave):
        numbers = [one["payload"]["number"] for one in taking.came.values() if one["from_agent_id"] == sender.id]
        assert numbers == list(range(len(numbers)))
        assert len(numbers) > MESSAGES // 10, "they did not write at once"

    await hall.crash()
    async with hall.mailbox() as mailbox, hall.writer(hall.alice) as alice, hall.writer(hall.bob) as bob:
        assert mailbox.undelivered == 0
        await mailbox.nothing()
        assert await bob.listed("messages") == []
        sent = await alice.listed("messages/sent?status=acknowledged")
        assert [one["payload"]["number"] for one in sent] == list(reversed(range(len(sent))))
        assert len(sent) == len([one for one in taking.came.values() if one["from_agent_id"] == hall.alice.id])


def require_what_was_stored(came: dict[str, Fields], stored: dict[str, Fields]) -> None:
    """What came is what was answered for: nothing less and nothing more."""
    assert came.keys() == stored.keys()
    for id_, message in came.items():
        assert {name: stored[id_][name] for name in message} == message


async def test_what_is_written_while_the_receiver_is_there_and_the_server_dies_is_pushed_or_comes_with_the_next_join(
    hall: MailHall,
) -> None:
    async with hall.writer(hall.alice) as alice:
        before: list[Fields] = []
        async with hall.mailbox() as mailbox:
            written = [await alice.write_surely(number, dedup_key=str(number)) for number in range(20)]
            before += await mailbox.take(20)
            under_way = asyncio.create_task(alice.write_surely(20, dedup_key="20"))
            hall.ground.kill()
            written.append(await under_way)
            await mailbox.client.expect("closed")

        async with hall.mailbox() as mailbox:
            assert mailbox.undelivered == len(written)
            after = await mailbox.take(len(written))
            await mailbox.nothing()
    assert payloads(before) == list(range(20))
    assert after[:20] == before
    assert [one["id"] for one in after] == [one["id"] for one in written]


# How the receiver reads.


async def test_a_receiver_that_takes_its_time_is_given_everything_in_order_while_more_comes(hall: MailHall) -> None:
    """It acknowledges one message at a time, while Alice writes on as fast as she can."""
    async with hall.writer(hall.alice) as alice:
        for number in range(50):
            await alice.write(number)
        async with hall.mailbox() as mailbox:
            assert mailbox.undelivered == 50

            async def write_on() -> None:
                for number in range(50, 300):
                    await alice.write(number)

            writing = asyncio.create_task(write_on())
            for number in range(300):
                message = await mailbox.next()
                assert message["payload"] == number
                assert (await mailbox.acknowledge(message["id"])).keys() == {"message_id", "status"}
            await writing
            await mailbox.nothing()


async def test_of_two_sockets_of_a_receiver_each_is_given_everything_and_one_answer_counts_for_both(
    hall: MailHall,
) -> None:
    async with hall.writer(hall.alice) as alice, hall.mailbox() as one:
        waiting = [await alice.write(number) for number in range(5)]
        async with hall.mailbox() as other:
            live = [await alice.write(number) for number in range(5, 10)]
            ids = [message["id"] for message in waiting + live]
            for mailbox in (one, other):
                assert [message["id"] for message in await mailbox.take(10)] == ids

            first = await asyncio.gather(*(mailbox.acknowledge(ids[0]) for mailbox in (one, other)))
            assert sorted("duplicate" in reply for reply in first) == [False, True]
            await one.reject(ids[1], "not mine")
            await refused(other.acknowledge(ids[1]), "already_rejected", rejection="not mine")
            await other.acknowledge(ids[2])
            await refused(one.reject(ids[2], "not mine"), "already_acknowledged")

        assert await one.join() == 7
        assert [message["id"] for message in await one.take(7)] == ids[3:]
        await one.nothing()


async def test_who_joins_again_in_the_middle_is_given_what_it_has_not_answered_from_the_oldest_on(
    hall: MailHall,
) -> None:
    async with hall.writer(hall.alice) as alice:
        for number in range(600):  # More than a page.
            await alice.write(number)
        async with hall.mailbox() as mailbox:
            client = mailbox.client
            for message in await mailbox.take(100):
                if message["payload"] % 2:
                    await mailbox.acknowledge(message["id"])

            assert await mailbox.join() == 550
            await client.expect("phx_close", hall.topic)
            later = await _last_in_order(mailbox, 550)
            assert payloads(later) == [*range(0, 100, 2), *range(100, 600)]

            await client.push(hall.topic, "phx_leave")
            await alice.write("nobody hears it")
            await mailbox.nothing()
            assert await mailbox.join() == 551
            assert payloads(await mailbox.take(551)) == [*payloads(later), "nobody hears it"]
            await mailbox.nothing()


async def _last_in_order(mailbox: Mailbox, count: int) -> list[Fields]:
    """What came of the last join; before it stands what was on its way of the first."""
    came: list[Fields] = []
    while len(came) < count or came[-1]["payload"] < 599 or came[-count]["payload"] > 0:
        came.append(await mailbox.next())
    return came[-count:]


# What the sender sees.


async def test_the_sender_sees_each_step_by_rest_and_is_told_of_it(hall: MailHall) -> None:
    async with (
        hall.mailbox(hall.alice) as told,
        hall.writer(hall.alice) as alice,
        hall.writer(hall.bob) as bob,
        hall.writer(hall.carol) as carol,
    ):
        taken = await alice.write({"a": [1, None]}, type="status_update", dedup_key="mine")
        assert taken.keys() == WHOLE
        assert (taken["status"], taken["reason"], taken["dedup_key"]) == ("queued", None, "mine")
        refusable, left = await alice.write("no"), await alice.write(None)
        await told.client.refute("message_updated")  # Nobody has been given anything.

        async with hall.mailbox() as mailbox:
            assert payloads(await mailbox.take(3)) == [{"a": [1, None]}, "no", None]
            for message in (taken, refusable, left):
                await require_step(told, alice, bob, message, "delivered")
            await mailbox.acknowledge(taken["id"])
            await require_step(told, alice, bob, taken, "acknowledged")
            assert await mailbox.reject(refusable["id"], "We do not do that.") == {
                "message_id": refusable["id"],
                "status": "rejected",
                "reason": "We do not do that.",
            }
            await require_step(told, alice, bob, refusable, "rejected", reason="We do not do that.")
            again = await mailbox.reject(refusable["id"], "Another reason.")
            assert (again["duplicate"], again["reason"]) == (True, "We do not do that.")
            await refused(mailbox.acknowledge(refusable["id"]), "already_rejected", rejection="We do not do that.")
            await refused(mailbox.reject(taken["id"], "late"), "already_acknowledged")
        await told.client.refute("message_updated")  # What changed nothing tells nothing.

        for status, of in (("delivered", left), ("acknowledged", taken), ("rejected", refusable)):
            assert [one["id"] for one in await alice.listed(f"messages/sent?status={status}")] == [of["id"]]
        assert [one["id"] for one in await alice.listed("messages/sent")] == [left["id"], refusable["id"], taken["id"]]
        assert (await bob.read(taken["id"]))["dedup_key"] is None  # That is between the sender and the server.
        for call in (carol.read(taken["id"]), carol.call("POST", f"messages/{left['id']}/acknowledge")):
            await refused(call, "not_found", status=404)
        async with hall.mailbox() as mailbox:
            assert mailbox.undelivered == 1
            assert payloads(await mailbox.take(1)) == [None]
            await mailbox.nothing()


async def require_step(
    told: Mailbox, sender: Writer, receiver: Writer, message: Fields, status: str, *, reason: str | None = None
) -> None:
    """The sender is told of the step, and both read the message so."""
    news = await told.updated()
    assert (news["id"], news["to_agent_id"], news["type"]) == (message["id"], message["to_agent_id"], message["type"])
    assert (news["status"], news["reason"]) == (status, reason)
    for writer in (sender, receiver):
        seen = await writer.read(message["id"])
        assert seen.keys() == WHOLE
        assert (seen["status"], seen["reason"], seen["updated_at"]) == (status, reason, news["updated_at"])


async def test_answers_by_rest_count_as_those_on_the_socket(hall: MailHall) -> None:
    async with hall.writer(hall.alice) as alice, hall.writer(hall.bob) as bob, hall.mailbox(hall.alice) as told:
        one, other = await alice.write(1), await alice.write(2)
        assert payloads(await bob.listed("messages")) == [1, 2]

        assert (await bob.call("POST", f"messages/{one['id']}/acknowledge"))["status"] == "acknowledged"
        assert (await bob.call("POST", f"messages/{one['id']}/acknowledge"))["duplicate"] is True
        rejected = await bob.call("POST", f"messages/{other['id']}/reject", {"reason": "no"})

        assert (rejected["status"], rejected["reason"]) == ("rejected", "no")
        assert [(await told.updated())["status"] for _ in range(2)] == ["acknowledged", "rejected"]
        await refused(
            bob.call("POST", f"messages/{one['id']}/reject", {"reason": "no"}), "already_acknowledged", status=409
        )
        async with hall.mailbox() as mailbox:
            assert mailbox.undelivered == 0
            await mailbox.nothing()


# What is sent once, and what the market announces.


async def test_a_dedup_key_means_one_message_also_across_a_crash(hall: MailHall) -> None:
    async with hall.writer(hall.alice) as alice, hall.writer(hall.carol) as carol:
        first = await alice.write({"a": 1, "b": 2}, dedup_key="order 7")
        await hall.crash()

        again = await alice.write({"b": 2, "a": 1}, dedup_key="order 7")
        assert again == {**first, "duplicate": True}
        for fields in ({"payload": {"a": 2}}, {"type": "x_other"}, {"to_agent_id": hall.mallory.id}):
            repeated = {
                "to_agent_id": hall.bob.id,
                "type": "x_note",
                "payload": {"a": 1, "b": 2},
                "dedup_key": "order 7",
            }
            await refused(
                alice.call("POST", "messages", repeated | fields), "dedup_mismatch", status=409, message_id=first["id"]
            )
        others = await carol.write("Carol has keys of her own", dedup_key="order 7")
        async with hall.mailbox() as mailbox:
            assert [one["id"] for one in await mailbox.take(2)] == [first["id"], others["id"]]
            await mailbox.acknowledge(first["id"])
        await hall.crash()
        repeated_again = await alice.write({"a": 1, "b": 2}, dedup_key="order 7")
        assert (repeated_again["id"], repeated_again["status"]) == (first["id"], "acknowledged")
        async with hall.mailbox() as mailbox:
            assert mailbox.undelivered == 1


async def test_announcements_travel_the_same_way_and_survive_a_crash(hall: MailHall) -> None:
    """A negotiation, what Alice writes about it, and a task: in that order, whatever happens to the server."""
    async with hall.writer(hall.alice) as alice, hall.market.client(hall.alice.api_key) as buyer:
        await buyer.join("agents:discovery")
        wanted = {"provider_agent_id": hall.bob.id, "capability": "translate"}
        session = await buyer.push("agents:discovery", "open_negotiation", wanted)
        note = await alice.write({"session_id": session["id"]}, type="negotiation")
        task = await buyer.push("agents:discovery", "open_task", {**wanted, "max_price": 1_000})
    await hall.crash()

    async with hall.mailbox(hall.alice) as told, hall.mailbox() as mailbox:
        assert mailbox.undelivered == 3
        came = await mailbox.take(3)
        assert [(one["type"], one["from_market"]) for one in came] == [
            ("negotiation", True),
            ("negotiation", False),
            ("task_handoff", True),
        ]
        assert {one["from_agent_id"] for one in came} == {hall.alice.id}
        assert (came[0]["payload"]["session_id"], came[1]["id"]) == (session["id"], note["id"])
        assert came[2]["payload"]["task_id"] == task["id"]
        for message in (came[0], came[2]):
            joined = await mailbox.client.join(message["payload"]["topic"])
            assert joined["id"] in {session["id"], task["id"]}
        assert [(await told.updated())["id"] for _ in came] == [one["id"] for one in came]
        for message in came:
            await mailbox.acknowledge(message["id"])
    await hall.crash()
    async with hall.mailbox() as mailbox, hall.writer(hall.alice) as alice:
        assert mailbox.undelivered == 0
        await mailbox.nothing()
        sent = await alice.listed("messages/sent?status=acknowledged")
        assert [one["id"] for one in sent] == [one["id"] for one in reversed(came)]


async def test_only_the_agent_itself_joins_its_mailbox(hall: MailHall) -> None:
    async with hall.market.client(hall.carol.api_key) as carol:
        await refused(carol.join(hall.topic), "unauthorized")
        assert await carol.join(topic_of(hall.carol)) == {"undelivered": 0}
