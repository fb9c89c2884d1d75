import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.ledger import (
    EXTERNAL,
    FEES,
    Entry,
    Posting,
    available,
    channel_lock,
    deposit,
    escrow,
    fee_of,
    hold,
    lock,
    move,
    payout,
    refund,
    release,
    split,
    unlock,
)

TASK, CHANNEL, ALICE, BOB = "t1", "c1", "alice", "bob"
PRICES = st.integers(min_value=0, max_value=10**15)
RATES = st.integers(min_value=0, max_value=10_000)


def sums(*entries: Entry) -> dict[str, int]:
    """What each account has after those entries, if it had nothing before; those with nothing left out."""
    accounts: dict[str, int] = {}
    for posting in (posting for entry in entries for posting in entry.postings):
        accounts[posting.account] = accounts.get(posting.account, 0) + posting.amount
    return {name: amount for name, amount in accounts.items() if amount}


class TestAnEntry:
    def test_that_makes_money_cannot_exist(self) -> None:
        with pytest.raises(AssertionError, match="sum to zero"):
            Entry("deposit", (Posting(EXTERNAL, -5), Posting(available(ALICE), 6)))

    def test_with_a_posting_that_moves_nothing_cannot_exist(self) -> None:
        with pytest.raises(AssertionError, match="moves money"):
            Entry("release", (Posting(escrow(TASK), -5), Posting(available(BOB), 5), Posting(FEES, 0)))

    def test_of_nothing_cannot_be_made_by_a_move(self) -> None:
        with pytest.raises(AssertionError, match="moves money"):
            move("hold", source=available(ALICE), target=escrow(TASK), amount=0)

    def test_says_what_moved_where_for_which_task_and_why(self) -> None:
        entry = move("hold", source=available(ALICE), target=escrow(TASK), amount=7, task_id=TASK, memo="for Bob")

        assert entry == Entry(
            "hold", (Posting("agent:alice:available", -7), Posting("task:t1:escrow", 7)), TASK, "for Bob"
        )


def test_a_deposit_comes_from_outside_and_a_payout_goes_there() -> None:
    came, went = deposit(agent_id=ALICE, amount=9, memo="wire"), payout(agent_id=ALICE, amount=4, memo="back")

    assert (came.kind, came.memo, went.kind, went.memo) == ("deposit", "wire", "payout", "back")
    assert sums(came) == {EXTERNAL: -9, available(ALICE): 9}
    assert sums(came, went) == {EXTERNAL: -5, available(ALICE): 5}


@pytest.mark.parametrize(
    ("price", "fee_bps", "fee"),
    [(1_000, 500, 50), (19, 500, 0), (20, 500, 1), (39, 500, 1), (0, 500, 0), (7, 0, 0), (7, 10_000, 7)],
)
def test_the_fee_rounds_down_in_the_providers_favour(price: int, fee_bps: int, fee: int) -> None:
    assert fee_of(price, fee_bps=fee_bps) == fee


@given(price=PRICES, fee_bps=RATES)
def test_the_fee_is_exact_to_less_than_one_minor_unit(price: int, fee_bps: int) -> None:
    exact = price * fee_bps

    assert 0 <= exact - fee_of(price, fee_bps=fee_bps) * 10_000 < 10_000


def test_a_hold_moves_the_price_into_the_tasks_escrow() -> None:
    (entry,) = hold(task_id=TASK, client_agent_id=ALICE, price=1_000)

    assert (entry.kind, entry.task_id) == ("hold", TASK)
    assert sums(entry) == {available(ALICE): -1_000, escrow(TASK): 1_000}


def test_a_release_pays_the_provider_and_the_fee() -> None:
    (entry,) = release(task_id=TASK, provider_agent_id=BOB, price=1_000, fee=50)

    assert (entry.kind, entry.task_id) == ("release", TASK)
    assert sums(entry) == {escrow(TASK): -1_000, available(BOB): 950, FEES: 50}


@pytest.mark.parametrize(("fee", "paid"), [(0, {available(BOB): 10}), (10, {FEES: 10})], ids=["no fee", "all fee"])
def test_a_release_posts_nothing_to_who_gets_nothing(fee: int, paid: dict[str, int]) -> None:
    (entry,) = release(task_id=TASK, provider_agent_id=BOB, price=10, fee=fee)

    assert sums(entry) == {escrow(TASK): -10, **paid}
    assert len(entry.postings) == 2


def test_a_refund_gives_the_whole_price_back() -> None:
    (entry,) = refund(task_id=TASK, client_agent_id=ALICE, price=1_000)

    assert (entry.kind, entry.task_id) == ("refund", TASK)
    assert sums(entry) == {escrow(TASK): -1_000, available(ALICE): 1_000}


