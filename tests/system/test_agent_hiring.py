"""Hiring with the client's own parts, on a real server: what is agreed, sent, taken, checked and paid, over losses."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from agrenting.client.discovering import FoundAgent, Search
from agrenting.client.errors import (
    CheckFailed,
    Disconnected,
    MalformedAnswer,
    NobodyFound,
    RefusedByServer,
    TaskNotDone,
    WrongAnswer,
    WrongPrice,
)
from agrenting.client.hired_proof import Progress
from agrenting.client.streams import Position
from tests.agrenting.client_stage import settle
from tests.system.harness import MarketProcess
from tests.system.hiring_stage import SOON_S, Shop, opened_shop


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MarketProcess]:
    """One for all: each test has agents of its own."""
    process = MarketProcess(tmp_path_factory.mktemp("market") / "var").start()
    yield process
    assert process.stop() == 0, "\n".join(process.log)


@pytest.fixture
async def shop(market: MarketProcess, tmp_path: Path) -> AsyncIterator[Shop]:
    async with opened_shop(market, tmp_path) as opened, asyncio.timeout(60):
        yield opened


async def test_input_goes_output_comes_and_the_price_is_released_once_it_was_checked(shop: Shop) -> None:
    task = await shop.hiring.hire(shop.capability, max_price="0.001", input={"to": "de"}, data=["good ", "morning"])
    work = await shop.work(task)
    got = [await work.take(), await work.take()]
    await work.until_closed()
    await work.push("progress", {"percent": 50, "message": "half"})
    await work.deliver("guten ", "Morgen", result={"words": 2})

    heard = [chunk async for chunk in task]
    verified = await task.settle(lambda result, output: result == {"words": 2} and output == b"guten Morgen")

    assert (got, heard) == (["good ", "morning"], [b"guten ", b"Morgen"])
    assert task.progress == Progress(50, "half")
    assert (verified.price, verified.escrow_status, verified.result) == (1_000, "released", {"words": 2})
    assert (verified.sent.size, verified.received.size) == (12, 12)
    assert verified.receipt is not None
    assert verified.receipt.path.exists()
    assert verified.receipt.to_provider == verified.net
    assert (await shop.money())["escrow"] == 0


async def test_streams_survive_cuts_on_both_ways_without_loss_or_duplicate(shop: Shop) -> None:
    async def lines() -> AsyncIterator[str]:
        for number in range(40):
            if number % 10 == 5:
                await shop.cut()
            yield f"line {number}\n"

    task = await shop.hire(data=lines())
    work = await shop.work(task)
    taken = [await work.take() for _ in range(40)]
    heard = []
    working = asyncio.create_task(work.deliver(*[line.upper() for line in taken]))
    async for chunk in task:
        heard.append(chunk.decode())
        if len(heard) % 13 == 0:
            await shop.cut()
    await working
    verified = await task.settle()

    assert taken == [f"line {number}\n" for number in range(40)]
    assert heard == [line.upper() for line in taken]
    assert verified.escrow_status == "released"


async def test_a_reader_who_stops_goes_on_behind_the_last_chunk_and_read_gives_all(shop: Shop) -> None:
    task = await shop.hire(data=b"")
    await (await shop.work(task)).deliver("a", "b", "c")
    async for chunk in task:
        assert chunk == b"a"
        break

    rest = [chunk async for chunk in task]
    again = [chunk async for chunk in task]

    assert (rest, again) == ([b"b", b"c"], [])
    assert await task.text() == "abc"


async def test_a_reader_who_is_cancelled_loses_nothing(shop: Shop) -> None:
    task = await shop.hire()
    work = await shop.work(task)
    reading = asyncio.create_task(task.next_chunk())
    await asyncio.wait((reading,), timeout=0.05)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await work.send("first")
    await work.deliver("second")

    assert [chunk async for chunk in task] == [b"first", b"second"]


async def test_a_task_that_completes_with_a_result_alone_has_no_output(shop: Shop) -> None:
    task = await shop.hire(data=b"")
    work = await shop.work(task)
    await work.until_closed()
    await work.complete({"answer": 42})

    assert [chunk async for chunk in task] == []
    assert await task.result() == {"answer": 42}
    assert (await task.settle()).received == Position()


async def test_who_is_declined_or_let_down_hears_how_and_has_the_price_back(shop: Shop) -> None:
    declined = await shop.hire(data="one")
    failed = await shop.hire(data="two")
    await (await shop.work(declined)).push("cancel", {"reason": "too busy"})
    work = await shop.work(failed)
    await work.send("zw")
    await work.push("error", {"type": "unreadable", "details": {"line": 1}})

    with pytest.raises(TaskNotDone) as first:
        await declined.read()
    with pytest.raises(TaskNotDone) as second:
        await failed.result()

    assert (first.value.status, first.value.reason) == ("cancelled", "too busy")
    assert second.value.error == {"type": "unreadable", "details": {"line": 1}}
    assert [chunk for chunk in [await failed.next_chunk()] if chunk] == [b"zw"]
    assert (await shop.money())["available"] == 100_000


async def test_an_input_that_cannot_be_read_reaches_the_reader_and_the_task_is_taken_back(shop: Shop) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"first"
        raise OSError("the disk is gone")

    task = await shop.hire(data=broken())

    with pytest.raises(OSError, match="the disk is gone"):
        await task.read()
    with pytest.raises(OSError, match="the disk is gone"):
        await task.next_chunk()

    (cancelled,) = await shop.tasks("cancelled")
    assert (cancelled["id"], (await shop.money())["available"]) == (task.id, 100_000)


async def test_a_provider_that_needs_no_input_may_complete_while_it_is_sent(shop: Shop) -> None:
    has_begun, may_go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"first"
        has_begun.set()
        await may_go_on.wait()
        yield b"second"

    task = await shop.hire(data=slow())
    work = await shop.work(task)
    await has_begun.wait()
    await work.deliver("done")
    assert await task.result() is None
    may_go_on.set()

    verified = await task.settle()

    assert (await task.text(), verified.escrow_status) == ("done", "released")


async def test_two_tasks_at_once_over_one_connection_keep_apart(shop: Shop) -> None:
    tasks = await asyncio.gather(*(shop.hire(data=name) for name in ("a", "b")))
    for task in tasks:
        work = await shop.work(task)
        word = await work.take()
        await work.deliver(word * 3)
    await shop.cut()

    assert await asyncio.gather(*(task.text() for task in tasks)) == ["aaa", "bbb"]
    assert [one.escrow_status for one in await asyncio.gather(*(task.settle() for task in tasks))] == ["released"] * 2


async def test_progress_is_told_as_it_changes_up_to_the_end_and_to_who_reads_late(shop: Shop) -> None:
    task = await shop.hire(data=b"")
    work = await shop.work(task)
    told = []
    async with aclosing(task.progress_events()) as events:
        await work.push("progress", {"percent": 10})
        told.append(await anext(events))
        await work.push("progress", {"percent": 90, "message": "nearly"})
        told.append(await anext(events))
        await work.deliver("x")
        told += [event async for event in events]

    assert told == [(10, None), (90, "nearly")]
    assert [event async for event in task.progress_events()] == told, "who reads late has missed nothing"


async def test_who_stops_to_wait_for_progress_leaves_nothing_behind(shop: Shop) -> None:
    task = await shop.hire(data=b"")
    before = asyncio.all_tasks()
    waiting = asyncio.ensure_future(anext(task.progress_events()))
    await asyncio.wait((waiting,), timeout=0.05)

    waiting.cancel()
    await asyncio.wait((waiting,))
    await settle()

    assert asyncio.all_tasks() <= before


async def test_work_that_does_not_pass_the_check_is_not_paid_and_can_be_disputed(shop: Shop) -> None:
    task = await shop.hire(data=b"")
    await (await shop.work(task)).deliver("rubbish")

    async def check(result: Any, output: bytes) -> str:
        return "this is no German"

    with pytest.raises(CheckFailed, match="this is no German"):
        await task.settle(check)
    held = (await shop.money())["escrow"]
    await task.dispute("this is no German")

    assert (held, task.status) == (1_000, "disputed")
    with pytest.raises(RefusedByServer) as refused:
        await task.release()
    assert refused.value.reason == "escrow_locked"


async def test_a_task_is_taken_back_before_output_and_not_after(shop: Shop) -> None:
    early = await shop.hire()
    late = await shop.hire()
    await (await shop.work(late)).send("there")
    await early.cancel("changed my mind")

    with pytest.raises(RefusedByServer) as refused:
        await late.cancel()
    with pytest.raises(TaskNotDone, match="changed my mind"):
        await early.result()

    assert (refused.value.reason, early.status) == ("output_delivered", "cancelled")


async def test_leaving_ends_the_waiting_and_the_task_goes_on(shop: Shop) -> None:
    async with await shop.hire() as task:
        await task.send("part")
    await (await shop.work(task)).deliver("whole")
    again = await shop.hiring.take_up(task.id)

    assert await again.text() == "whole"
    assert (await again.settle()).escrow_status == "released"


async def test_input_goes_on_behind_what_the_market_has_of_it(shop: Shop) -> None:
    first = await shop.hire()
    work = await shop.work(first)
    await first.send("never ")
    taken = [await work.take()]
    await shop.stored(first.id, chunks=1)
    await first.leave()

    second = await shop.hiring.take_up(first.id)
    has = second.state["streams"]["input"]
    await second.send("odd")
    await second.close()
    taken.append(await work.take())
    await work.until_closed()
    late = await shop.hiring.take_up(first.id)
    await late.send("!")
    with pytest.raises(RefusedByServer) as refused:
        await late.close()
    last = await shop.hiring.take_up(first.id)
    await work.deliver("even")
    verified = await last.settle()

    assert (has["next_seq"], has["total_size"], taken) == (1, 6, ["never ", "odd"])
    assert refused.value.reason == "stream_closed"
    assert (verified.sent.seq, verified.sent.size, await last.text()) == (2, 9, "even")


async def test_a_hire_that_is_cancelled_leaves_no_task_behind(shop: Shop) -> None:
    sent = asyncio.Event()
    post = shop.alice.rest.post

    async def slowly(path: str, body: Any = None, idempotency_key: str | None = None) -> Any:
        answer = await post(path, body, idempotency_key)
        if path == "/tasks":
            sent.set()
            await asyncio.sleep(0.05)  # The answer takes its time on the way.
        return answer

    shop.alice.rest.post = slowly  # type: ignore[method-assign] # A slow network.
    hiring = asyncio.create_task(shop.hire(data="never"))
    await sent.wait()
    hiring.cancel()

    with pytest.raises(asyncio.CancelledError):
        await hiring

    assert [len(await shop.tasks(status)) for status in ("pending", "cancelled")] == [0, 1]
    assert (await shop.money())["available"] == 100_000


async def test_an_opening_whose_answers_are_lost_is_one_task(shop: Shop) -> None:
    lost = 2
    post = shop.alice.rest.post

    async def lossy(path: str, body: Any = None, idempotency_key: str | None = None) -> Any:
        nonlocal lost
        answer = await post(path, body, idempotency_key)
        if path == "/tasks" and lost:
            lost -= 1
            raise Disconnected("the answer was lost")
        return answer

    shop.alice.rest.post = lossy  # type: ignore[method-assign] # A network that loses answers.
    task = await shop.hire(data="once")

    assert [one["id"] for one in await shop.tasks("pending")] == [task.id]
    assert (await shop.money())["escrow"] == 1_000


@pytest.mark.parametrize(
    "lie",
    [{"price": 2_000, "fee": 200, "net": 1_800}, {"capability": "juggle"}, {"streams": None}],
    ids=["price", "capability", "shape"],
)
async def test_a_task_that_is_not_what_was_ordered_is_taken_back_before_anything_is_sent(
    shop: Shop, lie: dict[str, Any]
) -> None:
    post = shop.alice.rest.post

    async def lying(path: str, body: Any = None, idempotency_key: str | None = None) -> Any:
        answer = await post(path, body, idempotency_key)
        return {**answer, **lie} if path == "/tasks" else answer

    shop.alice.rest.post = lying  # type: ignore[method-assign] # A server that lies.
    with pytest.raises((WrongPrice, WrongAnswer, MalformedAnswer)):
        await shop.hire(data="secret")

    (task,) = await shop.tasks("cancelled")
    assert task["streams"]["input"]["next_seq"] == 0
    assert (await shop.money())["available"] == 100_000


async def test_who_is_not_named_is_found_and_what_is_too_dear_is_said(shop: Shop) -> None:
    (found,) = await shop.hiring.discover(Search(capability=shop.capability, max_price="0.001", tags=["words"]))
    all_of_them = [one.id async for one in shop.hiring.discover_all(Search(capability=shop.capability))]
    at_list_price = await shop.hiring.hire(shop.capability, provider=found, data=b"")
    by_handle = await shop.hiring.hire(shop.capability, provider="@" + shop.bob.handle, max_price=1_000, data=b"")

    with pytest.raises(NobodyFound, match=r"for at most USD 0\.000999; there is .*online, USD 0\.001"):
        await shop.hiring.hire(shop.capability, max_price=999)
    with pytest.raises(NobodyFound, match="no agent that can be found offers juggle"):
        await shop.hiring.hire("juggle", max_price=999)
    with pytest.raises(RefusedByServer, match="list price"):
        await shop.hiring.hire(shop.capability, provider=shop.bob.id, max_price=999)
    with pytest.raises(ValueError, match="say what it may cost"):
        await shop.hiring.hire(shop.capability, provider=shop.bob.id)

    assert (found.id, all_of_them) == (shop.bob.id, [shop.bob.id])
    assert (at_list_price.price, by_handle.price) == (1_000, 1_000)
    assert isinstance(found, FoundAgent)


async def test_who_has_too_little_money_is_told_what_to_do(market: MarketProcess, tmp_path: Path) -> None:
    async with opened_shop(market, tmp_path, price=200_000) as shop, asyncio.timeout(SOON_S):
        with pytest.raises(RefusedByServer, match=r"needs USD 0\.20 for this, and has USD 0\.10 available") as refused:
            await shop.hiring.hire(shop.capability, max_price="1.00", data="dear")

        assert refused.value.reason == "insufficient_balance"
