"""Agents of the client among others: messages, contacts, rooms, private channels and numbers, over real losses."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from typing import Self

import pytest

from agrenting.client.contact_strategies import DISABLED, Approve, Callback, ContactStrategy, Decline
from agrenting.client.errors import NoAnswer, NotApproved, RefusedByServer
from agrenting.client.hub_room import HubRoom
from agrenting.client.mailbox import RejectMessage
from agrenting.client.room_message import RoomMessage
from agrenting.client.told_contacts import ContactAdded, ContactRemoved, ContactRequest, RequestUpdated
from agrenting.client.told_messages import Message
from agrenting.client.told_private import ContextTold, MemberCame, MemberWent
from tests.system.harness import AgentAccount, MarketProcess
from tests.system.people import SOON_S, Owner, Person, person


class Town:
    """Alice's and Bob's agents, strangers to each other, and their owners."""

    def __init__(self, market: MarketProcess, folder: Path, number: int) -> None:
        self.market = market
        self.folder = folder
        self.alice = Owner(market, market.user(f"alice{number}"))
        self.bob = Owner(market, market.user(f"bob{number}"))
        self.scout = market.agent(self.alice.handle, "Scout", deposit=1_000)
        self.clerk = market.agent(self.bob.handle, "Clerk")
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def open(self, account: AgentAccount, strategy: ContactStrategy = DISABLED) -> "Opening":
        """An agent that is open until the test ends, or until it is closed."""
        return Opening(self, account, strategy)

    async def enter(self, account: AgentAccount, strategy: ContactStrategy = DISABLED) -> Person:
        return await self._stack.enter_async_context(person(self.market, account, self.folder, strategy))

    async def befriend(self) -> None:
        """The two agents become contacts, as their owners want it."""
        as_scout = {"handle": self.clerk.handle}
        async with person(self.market, self.scout, self.folder) as scout:
            asked = await scout.context.rest.post("/agent/contacts/add", as_scout)
        await self.bob.ask("POST", f"/me/contacts/requests/{asked['id']}/approve", {})

    async def asked(self, account: AgentAccount) -> None:
        """Wait until somebody has asked that agent for contact."""
        async with self.market.client(account.api_key) as socket:
            await socket.join(f"agent_contacts:{account.id}")
            async with person(self.market, account, self.folder) as one:
                if not await one.contacts.requests():
                    await socket.expect("contact_request_received")

    async def restart(self) -> None:
        """The server dies, and comes back at the same address."""
        port = self.market.url.rpartition(":")[2]
        await asyncio.to_thread(self.market.kill)
        await asyncio.to_thread(self.market.start, port)


class Opening:
    """`async with`, or `await`: until the test ends."""

    def __init__(self, town: Town, account: AgentAccount, strategy: ContactStrategy) -> None:
        self._context = person(town.market, account, town.folder, strategy)

    async def __aenter__(self) -> Person:
        return await self._context.__aenter__()

    async def __aexit__(self, *error: object) -> None:
        await self._context.__aexit__(*error)  # type: ignore[arg-type] # As it came.


@pytest.fixture(scope="module")
def towns(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MarketProcess]:
    """One server for all tests, which each have a town of their own."""
    process = MarketProcess(tmp_path_factory.mktemp("towns") / "var").start()
    yield process
    assert process.stop() == 0, "\n".join(process.log)


NUMBERS = count(1)


@pytest.fixture
async def town(towns: MarketProcess, tmp_path: Path) -> AsyncIterator[Town]:
    made = await asyncio.to_thread(Town, towns, tmp_path / "agents", next(NUMBERS))
    async with made, asyncio.timeout(100):
        yield made


# Messages.


async def test_messages_are_handled_once_and_in_order_over_cut_sockets_and_the_death_of_the_server(town: Town) -> None:
    await town.befriend()
    scout, clerk = await town.enter(town.scout), await town.enter(town.clerk)
    heard: list[int] = []
    everything = asyncio.Event()

    async def note(message: Message) -> None:
        heard.append(message.payload["n"])
        if len(heard) == 20:
            everything.set()

    clerk.mailbox.on("status_update", note)
    await clerk.mailbox.start()
    sent = []
    for n in range(20):
        if n in {5, 9}:
            await clerk.cut()
        if n in {7, 9}:
            await scout.cut()
        if n == 12:
            await town.restart()
        sent.append(await scout.mailbox.send(town.clerk.handle, "status_update", {"n": n}))

    await asyncio.wait_for(everything.wait(), SOON_S)

    assert heard == list(range(20))
    for one in sent:
        assert (await scout.mailbox.answered(one.id, SOON_S)).status == "acknowledged"


async def test_a_handler_that_fails_gets_its_message_again_and_one_that_rejects_does_not(town: Town) -> None:
    await town.befriend()
    scout, clerk = await town.enter(town.scout), await town.enter(town.clerk)
    tries: list[str] = []

    async def stumble(message: Message) -> None:
        tries.append(message.payload)
        if message.payload == "no":
            raise RejectMessage("I do not do that")
        if tries.count("hard") == 1:
            raise ValueError("not yet")

    clerk.mailbox.on("collaboration", stumble)
    await clerk.mailbox.start()
    refused = await scout.mailbox.send(clerk.id, "collaboration", "no")
    hard = await scout.mailbox.send(clerk.id, "collaboration", "hard")
    answer = await scout.mailbox.answered(refused.id, SOON_S)
    await clerk.cut()

    assert (answer.status, answer.reason) == ("rejected", "I do not do that")
    assert (await scout.mailbox.answered(hard.id, SOON_S)).status == "acknowledged"
    assert tries == ["no", "hard", "hard"]


async def test_a_message_of_the_same_name_is_stored_once_also_from_another_process(town: Town) -> None:
    await town.befriend()
    async with town.open(town.scout) as scout:
        first = await scout.mailbox.send(town.clerk.id, "x_report", [1], dedup_key="report 1")
    async with town.open(town.scout) as scout:
        second = await scout.mailbox.send(town.clerk.id, "x_report", [1], dedup_key="report 1")
        with pytest.raises(RefusedByServer, match="dedup_mismatch"):
            await scout.mailbox.send(town.clerk.id, "x_report", [2], dedup_key="report 1")

    assert second.id == first.id
    assert (first.duplicate, second.duplicate) == (False, True)


# Contacts.


async def test_a_callback_approves_within_limits_and_the_requester_hears_it_over_a_cut(town: Town) -> None:
    asked = asyncio.Event()
    answering = asyncio.Event()

    async def consider(request: ContactRequest) -> Approve:
        assert (request.from_handle, request.message) == (town.scout.handle, "May I?")
        asked.set()
        await answering.wait()
        return Approve(kinds=("task", "message"), max_price="0.05")

    scout, clerk = await town.enter(town.scout), await town.enter(town.clerk, Callback(consider))
    events = scout.contacts.events()
    request = asyncio.create_task(scout.contacts.request(f"@{town.clerk.handle.upper()}", "May I?", SOON_S))
    await asyncio.wait_for(asked.wait(), SOON_S)
    await scout.cut()
    answering.set()
    contact = await request

    assert contact.handle == town.clerk.handle
    assert contact.scope is not None
    assert (set(contact.scope.kinds or ()), contact.scope.max_price) == ({"task", "message"}, 50_000)
    assert contact.is_requester
    heard = [await asyncio.wait_for(anext(events), SOON_S), await asyncio.wait_for(anext(events), SOON_S)]
    assert any(isinstance(event, ContactAdded) and event.handle == town.clerk.handle for event in heard)
    assert await scout.contacts.request(town.clerk.handle) == contact, "a contact need not ask"
    await clerk.contacts.remove(town.scout.handle)
    while not isinstance(gone := await asyncio.wait_for(anext(events), SOON_S), ContactRemoved):
        pass
    assert gone == ContactRemoved(contact.id, town.clerk.handle)


async def test_what_is_answered_while_the_connection_is_lost_is_heard_after_it(town: Town) -> None:
    scout = await town.enter(town.scout)
    events = scout.contacts.events()
    waiting = asyncio.create_task(scout.contacts.request(town.clerk.handle, "", SOON_S))
    await town.asked(town.clerk)
    # The answer is given while nobody is there to hear it, and the server dies with having said it.
    await scout.cut()
    await town.bob.answer("reject")
    await town.restart()

    with pytest.raises(NotApproved) as refusal:
        await waiting

    assert refusal.value.status == "rejected"
    with pytest.raises(NoAnswer):
        await scout.contacts.request(town.clerk.handle, "Please?", 0.2)
    await scout.contacts.cancel(town.clerk.handle)
    assert not await scout.contacts.own_requests()
    assert [one.status for one in await scout.contacts.own_requests("all")] == ["rejected", "cancelled"]
    while True:
        event = await asyncio.wait_for(anext(events), SOON_S)
        if isinstance(event, RequestUpdated) and event.status == "cancelled":
            break


async def test_a_strategy_answers_what_was_asked_before_it_was_there_and_disabled_answers_nothing(town: Town) -> None:
    scout = await town.enter(town.scout)
    waiting = asyncio.create_task(scout.contacts.request(town.clerk.handle, "", SOON_S))
    async with town.open(town.clerk) as clerk:
        await town.asked(town.clerk)
        assert [one.from_handle for one in await clerk.contacts.requests()] == [town.scout.handle]

    async def refuse(request: ContactRequest) -> Decline:
        return Decline()

    async with town.open(town.clerk, Callback(refuse)):
        with pytest.raises(NotApproved, match="rejected"):
            await waiting


async def test_who_is_blocked_finds_nobody_until_it_is_unblocked(town: Town) -> None:
    await town.befriend()
    scout, clerk = await town.enter(town.scout), await town.enter(town.clerk)

    await clerk.contacts.block(town.scout.handle, "spam")

    assert [(one.handle, one.reason) async for one in clerk.contacts.blocks()] == [(town.scout.handle, "spam")]
    with pytest.raises(RefusedByServer, match="not_found"):
        await scout.contacts.request(town.clerk.handle)
    await clerk.contacts.unblock(town.scout.handle)
    assert [one.handle async for one in clerk.contacts.list() if one.handle == town.scout.handle] == []


# The hub room.


async def test_the_owner_answers_in_the_hub_room_and_nobody_else_does_also_after_a_restart(town: Town) -> None:
    third = await asyncio.to_thread(town.market.agent, town.alice.handle, "Third")
    scout = await town.enter(town.scout)
    mallory = await town.enter(await asyncio.to_thread(town.market.agent, town.bob.handle, "Mallory"))
    asking = asyncio.create_task(scout.contacts.request(town.clerk.handle, "I buy\nthings", SOON_S))
    async with town.open(town.clerk, HubRoom()):
        room_id = await town.bob.next_room()
        question = await town.bob.read(room_id, f"is from {town.scout.handle}")
        assert "\n> I buy\n> things\n" in question

        guest = {"participant": {"participant_id": mallory.id}}
        await town.bob.ask("POST", f"/me/chats/{room_id}/participants", guest)
        answers = mallory.rooms.messages()
        await mallory.rooms.post(room_id, f"approve @{town.scout.handle}", [town.clerk.id])
        assert (
            f"Only {town.bob.handle} answers contact requests" in (await asyncio.wait_for(anext(answers), SOON_S)).plain
        )
        await town.bob.write(room_id, f"approve {town.scout.handle} up to lots", town.clerk.id)
        await town.bob.read(room_id, "It is not clear what")
        assert not asking.done()

        await town.bob.write(room_id, f"Approve @{town.scout.handle} up to 5.00 USD", town.clerk.id)
        contact = await asking
        assert contact.scope is not None
        assert contact.scope.max_price == 5_000_000
        await town.bob.read(room_id, "for up to USD 5.00 at a time")

    other = await town.enter(third)
    asking = asyncio.create_task(other.contacts.request(town.clerk.handle, "", SOON_S))
    async with town.open(town.clerk, HubRoom("Another title")):
        await town.bob.read(room_id, f"is from {third.handle}")
        await town.bob.write(room_id, f"reject {third.handle}.", town.clerk.id)
        with pytest.raises(NotApproved, match="rejected"):
            await asking
        await town.bob.read(room_id, "Rejected")
    assert await town.bob.rooms() == [room_id]
    assert sum("is from" in text for text in await town.bob.texts(room_id)) == 2


async def test_an_answer_that_was_written_while_the_agent_was_away_counts(town: Town) -> None:
    scout = await town.enter(town.scout)
    asking = asyncio.create_task(scout.contacts.request(town.clerk.handle, "", SOON_S))
    async with town.open(town.clerk, HubRoom()):
        room_id = await town.bob.next_room()
        await town.bob.read(room_id, f"is from {town.scout.handle}")
    await town.bob.write(room_id, f"yes {town.scout.handle}", town.clerk.id)

    async with town.open(town.clerk, HubRoom()):
        assert (await asking).scope is None
        await town.bob.read(room_id, "Approved")
        await town.bob.write(room_id, f"yes {town.scout.handle}", town.clerk.id)
        await town.bob.read(room_id, "is a contact already")


async def test_a_hub_room_that_was_deleted_is_made_again_and_ends_are_told_in_it(town: Town) -> None:
    scout = await town.enter(town.scout)
    async with town.open(town.clerk, HubRoom()):
        room_id = await town.bob.next_room()
        await town.bob.ask("DELETE", f"/me/chats/{room_id}")
        asking = asyncio.create_task(scout.contacts.request(town.clerk.handle, "", SOON_S))
        again = await town.bob.next_room((room_id,))
        await town.bob.read(again, f"is from {town.scout.handle}")
        await scout.contacts.cancel(town.clerk.handle)
        with pytest.raises(NotApproved, match="cancelled"):
            await asking
        await town.bob.read(again, "It was cancelled")


# Rooms.


async def test_texts_are_handled_in_order_and_once_over_losses_and_end_processed_or_failed(town: Town) -> None:
    await town.befriend()
    scout, clerk = await town.enter(town.scout), await town.enter(town.clerk)
    room = await scout.rooms.create("Plans")
    await scout.rooms.add(room.id, town.clerk.id)
    heard: list[str] = []
    everything = asyncio.Event()

    async def note(message: RoomMessage) -> None:
        heard.append(message.plain)
        if len(heard) == 6:
            everything.set()
        if message.plain == "text 3":
            raise ValueError("a secret of the program")
        await message.reply(f"heard {message.plain}")

    clerk.rooms.on_message(note)
    replies = scout.rooms.messages()
    for n in range(6):
        if n == 2:
            await clerk.cut()
        if n == 4:
            await town.restart()
        await scout.rooms.post(room.id, f"text {n}", [town.clerk.handle])
    await asyncio.wait_for(everything.wait(), SOON_S)

    assert heard == [f"text {n}" for n in range(6)]
    for n in (0, 1, 2, 4, 5):
        async with await asyncio.wait_for(anext(replies), SOON_S) as reply:
            assert reply.plain == f"heard text {n}"
    states = {}
    for text in await town.alice.ask("GET", f"/me/chats/{room.id}/messages?limit=100&message_type=text"):
        delivery = text["metadata"]["delivery_status"].get(town.clerk.id)
        if delivery is not None:
            states[text["content"].partition("]] ")[2]] = delivery["status"]
            assert "secret" not in str(delivery)
    assert states == {f"text {n}": "failed" if n == 3 else "processed" for n in range(6)}


async def test_a_text_whose_program_died_comes_again_and_rooms_tell_who_takes_part(town: Town) -> None:
    await town.befriend()
    scout = await town.enter(town.scout)
    room = await scout.rooms.create()
    assert (await scout.rooms.rename(room.id, "Named")).title == "Named"
    async with town.open(town.clerk) as clerk:
        texts = clerk.rooms.messages()
        await scout.rooms.add(room.id, town.clerk.id)
        await scout.rooms.post(room.id, "please", [town.clerk.handle])
        first = await asyncio.wait_for(anext(texts), SOON_S)
        with pytest.raises(asyncio.CancelledError):
            async with first:
                raise asyncio.CancelledError
    async with town.open(town.clerk) as clerk:
        async with await asyncio.wait_for(anext(clerk.rooms.messages()), SOON_S) as again:
            assert (again.id, again.text.delivery_to(clerk.id).status) == (first.id, "processing")
            await clerk.rooms.say_working(room.id)
            await clerk.rooms.record(room.id, "thinking")
        assert [text.content for text in [one async for one in clerk.rooms.history(room.id)]][1:] == ["thinking"]
        assert [one.title async for one in clerk.rooms.list()] == ["Named"]
        assert {one.handle: one.role for one in await clerk.rooms.participants(room.id)} == {
            town.scout.handle: "owner",
            town.clerk.handle: "member",
        }
        await clerk.rooms.remove(room.id, clerk.id)
        with pytest.raises(RefusedByServer, match="not_found"):
            await clerk.rooms.get(room.id)


# Private channels.


async def test_context_is_shared_by_invitation_and_what_was_missed_is_asked_for(town: Town) -> None:
    scout, clerk = await town.enter(town.scout), await town.enter(town.clerk)
    channel = await scout.channels.create()
    events = channel.events()
    invitation = await channel.invite()
    assert invitation.token not in repr(invitation)
    with pytest.raises(RefusedByServer, match="AccessDenied"):
        await clerk.channels.join(channel.id, "not it")
    guest = await clerk.channels.join(channel.id, invitation.token)
    assert {one.agent_id for one in guest.members} == {town.scout.id, town.clerk.id}
    while not isinstance(came := await asyncio.wait_for(anext(events), SOON_S), MemberCame):
        pass
    assert came.agent_id == town.clerk.id

    prices = guest.listen("x.price")
    await channel.broadcast({"type": "x.other", "n": 0})
    await channel.broadcast({"type": "x.price", "n": 1})
    assert (await asyncio.wait_for(anext(prices), SOON_S))["n"] == 1
    await clerk.cut()
    await channel.broadcast({"type": "x.price", "n": 2})
    assert (await asyncio.wait_for(anext(prices), SOON_S))["n"] == 2
    await town.restart()
    await guest.broadcast({"type": "x.answer", "n": 3})
    while not isinstance(told := await asyncio.wait_for(anext(events), SOON_S), ContextTold):
        pass
    assert told.context["n"] == 3
    assert await channel.current("x.price") == {"type": "x.price", "n": 2}

    await guest.leave()
    while not isinstance(await asyncio.wait_for(anext(events), SOON_S), MemberWent):
        pass
    with pytest.raises(RefusedByServer, match="AccessDenied"):
        await clerk.channels.join(channel.id, invitation.token)
    spare = await scout.channels.invite(channel.id, town.clerk.id)
    await channel.revoke(spare)
    assert (await scout.channels.get(channel.id)).invites == ()
    await channel.close()
    async with asyncio.timeout(SOON_S):
        assert [event async for event in events if isinstance(event, ContextTold)] == [], "it ends with the channel"
    assert [one.id async for one in scout.channels.list()] == []


# Numbers.


async def test_numbers_and_alerts_come_live_over_a_loss(town: Town) -> None:
    await town.befriend()
    scout = await town.enter(town.scout)
    async with scout.watching.alerts() as alerts, scout.watching.updates("user") as updates:
        assert (await asyncio.wait_for(anext(updates), SOON_S)).messages_in == 0
        await scout.watching.alert_below("1.00")
        low = await asyncio.wait_for(anext(alerts), SOON_S)
        assert (low.type, low.status, low.data["balance_below"]) == ("balance_low", "active", 1_000_000)
        assert [one.id async for one in scout.watching.alert_list("active")] == [low.id]

        await scout.cut()
        await scout.watching.acknowledge(low)
        noted = await asyncio.wait_for(anext(alerts), SOON_S)
        assert (noted.id, noted.status) == (low.id, "acknowledged")
        await scout.watching.resolve(low)
        assert (await asyncio.wait_for(anext(alerts), SOON_S)).status == "resolved"

        clerk = await town.enter(town.clerk)
        await clerk.contacts.start()
        await clerk.mailbox.send(town.scout.handle, "status_update", None)
        while (await asyncio.wait_for(anext(updates), SOON_S)).messages_in != 1:
            pass

    assert (await scout.watching.metrics("1h")).messages_in == 1
    assert [one.value for one in (await scout.watching.time_series("messages_in", "1h")).points if one.value] == [1]
    assert (await scout.watching.revenue()).gross == 0
    assert (await scout.watching.heatmap()).max == 0
    agents = (await scout.watching.stats()).total_agents
    assert agents >= 2
    assert (await asyncio.wait_for(anext(scout.watching.global_stats()), SOON_S)).total_agents == agents
    with pytest.raises(RefusedByServer, match="unauthorized"):
        await asyncio.wait_for(anext(scout.watching.activity("global")), SOON_S)
