"""Mail feeds: what is repeated and how often, and the end, after which nothing is pushed any more.

Bob's sockets listen to his mailbox. The test says what happens at each read, while a socket is full, and what time it
is.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from agrenting import mailboxes
from agrenting.replays import PAGES_PER_OUTBOX
from channels.wire import Outgoing
from tests.agrenting.mail_stage import OUTBOX, TOPIC, Stage, Wire

WEEK_S = 604_800


@pytest.fixture
def stage(empty: Path, tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(Path(shutil.copy(empty, tmp_path)))
    yield stage
    stage.close()


@pytest.fixture
def bob(stage: Stage) -> Wire:
    return Wire(stage)


# Repeats.


async def test_what_is_not_answered_is_repeated_four_times_and_no_more(stage: Stage, bob: Wire) -> None:
    stage.store(0)
    stage.join(bob)
    await stage.run(bob)
    counts: list[int] = []
    for seconds in (4.9, 0.1, 4.9, 0.1, 9.9, 0.1, 19.9, 0.1, WEEK_S / 2):
        await stage.wait(bob, seconds)
        counts.append(len(bob.pushed))

    assert counts == [1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert not bob.is_waiting


async def test_a_live_message_is_repeated_as_well(stage: Stage, bob: Wire) -> None:
    stage.join(bob)
    await stage.run(bob)
    stage.write(0)
    await stage.wait(bob, 3)
    stage.write(1)
    await stage.wait(bob, 2)
    assert bob.pushed == [0, 1, 0]

    await stage.wait(bob, 3)

    assert bob.pushed == [0, 1, 0, 1]


async def test_after_the_repeats_it_waits_for_the_next_join(stage: Stage, bob: Wire) -> None:
    stage.store(0)
    stage.join(bob)
    await stage.run(bob)
    await stage.wait(bob, 100)
    again = Wire(stage)
    stage.join(again)
    await stage.run(again)

    assert again.pushed == [0]


@pytest.mark.parametrize("event", ["acknowledge", "reject"])
async def test_what_was_answered_is_not_repeated(stage: Stage, bob: Wire, event: str) -> None:
    stage.store(0, 1)
    stage.join(bob)
    await stage.run(bob)
    stage.answer(0, event=event)
    await stage.wait(bob, 5)
    stage.answer(1, event=event)
    await stage.wait(bob, 100)

    assert bob.pushed == [0, 1, 1]
    assert not bob.is_waiting


async def test_what_is_over_is_not_repeated(stage: Stage, bob: Wire) -> None:
    stage.store(0)
    stage.monotonic_s += WEEK_S - 7
    stage.join(bob)
    await stage.run(bob)
    await stage.wait(bob, 100)

    assert bob.pushed == [0, 0]


async def test_repeats_wait_for_the_socket_and_what_is_late_is_not_made_up_for(stage: Stage, bob: Wire) -> None:
    stage.store(0)
    stage.join(bob)
    await stage.run(bob)

    def read_half_a_minute_later() -> None:
        stage.monotonic_s += 25

    bob.draining.append(read_half_a_minute_later)
    await stage.wait(bob, 5)  # The repeats of 5, 10 and 20 seconds are due by the time it reads.
    assert len(bob.pushed) == 2

    await stage.wait(bob, 100)

    assert len(bob.pushed) == 3


async def test_repeats_are_paged_too(stage: Stage, bob: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    size = OUTBOX // PAGES_PER_OUTBOX
    stage.store(*("z" * size + str(number) for number in range(6)))
    stage.join(bob)
    await stage.run(bob)
    monkeypatch.setattr(mailboxes, "PAGE_ROWS_MAX", 4)
    bob.waiting_bytes_most = 0
    await stage.wait(bob, 5)

    assert [text[-1] for text in bob.pushed] == list("012345012345")
    assert bob.waiting_bytes_most < 2 * size


async def test_what_comes_while_repeats_are_due_is_not_held_up_and_keeps_its_order(stage: Stage, bob: Wire) -> None:
    stage.store(0)
    stage.join(bob)
    await stage.run(bob)
    stage.reading.append(lambda: stage.write(1))
    await stage.wait(bob, 5)
    stage.write(2)

    assert bob.pushed == [0, 1, 0, 2]


async def test_a_socket_that_fills_up_while_repeats_are_read_catches_up_after_them(stage: Stage, bob: Wire) -> None:
    stage.store(0)
    stage.join(bob)
    await stage.run(bob)

    def fill_up() -> None:
        bob.is_full = True
        stage.write(1, 2)

    stage.reading.append(fill_up)
    await stage.wait(bob, 5)

    assert bob.pushed == [0, 0, 1, 2]


# The end.


async def test_who_has_left_is_pushed_nothing_more_and_waits_for_nothing(stage: Stage, bob: Wire) -> None:
    stage.store(0)
    feed = stage.join(bob)
    await stage.run(bob)
    stage.leave(bob)
    (told,) = stage.store(1)

    feed.tell(Outgoing(TOPIC, told.event, told.payload), told)
    await stage.wait(bob, 100)

    assert bob.pushed == [0]
    assert not bob.is_waiting


async def test_who_leaves_before_anything_was_read_is_pushed_nothing(stage: Stage, bob: Wire) -> None:
    stage.store(0)
    stage.join(bob)
    stage.leave(bob)
    await stage.run(bob)

    assert (bob.pushed, stage.reads) == ([], 0)


async def test_who_leaves_while_a_page_is_read_is_not_pushed_it_nor_is_it_delivered(stage: Stage, bob: Wire) -> None:
    stage.store(0)
    stage.join(bob)
    stage.reading.append(lambda: stage.leave(bob))
    await stage.run(bob)

    assert bob.pushed == []
    assert stage.status(0) == "queued"


async def test_who_leaves_while_repeats_are_read_is_not_pushed_them(stage: Stage, bob: Wire) -> None:
    stage.store(0)
    stage.join(bob)
    await stage.run(bob)
    stage.reading.append(lambda: stage.leave(bob))
    await stage.wait(bob, 5)

    assert bob.pushed == [0]
    assert not bob.is_waiting


async def test_who_leaves_while_its_socket_is_full_is_pushed_nothing(stage: Stage, bob: Wire) -> None:
    stage.store(0)
    stage.join(bob)
    bob.draining.append(lambda: stage.leave(bob))
    await stage.run(bob)

    assert bob.pushed == []


async def test_a_socket_that_is_being_closed_takes_nothing_and_nothing_is_marked(stage: Stage, bob: Wire) -> None:
    stage.store(0)
    stage.join(bob)
    bob.close_sent = True
    await stage.run(bob)

    assert bob.pushed == []
    assert stage.status(0) == "queued"


async def test_who_joins_anew_on_the_same_socket_is_pushed_everything_anew_and_only_by_the_new_one(
    stage: Stage, bob: Wire
) -> None:
    stage.store(0)
    stage.join(bob)
    await stage.run(bob)
    stage.leave(bob)
    stage.join(bob)
    await stage.run(bob)
    await stage.wait(bob, 5)

    assert bob.pushed == [0, 0, 0]


async def test_a_mailbox_that_cannot_be_read_ends_the_topic_so_that_the_client_joins_again(
    stage: Stage, bob: Wire
) -> None:
    stage.store(0)
    stage.join(bob)
    stage.broken = RuntimeError("a bug")
    await stage.run(bob)

    assert bob.ended == [("phx_error", {"reason": "channel_crash"})]
    assert not bob.is_waiting
