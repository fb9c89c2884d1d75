"""Band's own SDK, unmodified: agents of its runtime take what they are asked, answer, fail, die and come again."""

import asyncio
from typing import Any

import pytest

from tests.system.band import (
    AgentTools,
    ContactEventConfig,
    ContactEventStrategy,
    Player,
    Stage,
    present,
)
from tests.system.band_rooms import (
    WITHIN_S,
    Brain,
    Room,
    Stuck,
    attempts,
    fail,
    keep_quiet,
    stuck_process,
    words,
)
from tests.system.harness import MarketProcess

EXPECTED_COMPLAINTS = ("Error during /next resync",)
"""Its removal from a room may cross an agent's question for the next message there, which is refused then."""


async def test_an_agent_that_is_added_to_a_room_takes_a_mention_and_answers(
    stage: Stage, alice: Player, bob: Player
) -> None:
    asker, brain = Brain(keep_quiet), Brain()
    await stage.run(alice, adapter=asker)
    await stage.run(bob, adapter=brain)
    room = await Room.create(alice)
    tools = AgentTools(room.id, alice.rest, agent_id=alice.id)
    await tools.add_participant(bob.handle)

    sent = await tools.send_message("Translate this", mentions=[f"@{bob.handle}"])

    asked = await brain.next()
    assert (asked.message.id, asked.message.room_id) == (sent.id, room.id)
    assert (asked.message.sender_id, asked.message.sender_type, asked.message.sender_name) == (
        alice.id,
        "Agent",
        "Alice",
    )
    assert asked.message.content == f"@{bob.handle} Translate this"
    assert alice.handle in present(asked.participants_msg)
    answered = await asker.next()
    assert answered.message.content == f"@{alice.handle} Done: Translate this"
    assert answered.message.sender_id == bob.id
    done = await room.of(bob).settled(sent.id, "processed")
    assert attempts(done, bob) == ("processed", 1)
    await room.settled(answered.message.id, "processed")
    assert (await room.next(), await room.of(bob).next()) == (None, None)
    assert brain.rests()
    assert asker.rests()


@pytest.mark.parametrize("strategy", [ContactEventStrategy.DISABLED, ContactEventStrategy.CALLBACK])
async def test_rooms_work_whatever_an_agent_does_about_contacts(
    stage: Stage, alice: Player, bob: Player, strategy: ContactEventStrategy
) -> None:
    """The third one is in the file of the hub room."""

    async def ignore(_event: Any, _tools: Any) -> None:
        raise AssertionError("nobody asked")

    callback = ignore if strategy is ContactEventStrategy.CALLBACK else None
    brain = Brain()
    await stage.run(bob, ContactEventConfig(strategy=strategy, on_event=callback), adapter=brain)
    room = await Room.create(alice, bob)

    sent = await room.say("Translate this", bob)

    assert (await brain.next()).message.id == sent.id
    await room.of(bob).settled(sent.id, "processed")


async def test_what_was_said_while_an_agent_was_away_is_done_in_its_order(
    stage: Stage, alice: Player, bob: Player, room: Room
) -> None:
    other = await Room.create(alice, bob)
    sent = [(await room.say(f"Number {number}", bob)).id for number in range(5)]
    elsewhere = (await other.say("Elsewhere", bob)).id
    brain = Brain()

    await stage.run(bob, adapter=brain)

    turns = [(await brain.next()).message for _ in range(6)]
    assert [turn.id for turn in turns if turn.room_id == room.id] == sent
    assert [turn.id for turn in turns if turn.room_id == other.id] == [elsewhere]
    assert [words(turn.content) for turn in turns if turn.room_id == room.id] == [f"Number {n}" for n in range(5)]
    await room.of(bob).settled(sent[-1], "processed")
    await other.of(bob).settled(elsewhere, "processed")
    assert [row.id for row in await room.of(bob).listed("processed")] == sent
    assert [words(row.content) for row in await room.listed()] == [f"Done: Number {n}" for n in range(5)]


