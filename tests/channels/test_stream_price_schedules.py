"""Over any schedule of pay as you stream, neither side loses more than credit × unit price, and no money is made."""

import multiprocessing
import random
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.channels.stream_play import StreamPlay

SHORT = (3, 6, 9, 14)
LONG = (200, 300)
"""Moves of one schedule after the other."""

AT_A_TIME = 500
TO_BE_SEEN = (
    *("ok", "duplicate", "payment_due", "chunk_too_large", "seq_conflict", "seq_out_of_window", "stream_closed"),
    *("terminal_state", "expired", "forbidden_role", "transfer_pending", "insufficient_channel_balance"),
    *("channel_not_open", "contact_revoked", "not_held", "not_found"),
)
"""Answers that many schedules give among them: a play that never gets there proves nothing of it."""


def played(seed: int, moves: int) -> Counter[str]:
    """A schedule of that seed; how often each answer was given. A failure names the seed."""
    try:
        play = StreamPlay(random.Random(seed))
        play.play(moves)
        play.outlast()
    except BaseException as error:
        error.add_note(f"played({seed}, {moves}) does it again")
        raise
    return play.done


def played_each(seeds: range, moves: tuple[int, ...]) -> Counter[str]:
    """Schedules of those seeds."""
    return sum((played(seed, moves[seed % len(moves)]) for seed in seeds), Counter[str]())


def played_all(count: int, moves: tuple[int, ...]) -> Counter[str]:
    """So many schedules, in processes of their own: they are many, and what measures coverage would slow them down."""
    parts = [range(first, first + AT_A_TIME) for first in range(0, count, AT_A_TIME)]
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as processes:
        return sum(processes.map(played_each, parts, repeat(moves)), Counter[str]())


def test_over_ten_thousand_schedules_neither_side_loses_more_than_the_credit() -> None:
    seen = played_all(10_000, SHORT)

    assert {reason for reason in TO_BE_SEEN if seen[reason] < 20} == set(), seen


@settings(max_examples=300, deadline=None)
@given(chance=st.randoms(use_true_random=False), moves=st.integers(min_value=1, max_value=20))
def test_a_schedule_that_fails_is_found_small(chance: random.Random, moves: int) -> None:
    play = StreamPlay(chance)
    play.play(moves)
    play.outlast()


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_over_long_schedules_neither_side_loses_more_than_the_credit() -> None:
    seen = played_all(10_000, LONG)

    assert {reason for reason in TO_BE_SEEN if seen[reason] < 20} == set(), seen