@pytest.mark.parametrize(
    ("to_client", "to_provider", "fee", "moved"),
    [
        (333, 667, 33, {available(ALICE): 333, available(BOB): 634, FEES: 33}),
        (0, 1_000, 50, {available(BOB): 950, FEES: 50}),
        (999, 1, 0, {available(ALICE): 999, available(BOB): 1}),
        (999, 1, 1, {available(ALICE): 999, FEES: 1}),
    ],
)
def test_a_split_divides_the_whole_price(to_client: int, to_provider: int, fee: int, moved: dict[str, int]) -> None:
    (entry,) = split(
        task_id=TASK,
        client_agent_id=ALICE,
        to_client=to_client,
        provider_agent_id=BOB,
        to_provider=to_provider,
        fee=fee,
    )

    assert (entry.kind, entry.task_id) == ("split", TASK)
    assert sums(entry) == {escrow(TASK): -1_000, **moved}
    assert len(entry.postings) == len(moved) + 1


def test_what_is_free_moves_nothing() -> None:
    assert hold(task_id=TASK, client_agent_id=ALICE, price=0) == ()
    assert release(task_id=TASK, provider_agent_id=BOB, price=0, fee=0) == ()
    assert refund(task_id=TASK, client_agent_id=ALICE, price=0) == ()


@given(price=PRICES, fee_bps=RATES, is_paid=st.booleans())
def test_after_a_task_the_escrow_is_empty_and_the_price_is_where_it_belongs(
    price: int, fee_bps: int, *, is_paid: bool
) -> None:
    fee = fee_of(price, fee_bps=fee_bps)
    ended = (
        release(task_id=TASK, provider_agent_id=BOB, price=price, fee=fee)
        if is_paid
        else refund(task_id=TASK, client_agent_id=ALICE, price=price)
    )

    after = sums(*hold(task_id=TASK, client_agent_id=ALICE, price=price), *ended)

    expected = {available(ALICE): -price, available(BOB): price - fee, FEES: fee} if is_paid else {}
    assert after == {name: amount for name, amount in expected.items() if amount}


def test_a_lock_moves_a_deposit_into_the_channel() -> None:
    (entry,) = lock(channel_id=CHANNEL, agent_id=ALICE, amount=1_000)

    assert (entry.kind, entry.channel_id, entry.task_id) == ("lock", CHANNEL, None)
    assert sums(entry) == {available(ALICE): -1_000, channel_lock(CHANNEL): 1_000}


@pytest.mark.parametrize(
    ("final_a", "final_b", "paid"),
    [
        (990, 10, {available(ALICE): 990, available(BOB): 10}),
        (0, 10, {available(BOB): 10}),
        (10, 0, {available(ALICE): 10}),
    ],
)
def test_an_unlock_pays_both_and_posts_nothing_to_who_gets_nothing(
    final_a: int, final_b: int, paid: dict[str, int]
) -> None:
    (entry,) = unlock(channel_id=CHANNEL, agent_a_id=ALICE, final_a=final_a, agent_b_id=BOB, final_b=final_b)

    assert (entry.kind, entry.channel_id, entry.task_id) == ("unlock", CHANNEL, None)
    assert sums(entry) == {channel_lock(CHANNEL): -(final_a + final_b), **paid}
    assert len(entry.postings) == len(paid) + 1


def test_where_nothing_is_locked_nothing_moves() -> None:
    assert lock(channel_id=CHANNEL, agent_id=ALICE, amount=0) == ()
    assert unlock(channel_id=CHANNEL, agent_a_id=ALICE, final_a=0, agent_b_id=BOB, final_b=0) == ()


@given(deposit_a=PRICES, deposit_b=PRICES, share=st.integers(0, 100))
def test_after_a_channel_its_lock_is_empty_and_all_of_it_is_paid_out(
    deposit_a: int, deposit_b: int, share: int
) -> None:
    total = deposit_a + deposit_b
    final_a = total * share // 100  # Rounds down; any share will do.

    after = sums(
        *lock(channel_id=CHANNEL, agent_id=ALICE, amount=deposit_a),
        *lock(channel_id=CHANNEL, agent_id=BOB, amount=deposit_b),
        *unlock(channel_id=CHANNEL, agent_a_id=ALICE, final_a=final_a, agent_b_id=BOB, final_b=total - final_a),
    )

    expected = {available(ALICE): final_a - deposit_a, available(BOB): total - final_a - deposit_b}
    assert after == {name: amount for name, amount in expected.items() if amount}
