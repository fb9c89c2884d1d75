"""Replays: stored chunks in order, then what was told meanwhile, nothing twice, nothing lost, and never too much.

Alice's socket follows the output that Bob sends. The test says what happens at each read and while her socket is full.
"""

import base64
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agrenting import replays
from agrenting.replays import Position, Replay
from agrenting.subscriptions import Subscription
from channels.wire import Vsn
from tests.agrenting.replay_stage import OUTBOX, Stage, Wire, data_of


@pytest.fixture
def stage(empty: Path, tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(Path(shutil.copy(empty, tmp_path)))
    yield stage
    stage.close()


@pytest.fixture
def alice() -> Wire:
    return Wire("alice")


def is_live(subscription: Subscription) -> bool:
    """Whether everything that was stored has been pushed."""
    return isinstance(subscription.feed, Replay) and subscription.feed.is_live


def once_each(wire: Wire, count: int) -> bool:
    """Whether each chunk of the output came once, and in order."""
    return wire.output == list(range(count))


# What is stored.


async def test_what_is_stored_comes_in_order_page_by_page_as_fast_as_it_is_read(
    stage: Stage, alice: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replays, "PAGE_ROWS_MAX", 4)
    stage.store(*range(10))
    stage.join(alice)
    await stage.run(alice)

    assert once_each(alice, 10)
    assert stage.reads == 4  # 4, 4, 2, and none.
    assert alice.drains == 4  # Before each page the socket has read.
    assert alice.sent[3] == (
        "output_stream",
        {"task_id": "1", "seq": 3, "chunk": "0003", "encoding": "utf8", "replay": True},
    )


async def test_a_page_waits_for_the_socket_and_is_not_sent_before_it_has_read(stage: Stage, alice: Wire) -> None:
    stage.store(0, 1)
    seen: list[int] = []
    alice.draining.append(lambda: seen.append(len(alice.sent)))
    stage.join(alice)
    await stage.run(alice)

    assert seen == [0]
    assert once_each(alice, 2)


async def test_a_page_ends_early_where_its_chunks_are_large(
    stage: Stage, alice: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replays, "PAGE_BYTES_MAX", 100)
    stage.store(*range(5), size=60)
    stage.join(alice)
    await stage.run(alice)

    assert once_each(alice, 5)
    assert stage.reads == 6


async def test_only_what_was_asked_for_comes(stage: Stage, alice: Wire) -> None:
    stage.store(*range(6))
    stage.store(*range(3), direction="input")
    stage.join(alice, output=4)
    await stage.run(alice)

    assert alice.seqs == [("o", 4), ("o", 5)]


async def test_both_directions_come_if_both_were_asked_for(stage: Stage, alice: Wire) -> None:
    stage.store(*range(3))
    stage.store(*range(2), direction="input")
    stage.join(alice, input_=1, output=0)
    await stage.run(alice)

    assert alice.seqs == [("i", 1), ("o", 0), ("o", 1), ("o", 2)]


async def test_those_ahead_of_a_gap_come_too_and_the_missing_ones_once_they_are_there(
    stage: Stage, alice: Wire
) -> None:
    stage.store(0, 1, 4, 6)
    stage.join(alice)
    await stage.run(alice)
    assert alice.output == [0, 1, 4, 6]

    stage.tell(2, 5, 3, 7)

    assert alice.output == [0, 1, 4, 6, 2, 5, 3, 7]


async def test_who_has_asked_for_nothing_is_live_at_once(stage: Stage, alice: Wire) -> None:
    stage.store(0)
    subscription = stage.join(alice, output=None)
    assert alice.spawned == []
    stage.tell(1)

    assert alice.output == [1]
    assert subscription.feed is None


# What is told meanwhile.


async def test_what_is_told_meanwhile_comes_after_what_is_stored_once_and_in_order(stage: Stage, alice: Wire) -> None:
    stage.store(0, 1, 2)
    stage.join(alice)
    stage.tell(3)

    def stored_and_more() -> None:
        stage.store(3)
        stage.tell(4)

    stage.reading.extend((stored_and_more, lambda: stage.tell(5)))
    assert alice.sent == []
    await stage.run(alice)
    stage.tell(6)

    assert once_each(alice, 7)
    replayed = [payload["seq"] for _, payload in alice.sent if payload.get("replay")]
    assert replayed == [0, 1, 2, 3]


async def test_what_was_told_before_it_was_stored_and_is_read_then_is_not_pushed_twice(
    stage: Stage, alice: Wire
) -> None:
    stage.store(0)
    stage.join(alice)
    stage.tell(1, 2)
    stage.reading.append(lambda: None)
    stage.reading.append(lambda: stage.store(1, 2))
    await stage.run(alice)

    assert once_each(alice, 3)


async def test_once_it_is_live_what_it_was_pushed_already_is_not_pushed_again(stage: Stage, alice: Wire) -> None:
    """Stored, but told a moment later: the writer's commit comes before it is told."""
    stage.store(0, 1)
    stage.join(alice)
    await stage.run(alice)
    stage.tell(1, 2)

    assert once_each(alice, 3)


async def test_other_events_keep_their_place_among_what_waits(stage: Stage, alice: Wire) -> None:
    stage.store(0)
    stage.join(alice)
    stage.tell(1)
    stage.say("progress", percent=50)
    stage.tell(2)
    stage.say("output_complete", verified=True)
    await stage.run(alice)

    told = [event if event != "output_stream" else payload["seq"] for event, payload in alice.sent]
    assert told == [0, 1, "progress", 2, "output_complete"]


async def test_chunks_of_a_direction_that_was_not_asked_for_wait_as_other_events_do(stage: Stage, alice: Wire) -> None:
    stage.store(0)
    stage.join(alice)
    stage.tell(0, direction="input")
    await stage.run(alice)
    stage.tell(0, direction="input")  # Such a thing is not told twice; if it were, nothing here would hide it.

    assert alice.seqs == [("o", 0), ("i", 0), ("i", 0)]


# Too much.


async def test_chunks_that_are_too_much_are_let_go_and_read_again_in_order(stage: Stage, alice: Wire) -> None:
    stage.store(0)
    stage.join(alice)

    def much_more() -> None:
        stage.store(*range(1, 9), size=600)
        stage.tell(*range(1, 9), size=600)

    stage.reading.append(lambda: None)
    stage.reading.append(lambda: None)
    alice.draining.append(much_more)
    await stage.run(alice)
    stage.tell(9)

    assert once_each(alice, 10)
    assert alice.slow == 0


async def test_what_was_let_go_before_it_was_stored_is_waited_for(stage: Stage, alice: Wire) -> None:
    """Relayed ahead of the writer, dropped, and not there when it is looked for: it is stored a moment later."""
    stage.store(0)
    stage.join(alice)
    stage.tell(*range(1, 9), size=600)
    stage.settling.append(lambda: stage.store(*range(1, 9), size=600))
    await stage.run(alice)

    assert once_each(alice, 9)


async def test_it_may_be_too_much_again_and_again(stage: Stage, alice: Wire) -> None:
    stage.store(0)
    stage.join(alice)
    told = iter(range(1, 31))

    def more() -> None:
        for seq in (next(told) for _ in range(10)):
            stage.store(seq, size=600)
            stage.tell(seq, size=600)

    stage.reading.append(more)
    stage.settling.extend((more, more))
    await stage.run(alice)

    assert once_each(alice, 31)


async def test_what_has_waited_and_was_pushed_is_not_read_again_where_the_rest_is_let_go(
    stage: Stage, alice: Wire
) -> None:
    """Alice's socket is full while what has waited is pushed to it, and much more comes then."""
    stage.store(0)
    stage.join(alice)
    stage.tell(1, 2, 3)

    def full() -> None:
        alice.is_full = True

    def much_more() -> None:
        assert alice.output == [0, 1, 2]
        alice.is_full = False
        stage.store(*range(1, 12), size=600)
        stage.tell(*range(4, 12), size=600)

    stage.reading.extend((lambda: None, full))
    alice.draining.extend((lambda: None, lambda: None, lambda: None, much_more))
    await stage.run(alice)

    assert not alice.draining
    assert once_each(alice, 12)


async def test_what_was_pushed_makes_room_for_what_comes(stage: Stage, alice: Wire) -> None:
    """Never more than an outbox waits at a time, so nothing is let go: it is nowhere stored, and would be lost."""
    stage.join(alice)
    stage.tell(0, 1, 2, size=500)
    alice.is_full = True
    alice.draining.extend((lambda: None, lambda: stage.tell(3, size=500), lambda: stage.tell(4, size=500)))
    await stage.run(alice)

    assert once_each(alice, 5)


async def test_other_events_are_kept_where_chunks_are_let_go(stage: Stage, alice: Wire) -> None:
    stage.store(0)
    stage.join(alice)
    stage.say("progress", percent=1)
    stage.tell(*range(1, 9), size=600)
    stage.store(*range(1, 9), size=600)
    stage.say("output_complete", verified=True)
    await stage.run(alice)

    assert once_each(alice, 9)
    events = [event for event, _ in alice.sent]
    assert [event for event in events if event != "output_stream"] == ["progress", "output_complete"]
    assert events[-1] == "output_complete"


async def test_other_events_that_are_too_much_close_the_socket(stage: Stage, alice: Wire) -> None:
    stage.join(alice)
    stage.tell(0)
    for number in range(3):
        assert alice.slow == 0
        stage.say("progress", message=str(number) * (OUTBOX // 3))

    assert alice.slow == 1
    await stage.run(alice)


async def test_no_more_is_held_than_one_outbox(stage: Stage, alice: Wire) -> None:
    subscription = stage.join(alice)
    for seq in range(200):
        stage.tell(seq, size=600)
        replay: Any = subscription.feed
        assert sum(len(held.frame) for held in replay._held) <= OUTBOX  # noqa: SLF001 - what is in memory is tried
        assert alice.replays.held_bytes == sum(len(held.frame) for held in replay._held)  # noqa: SLF001 - the same
    stage.store(*range(200))
    await stage.run(alice)

    assert once_each(alice, 200)


# Sockets that go, and databases that fail.


@pytest.mark.parametrize("at", [0, 1, 2])
async def test_a_socket_that_leaves_meanwhile_is_sent_nothing_more(stage: Stage, alice: Wire, at: int) -> None:
    stage.store(0, 1)
    subscription = stage.join(alice)
    stage.tell(2)

    def leave() -> None:
        alice.joined.clear()
        stage.topic.subscribers.clear()
        alice.sent.append(("left", {}))

    if at < 2:
        stage.reading.extend([lambda: None] * at)
        stage.reading.append(leave)
    else:
        alice.draining.append(leave)
    await stage.run(alice)

    assert alice.sent[-1] == ("left", {})
    assert alice.ended == []
    assert not is_live(subscription)  # Nothing of it is live any more.


async def test_a_socket_that_has_joined_again_gets_the_new_replay_alone(stage: Stage, alice: Wire) -> None:
    stage.store(0, 1, 2)
    first = stage.join(alice)
    old = alice.spawned.pop(0)

    def again() -> None:
        del stage.topic.subscribers[first]
        stage.join(alice, output=2)

    stage.reading.append(again)
    await old
    assert alice.sent == []
    await stage.run(alice)

    assert alice.output == [2]


async def test_where_the_database_fails_the_topic_ends_and_can_be_joined_again(stage: Stage, alice: Wire) -> None:
    stage.store(0, 1)
    stage.join(alice)
    stage.tell(2)

    def fail() -> None:
        raise OSError("the disk is gone")

    stage.reading.append(fail)
    await stage.run(alice)
    assert alice.ended == [("phx_error", {"reason": "channel_crash"})]
    assert alice.sent == []
    stage.topic.subscribers.clear()
    stage.store(2)
    stage.join(alice)
    await stage.run(alice)

    assert once_each(alice, 3)


async def test_where_the_database_fails_for_a_socket_that_is_gone_nobody_is_told(stage: Stage, alice: Wire) -> None:
    stage.join(alice)

    def fail() -> None:
        alice.joined.clear()
        raise OSError("the disk is gone")

    stage.reading.append(fail)
    await stage.run(alice)

    assert (alice.ended, alice.sent) == ([], [])


async def test_what_is_taken_back_ends_the_topic_of_everybody_but_the_sender(stage: Stage, alice: Wire) -> None:
    bob, carol = Wire("bob"), Wire("carol")
    for wire in (alice, bob, carol):
        stage.join(wire)
    stage.tell(0)
    stage.unsay()
    for wire in (alice, bob, carol):
        await stage.run(wire)

    void = [("phx_error", {"reason": "relay_void"})]
    assert (alice.ended, bob.ended, carol.ended) == (void, [], void)
    assert (alice.sent, carol.sent) == ([], [])


# Forms.


async def test_who_takes_binary_frames_gets_those_that_came_so_stored_or_live(stage: Stage, alice: Wire) -> None:
    stage.store(0, encoding="binary")
    stage.store(1, encoding="utf8")
    stage.store(2, encoding="base64")
    stage.join(alice, is_binary=True)
    stage.tell(3, encoding="binary")
    await stage.run(alice)
    stage.tell(4, encoding="binary")
    stage.tell(5)

    assert once_each(alice, 6)
    told = [payload.get("bytes", payload.get("chunk")) for _, payload in alice.sent]
    as_base64 = base64.b64encode(data_of(2)).decode()
    assert told == [data_of(0), "0001", as_base64, data_of(3), data_of(4), "0005"]


@pytest.mark.parametrize(("vsn", "is_binary"), [(Vsn.V2, False), (Vsn.V1, True), (Vsn.V1, False)])
async def test_everybody_else_gets_them_as_base64(stage: Stage, vsn: Vsn, is_binary: bool) -> None:  # noqa: FBT001 - a parameter of the test
    wire = Wire("alice", vsn)
    stage.store(0, encoding="binary")
    subscription = stage.join(wire, is_binary=is_binary)
    stage.tell(1, encoding="binary")
    await stage.run(wire)
    stage.tell(2, encoding="binary")

    assert not subscription.is_binary
    told = [(payload["seq"], base64.b64decode(payload["chunk"]), payload["encoding"]) for _, payload in wire.sent]
    assert told == [(seq, data_of(seq), "base64") for seq in range(3)]
    assert [payload.get("replay") for _, payload in wire.sent] == [True, None, None]


# Positions.


def test_a_position_knows_what_was_pushed_beyond_a_gap_and_closes_up() -> None:
    position = Position(3)
    assert [seq for seq in range(8) if position.has(seq)] == [0, 1, 2]
    for seq in (5, 4, 7):
        position.add(seq)
    assert [seq for seq in range(9) if position.has(seq)] == [0, 1, 2, 4, 5, 7]
    position.add(3)

    assert (position.first, position.above) == (6, {7})
    position.add(6)
    assert (position.first, position.above) == (8, set())


async def test_the_replays_of_one_socket_take_turns(stage: Stage, alice: Wire) -> None:
    """Each looks whether the socket reads right before its page, so that they do not fill its outbox together."""
    stage.store(*range(10))
    first, second = stage.join(alice), stage.join(alice, topic="task:2")
    reading: list[int] = []
    alice.draining.extend([lambda: reading.append(len(alice.sent))] * 2)
    await stage.run(alice)

    assert is_live(first)
    assert is_live(second)
    assert alice.replays.active == {}
    assert reading == [0, 10]  # The second one began once the first one's page was sent.


async def test_what_waits_for_all_replays_of_a_socket_is_one_outbox_together(stage: Stage, alice: Wire) -> None:
    first, second = stage.join(alice), stage.join(alice, topic="task:2")
    for seq in range(50):
        stage.tell(seq, size=600)

    assert alice.replays.held_bytes <= OUTBOX
    assert alice.slow == 0
    assert not (is_live(first) and is_live(second))
    stage.store(*range(50), size=600)
    await stage.run(alice)
    assert alice.replays.held_bytes == 0
