"""Mail feeds: what waits in order, then what comes, each marked as delivered; and never too much at once.

Bob's sockets listen to his mailbox. The test says what happens at each read, while a socket is full, and what time it
is.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from agrenting import mailboxes
from agrenting.db.commit import StorageUnavailable
from agrenting.replays import PAGES_PER_OUTBOX
from channels.told import Broadcast
from tests.agrenting.mail_stage import OUTBOX, TOPIC, Stage, Wire

WEEK_S = 604_800
EARLIER_ID = "01000000-0000-7000-8000-000000000000"
"""An id as it was made while the clock was years behind."""


@pytest.fixture
def stage(empty: Path, tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(Path(shutil.copy(empty, tmp_path)))
    yield stage
    stage.close()


@pytest.fixture
def bob(stage: Stage) -> Wire:
    return Wire(stage)


# What waits.


async def test_what_waits_comes_oldest_first_page_by_page_as_fast_as_it_is_read(
    stage: Stage, bob: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailboxes, "PAGE_ROWS_MAX", 4)
    stage.store(*range(10))
    stage.join(bob)
    await stage.run(bob)

    assert bob.pushed == list(range(10))
    assert stage.reads == 4  # 4, 4, 2, and none.
    assert bob.sent[3] == (
        "new_message",
        {
            "id": stage.ids[3],
            "type": "x_test",
            "payload": 3,
            "from_agent_id": "alice",
            "protocol_version": "1.0",
            "inserted_at": "2026-03-01T12:00:00Z",
            "from_market": False,
        },
    )


async def test_what_was_pushed_before_and_not_answered_comes_in_its_place_and_what_was_answered_does_not(
    stage: Stage, bob: Wire
) -> None:
    first = Wire(stage)
    stage.store(0, 1, 2, 3)
    stage.join(first)
    await stage.run(first)
    stage.leave(first)
    stage.store(4)
    stage.answer(0)
    stage.answer(2, event="reject")

    stage.join(bob)
    await stage.run(bob)

    assert bob.pushed == [1, 3, 4]


async def test_nothing_comes_where_nothing_waits(stage: Stage, bob: Wire) -> None:
    stage.join(bob)
    await stage.run(bob)

    assert bob.sent == []
    assert not bob.is_waiting


async def test_what_is_over_by_the_clock_is_left_out_and_what_is_behind_it_comes(
    stage: Stage, bob: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailboxes, "PAGE_ROWS_MAX", 2)
    stage.store(0, 1, 2)
    stage.monotonic_s += WEEK_S
    stage.store(3)
    stage.join(bob)
    await stage.run(bob)

    assert bob.pushed == [3]


async def test_a_page_ends_early_where_its_messages_are_large(stage: Stage, bob: Wire) -> None:
    size = OUTBOX // PAGES_PER_OUTBOX
    stage.store(*("x" * size + str(number) for number in range(5)))
    stage.join(bob)
    await stage.run(bob)

    assert [text[-1] for text in bob.pushed] == list("01234")
    assert bob.waiting_bytes_most < 2 * size


async def test_a_full_mailbox_never_waits_in_the_socket_as_more_than_a_page(stage: Stage, bob: Wire) -> None:
    stage.store(*("y" * 700 + str(number) for number in range(200)))
    stage.join(bob)
    await stage.run(bob)

    assert len(bob.pushed) == 200
    assert bob.waiting_bytes_most <= OUTBOX // PAGES_PER_OUTBOX + 1_000


async def test_a_page_waits_for_the_socket_and_is_not_sent_before_it_has_read(stage: Stage, bob: Wire) -> None:
    stage.store(0, 1)
    seen: list[int] = []
    bob.draining.append(lambda: seen.append(len(bob.sent)))
    stage.join(bob)
    await stage.run(bob)

    assert seen == [0]
    assert bob.pushed == [0, 1]


async def test_the_pages_of_one_socket_take_turns_with_whatever_else_is_replayed_to_it(stage: Stage, bob: Wire) -> None:
    stage.store(0)
    held: list[bool] = []
    stage.reading.append(lambda: held.append(bob.replays.turn.locked()))
    stage.join(bob)
    await stage.run(bob)

    assert held == [True]
    assert not bob.replays.turn.locked()


# What comes.


async def test_what_is_stored_once_all_is_pushed_comes_at_once(stage: Stage, bob: Wire) -> None:
    stage.store(0)
    stage.join(bob)
    await stage.run(bob)
    reads = stage.reads

    stage.write(1, 2)

    assert bob.pushed == [0, 1, 2]
    assert stage.reads == reads


async def test_what_is_told_before_all_is_pushed_comes_in_its_turn_and_once(stage: Stage, bob: Wire) -> None:
    stage.store(0)
    stage.join(bob)
    stage.write(1)
    stage.reading.append(lambda: stage.write(2))
    stage.reading.append(lambda: stage.write(3))
    stage.reading.append(lambda: None)
    await stage.run(bob)
    stage.write(4)

    assert bob.pushed == [0, 1, 2, 3, 4]


async def test_what_was_read_before_it_was_told_is_not_pushed_twice(stage: Stage, bob: Wire) -> None:
    stage.join(bob)
    told = stage.store(0, 1)
    await stage.run(bob)
    stage.tell(*told)
    stage.write(2)

    assert bob.pushed == [0, 1, 2]


async def test_what_is_told_between_the_last_read_and_its_answer_is_read_once_more(stage: Stage, bob: Wire) -> None:
    """The page was read before the message was stored, and the message is told before the page is here."""
    stage.join(bob)
    real, state = stage.read, {"is_first": True}

    async def slow(question: object) -> object:
        page = await real(question)  # type: ignore[arg-type] # As the feed asks.
        if state["is_first"]:
            state["is_first"] = False
            stage.write(0)
        return page

    stage.read = slow  # type: ignore[method-assign] # The stage's own.
    await stage.run(bob)

    assert bob.pushed == [0]


async def test_a_socket_that_does_not_read_is_told_nothing_live_and_catches_up_when_it_reads(
    stage: Stage, bob: Wire
) -> None:
    stage.join(bob)
    await stage.run(bob)
    bob.is_full = True
    stage.write(*range(50))
    assert bob.sent == []

    await stage.run(bob)
    stage.write(50)

    assert bob.pushed == list(range(51))


async def test_a_message_whose_id_is_of_a_clock_that_was_behind_comes_all_the_same(stage: Stage, bob: Wire) -> None:
    stage.store(0)
    stage.join(bob)
    await stage.run(bob)

    stage.tell(*stage.store(1, id_=EARLIER_ID))

    assert bob.pushed == [0, 1]


async def test_what_else_is_told_on_the_topic_comes_at_once(stage: Stage, bob: Wire) -> None:
    stage.store(0)
    stage.join(bob)
    stage.tell(Broadcast(TOPIC, "message_updated", {"id": "1"}))
    await stage.run(bob)

    assert [event for event, _ in bob.sent] == ["message_updated", "new_message"]


async def test_several_sockets_of_one_agent_are_each_pushed_everything(stage: Stage, bob: Wire) -> None:
    other = Wire(stage)
    stage.store(0, 1)
    stage.join(bob)
    await stage.run(bob)
    stage.join(other)
    stage.write(2)
    await stage.run(other)

    assert bob.pushed == other.pushed == [0, 1, 2]


# Delivered.


async def test_what_was_pushed_is_delivered_and_its_sender_is_told_once(stage: Stage, bob: Wire) -> None:
    other = Wire(stage)
    stage.store(0, 1)
    for wire in (bob, other):
        stage.join(wire)
        await stage.run(wire)
    stage.write(2)

    assert [stage.status(number) for number in range(3)] == ["delivered"] * 3
    told = [(one.topic, one.payload["id"], one.payload["status"]) for one in stage.updates]
    assert told == [("messages:alice", stage.ids[number], "delivered") for number in range(3)]


async def test_messages_are_marked_in_batches_of_a_bounded_size_one_after_the_other(
    stage: Stage, bob: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailboxes, "MARKED_AT_ONCE", 4)
    stage.is_marking = False
    stage.join(bob)
    await stage.run(bob)
    stage.write(*range(10))
    assert len(stage.submitted) == 1

    sizes: list[int] = []
    while stage.submitted:
        sizes.append(len(stage.submitted[0][0].request.message_ids))
        stage.mark()

    assert sizes == [1, 4, 4, 1]
    assert {stage.status(number) for number in range(10)} == {"delivered"}


async def test_what_could_not_be_marked_stays_queued_and_the_next_is_marked(stage: Stage, bob: Wire) -> None:
    stage.is_marking = False
    stage.join(bob)
    await stage.run(bob)
    stage.write(0)
    stage.mark(StorageUnavailable("the disk is full"))
    stage.write(1)
    stage.mark()

    assert [stage.status(0), stage.status(1)] == ["queued", "delivered"]
    assert bob.pushed == [0, 1]


async def test_what_was_pushed_is_marked_also_where_the_socket_is_gone_since(stage: Stage, bob: Wire) -> None:
    stage.is_marking = False
    stage.store(0)
    stage.join(bob)
    await stage.run(bob)
    stage.leave(bob)
    stage.mark()

    assert stage.status(0) == "delivered"
