"""Band's own SDK, unmodified: an agent that makes up its mind about contacts in a room of its own.

The runtime waits five seconds before the first event of each hub room and complains of it; that is its own.
"""

import asyncio
import re

from tests.system.band import (
    ADDED,
    RECEIVED,
    REMOVED,
    UPDATED,
    AgentTools,
    ChatMessage,
    ContactEventConfig,
    ContactEventStrategy,
    Player,
    Stage,
    present,
)
from tests.system.band_rooms import (
    HUB_IS_SLOW,
    WITHIN_S,
    Brain,
    Room,
    Turn,
    answer,
    metadata_of,
    words,
)

TASK_ID = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
HUB = ContactEventConfig(strategy=ContactEventStrategy.HUB_ROOM, hub_task_id=TASK_ID)
EXPECTED_COMPLAINTS = (HUB_IS_SLOW,)


class Host:
    """What an adapter does that lets some in, turns others away, and answers in every other room."""

    def __init__(self, *welcome: Player) -> None:
        self._welcome = [player.handle for player in welcome]

    async def __call__(self, turn: Turn) -> None:
        """Answer a request through the tools of contacts, as the hub room asks for."""
        if turn.message.sender_type != "System":
            await answer(turn)
        elif turn.message.content.startswith("[Contact Request] "):
            is_welcome = any(f"(@{handle})" in turn.message.content for handle in self._welcome)
            action = "approve" if is_welcome else "reject"
            await turn.tools.respond_contact_request(action, request_id=request_id(turn))
            await turn.tools.send_event(f"I {action} it", "thought")


def request_id(turn: Turn) -> str:
    """The request that the hub room tells of."""
    found = re.search(r"^Request ID: (\S+)$", turn.message.content, re.MULTILINE)
    return present(found)[1]


async def rooms_of(player: Player) -> set[str]:
    """The ids of its rooms."""
    return {row.id for row in (await Room(player, "").chats.list_agent_chats()).data}


async def hub_tasks(bob: Player, hub: str, count: int) -> list[ChatMessage]:
    """The contact events that the runtime has posted to its hub room: it posts each just after the turn has begun."""
    room = Room(bob, hub)
    async with asyncio.timeout(WITHIN_S):
        while len(tasks := [row for row in await room.context() if row.message_type == "task"]) < count:
            pass
    return tasks


async def test_requests_are_answered_in_the_hub_room_and_kept_there(stage: Stage) -> None:
    alice, bob, mallory = stage.agent("alice", called="Alice"), stage.agent("bob"), stage.agent("mallory")
    of_alice, of_mallory = await stage.listen(alice), await stage.listen(mallory)
    brain = Brain(Host(alice))
    running = await stage.run(bob, HUB, adapter=brain)
    assert running.is_contacts_subscribed
    (hub,) = await rooms_of(bob)

    wanted = await alice.ask(bob, "We translate")
    turns = [await brain.next() for _ in range(3)]
    unwanted = await mallory.ask(bob)
    turns += [await brain.next() for _ in range(2)]

    assert {turn.message.room_id for turn in turns} == {hub}
    assert {turn.tools.is_hub_room for turn in turns} == {True}
    assert [turn.message.content.split("]")[0] for turn in turns] == [
        "[Contact Request",
        "[Contact Request Update",
        "[Contact Added",
        "[Contact Request",
        "[Contact Request Update",
    ]
    assert f"Alice (@{alice.handle}) wants to connect." in turns[0].message.content
    assert 'Message: "We translate"' in turns[0].message.content
    assert [request_id(turns[0]), request_id(turns[3])] == [wanted.id, unwanted.id]
    assert f"from Alice (@{alice.handle}) status changed to: approved" in turns[1].message.content
    assert f"(@{alice.handle}) is now a contact." in turns[2].message.content
    assert (await of_alice.next(UPDATED)).status == "approved"
    assert (await of_alice.next(ADDED)).handle == bob.handle
    assert (await of_mallory.next(UPDATED)).status == "rejected"
    assert set(await bob.friends()) == {alice.handle}

    kept = await hub_tasks(bob, hub, 5)
    assert [metadata_of(row)["contact_event_type"] for row in kept] == [RECEIVED, UPDATED, ADDED, RECEIVED, UPDATED]
    assert [row.content for row in kept] == [turn.message.content for turn in turns]
    context = await Room(bob, hub).context()
    assert {row.sender_id for row in context} == {bob.id}
    assert sorted(row.content for row in context if row.message_type == "thought") == ["I approve it", "I reject it"]
    room = Room(bob, hub)
    assert (await room.read()).task_id == TASK_ID
    assert await room.next() is None
    assert set(await room.participants()) == {bob.handle}

    # The answer to its own request comes there, too; it looks for whom that was sent to among the pending ones.
    asked = await bob.ask(mallory)
    await mallory.answer("reject", asked.id)
    told = await brain.next()
    assert told.message.content == f"[Contact Request Update] Request {asked.id} status changed to: rejected"


async def test_a_contact_that_was_made_in_the_hub_room_leads_to_work_in_another(stage: Stage) -> None:
    """At its second start, which has a hub room of its own."""
    alice, bob = stage.agent("alice", called="Alice"), stage.agent("bob", called="Bob")
    of_alice = await stage.listen(alice)
    first = await stage.run(bob, HUB, adapter=Brain(Host(alice)))
    (old,) = await rooms_of(bob)
    await first.stop()
    brain = Brain(Host(alice))
    await stage.run(bob, HUB, adapter=brain)
    await alice.ask(bob)
    assert (await of_alice.next(UPDATED)).status == "approved"
    await of_alice.next(ADDED)

    room = await Room.create(alice)
    added = await AgentTools(room.id, alice.rest, agent_id=alice.id).add_participant(bob.handle)
    sent = await room.say("Translate this", bob)
    turns = [await brain.next() for _ in range(4)]

    assert added["status"] == "added"
    (work,) = [turn for turn in turns if turn.message.room_id == room.id]
    assert (work.message.id, work.tools.is_hub_room) == (sent.id, False)
    await room.of(bob).settled(sent.id, "processed")
    assert [words(row.content) for row in await room.listed()] == ["Done: Translate this"]

    # She ends it: the agent is told in its hub room, and stays in hers.
    await alice.contacts.remove_agent_contact(handle=bob.handle)
    assert (await brain.next()).message.content.startswith("[Contact Removed]")
    await room.say("One more", bob)
    assert words((await brain.next()).message.content) == "One more"
    (hub,) = await rooms_of(bob) - {room.id, old}
    assert metadata_of((await hub_tasks(bob, hub, 4))[3])["contact_event_type"] == REMOVED
    assert await Room(bob, old).context() == []