async def test_an_agent_of_many_rooms_hears_in_each(stage: Stage, alice: Player, bob: Player) -> None:
    """Its runtime joins two topics for each; the rooms of hubs pile up, one at each start."""
    rooms = [await Room.create(alice, bob) for _ in range(60)]
    brain = Brain(keep_quiet)
    await stage.run(bob, adapter=brain)

    sent = {(await room.say("Are you there?", bob)).id for room in rooms}

    assert {(await brain.next()).message.id for _ in rooms} == sent
    for room in rooms:
        while await room.of(bob).next() is not None:
            pass


async def test_many_askers_are_each_answered_once_and_in_their_order(stage: Stage, alice: Player, bob: Player) -> None:
    carol = stage.agent("carol", called="Carol")
    await alice.befriend(carol)
    room = await Room.create(alice, bob, carol)
    brain = Brain()
    await stage.run(bob, adapter=brain)

    async def ask(asker: Player) -> list[str]:
        return [(await room.of(asker).say(f"Number {number}", bob)).id for number in range(10)]

    of_alice, of_carol = await asyncio.gather(ask(alice), ask(carol))

    turns = [(await brain.next()).message for _ in range(20)]
    assert [turn.id for turn in turns if turn.sender_id == alice.id] == of_alice
    assert [turn.id for turn in turns if turn.sender_id == carol.id] == of_carol
    for asker in (alice, carol):
        async with asyncio.timeout(WITHIN_S):
            while len(answers := await room.of(asker).listed()) < 10:
                pass
        assert [words(row.content) for row in answers] == [f"Done: Number {n}" for n in range(10)]


