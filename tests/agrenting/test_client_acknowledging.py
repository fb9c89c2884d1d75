"""Policies of acknowledging: what they confirm, what they reject, and what they leave to the application."""

import asyncio
from typing import Any

import pytest

from agrenting.client.acknowledging import (
    AcknowledgeExpected,
    AcknowledgeNothing,
    AcknowledgeUpTo,
    AcknowledgeWhen,
    Acknowledging,
    Desk,
    Expectations,
    Expected,
    ProposedPayment,
    Verdict,
)
from agrenting.client.amounts import Amount, parse_amount

TASK = "7a0b4c3e-1111-4222-8333-444455556666"


def payment(amount: int = 100, **fields: Any) -> ProposedPayment:
    defaults = {"channel_id": "c", "nonce": 1, "from_agent_id": "alice", "task_id": None, "memo": None, "received": 0}
    return ProposedPayment(amount=amount, **{**defaults, **fields})


def desk(expected: Expectations | None = None) -> Desk:
    def amount(value: Amount) -> int:
        return parse_amount(value, 2)

    return Desk(amount=amount, expected=expected or Expectations())


async def verdict(policy: Acknowledging, proposed: ProposedPayment, expected: Expectations | None = None) -> Verdict:
    async with asyncio.timeout(30):
        return await policy.answer(proposed, desk(expected))


async def test_nothing_is_left_to_the_application() -> None:
    assert await verdict(AcknowledgeNothing(), payment()) is None


@pytest.mark.parametrize(
    ("proposed", "answer"),
    [
        (payment(100, task_id=TASK), True),
        (payment(101, task_id=TASK), "it is more than is taken at once"),
        (payment(100, task_id=TASK, received=400), True),
        (payment(100, task_id=TASK, received=401), "it would be more than is taken in all"),
        (payment(100, task_id=TASK, received=-50), True),
        (payment(100), "only payments for a task are taken"),
    ],
)
async def test_up_to_a_limit(proposed: ProposedPayment, answer: Verdict) -> None:
    policy = AcknowledgeUpTo("1.00", total="5.00", tasks_only=True)

    assert await verdict(policy, proposed) == answer


async def test_without_a_total_there_is_none() -> None:
    assert await verdict(AcknowledgeUpTo(100), payment(100, received=10**12)) is True


async def test_each_expectation_is_for_one_payment_and_the_one_that_says_more_goes_first() -> None:
    expected = Expectations()
    anything, for_task = expected.add(Expected(100)), expected.add(Expected(100, TASK))
    policy = AcknowledgeExpected(within_s=0.01)

    for nonce in (1, 2):
        proposed = payment(100, task_id=TASK, nonce=nonce)
        assert await verdict(policy, proposed, expected) is True
        expected.fulfil(proposed)

    assert (for_task.nonce, anything.nonce) == (1, 2)
    assert await verdict(policy, payment(100, task_id=TASK, nonce=3), expected) == "it is not expected"
    expected.fulfil(payment(100))
    assert repr(for_task) == f"<Expected 100 for task {TASK}, paid with nonce 1>"
    assert repr(Expected(5)) == "<Expected 5>"


@pytest.mark.parametrize("other", [payment(99, task_id=TASK), payment(100), payment(100, task_id="another")])
async def test_another_payment_than_the_expected_one_is_rejected(other: ProposedPayment) -> None:
    expected = Expectations()
    expected.add(Expected(100, TASK))

    assert await verdict(AcknowledgeExpected(within_s=0.01), other, expected) == "it is not expected"


async def test_what_comes_before_it_is_expected_waits_for_that() -> None:
    expected = Expectations()
    waiting = asyncio.create_task(verdict(AcknowledgeExpected(), payment(), expected))
    await asyncio.sleep(0)
    expected.add(Expected(7))
    await asyncio.sleep(0)
    assert not waiting.done()

    expected.add(Expected(100))

    assert await waiting is True


@pytest.mark.parametrize("answer", [True, False, None, "not today"])
async def test_the_application_decides(answer: Verdict) -> None:
    async def decide(_payment: ProposedPayment) -> Verdict:
        return answer

    assert await verdict(AcknowledgeWhen(decide), payment()) == answer