async def test_an_agent_that_fails_marks_the_message_and_its_next_start_tries_again(
    stage: Stage, bob: Player, room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    first = await stage.run(bob, adapter=Brain(fail))
    sent = await room.say("Translate this", bob)
    failed = await room.of(bob).settled(sent.id, "failed")
    error = await room.of(bob).posted("error")  # The runtime tells the room, after it has marked the message.
    await first.stop()
    caplog.clear()  # The runtime has complained of that defect, as it should.

    assert attempts(failed, bob) == ("failed", 1)
    assert error.sender_id == bob.id
    assert present(await room.of(bob).next()).id == sent.id
    brain = Brain()
    await stage.run(bob, adapter=brain)

    assert (await brain.next()).message.id == sent.id
    assert attempts(await room.of(bob).settled(sent.id, "processed"), bob) == ("processed", 2)
    assert await room.of(bob).next() is None


async def test_an_agent_that_is_killed_at_work_gets_the_message_again(stage: Stage, bob: Player, room: Room) -> None:
    async with stuck_process(stage, bob) as process:
        first, second = [(await room.say(text, bob)).id for text in ("First", "Second")]
        taken = await asyncio.wait_for(present(process.stdout).readline(), WITHIN_S)
        process.kill()

    assert taken.decode().strip() == first
    assert [row.id for row in await room.of(bob).listed("processing")] == [first]
    assert present(await room.of(bob).next()).id == first
    brain = Brain()
    await stage.run(bob, adapter=brain)

    assert [(await brain.next()).message.id for _ in range(2)] == [first, second]
    await room.of(bob).settled(second, "processed")
    assert attempts(await room.of(bob).settled(first, "processed"), bob) == ("processed", 1)
    assert len(await room.listed()) == 2


async def test_an_agent_that_is_stopped_at_work_leaves_the_message_for_its_next_start(
    stage: Stage, bob: Player, room: Room
) -> None:
    stuck = Brain(Stuck())
    running = await stage.run(bob, adapter=stuck)
    sent = await room.say("Translate this", bob)
    await stuck.next()
    at_work = await room.activity(bob)

    await running.stop()

    assert at_work["kind"] == "reasoning"
    assert await room.activity(bob) is None

    assert [row.id for row in await room.of(bob).listed("processing")] == [sent.id]
    assert present(await room.of(bob).next()).id == sent.id
    brain = Brain()
    await stage.run(bob, adapter=brain)
    assert (await brain.next()).message.id == sent.id
    await room.of(bob).settled(sent.id, "processed")


async def test_an_agent_is_where_it_was_after_the_server_was_killed(
    stage: Stage, market: MarketProcess, bob: Player, room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    """It is at work when the server goes, and its turn ends when the server is there again."""
    stuck = Stuck()
    brain = Brain(stuck)
    await stage.run(bob, adapter=brain)
    before = await room.say("Before", bob)
    queued = await room.say("Queued", bob)
    assert (await brain.next()).message.id == before.id

    market.kill()
    market.start(port=market.url.rpartition(":")[2])
    stuck.go.set()
    other = await Room.create(room.player, bob)
    after = [await room.say("After", bob), await other.say("Elsewhere", bob)]

    turns = [(await brain.next()).message for _ in range(3)]
    assert [turn.id for turn in turns if turn.room_id == room.id] == [queued.id, after[0].id]
    assert [turn.id for turn in turns if turn.room_id == other.id] == [after[1].id]
    for where, sent in ((room, before), (room, queued), (room, after[0]), (other, after[1])):
        await where.of(bob).settled(sent.id, "processed")
    assert [words(row.content) for row in await room.listed()] == ["Done: Before", "Done: Queued", "Done: After"]
    assert brain.rests()
    caplog.clear()  # The SDK has complained of the loss, as it should.


async def test_a_removed_agent_ends_its_work_and_comes_back_to_it(stage: Stage, bob: Player, room: Room) -> None:
    brain = Brain()
    await stage.run(bob, adapter=brain)
    before = await room.say("Hello", bob)
    await room.of(bob).settled(before.id, "processed")

    await room.remove(bob)
    left = await brain.leaves()
    await room.add(bob)
    sent = await room.say("Welcome back", bob)

    assert left == room.id
    assert (await brain.next()).message.id == before.id

    assert (await brain.next()).message.id == sent.id
    await room.of(bob).settled(sent.id, "processed")


async def test_an_agent_is_told_who_comes_and_goes_while_it_is_in_a_room(
    stage: Stage, alice: Player, bob: Player, room: Room
) -> None:
    carol = stage.agent("carol", called="Carol")
    await alice.befriend(carol)
    told: asyncio.Queue[tuple[str, str, str]] = asyncio.Queue()

    async def hear(room_id: str, event: Any) -> None:
        told.put_nowait((event.type, room_id, event.payload.id))

    brain = Brain()
    await stage.run(bob, adapter=brain, on_participant_added=hear, on_participant_removed=hear)

    await room.add(carol)
    await room.say("Who is here?", bob)
    before = await brain.next()
    await room.remove(carol)

    for kind in ("participant_added", "participant_removed"):
        assert await asyncio.wait_for(told.get(), WITHIN_S) == (kind, room.id, carol.id)
    assert carol.handle in present(before.participants_msg)
    await room.say("And now?", bob)
    assert carol.handle not in present((await brain.next()).participants_msg)


async def test_an_agent_that_starts_anew_remembers_what_it_did(
    stage: Stage, alice: Player, bob: Player, room: Room
) -> None:
    first = Brain()
    running = await stage.run(bob, adapter=first)
    before = await room.say("One", bob)
    await first.next()
    await room.of(bob).settled(before.id, "processed")
    await running.stop()
    second = Brain()
    await stage.run(bob, adapter=second)

    await room.say("Two", bob)

    turn = await second.next()
    assert turn.is_first
    assert [(row["content"], row["sender_name"]) for row in turn.history.raw] == [
        (f"@{bob.handle} One", "Alice"),
        (f"@{alice.handle} Done: One", "Bob"),
    ]
    await room.say("Three", bob)
    assert not (await second.next()).is_first


async def test_a_long_message_arrives_whole(stage: Stage, bob: Player, room: Room) -> None:
    text = "Grüße " * 60_000
    brain = Brain(keep_quiet)
    await stage.run(bob, adapter=brain)

    await room.say(text, bob)

    assert words((await brain.next()).message.content).strip() == text.strip()
