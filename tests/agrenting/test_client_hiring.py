"""The parts of a hired task, with stand-ins: its input in pieces, output that is rewritten, payments once, proofs."""

import asyncio
import io
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from agrenting.client.discovering import FoundAgent
from agrenting.client.errors import (
    AlteredChunk,
    LostChunks,
    NoAnswer,
    NotPaid,
    StreamBroken,
    StreamRewritten,
    UnfinishedPayment,
)
from agrenting.client.hired_input import Data, pieces_of
from agrenting.client.hired_output import HiredOutput, Payment, UnitPayer
from agrenting.client.hired_proof import require_streams
from agrenting.client.hiring import Hiring
from agrenting.client.ordering import Price, Wanted, as_json, as_stream_price, as_time
from agrenting.client.payment_channel import OwnPayment
from agrenting.client.streamed_task import StreamPrice
from agrenting.client.streams import Position
from tests.agrenting.client_stage import settle


class Background:
    """What of an open agent payments need: its REST says how much of the task is paid."""

    def __init__(self, paid: Callable[[], int] = int) -> None:
        self.connection = self.rest = self
        self.paid = paid

    async def repeat(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        return await ask()

    async def get(self, path: str) -> Any:
        return {"path": path, "paid": self.paid()}

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        return asyncio.create_task(work, name=name)

    def amount(self, value: int | str) -> int:
        return int(value)


class Script:
    """A task's side on the wire, whose output is what a test says: chunks, None at the end, or errors."""

    id = "task-1"

    def __init__(self, *told: bytes | Exception | None, price: StreamPrice | None = None) -> None:
        self.told = [*told]
        self.price = price
        self.streamed = SimpleNamespace(paid=0, incoming=SimpleNamespace(position=Position()))

    async def next_chunk(self) -> bytes | None:
        await asyncio.sleep(0)
        told = self.told.pop(0)
        if isinstance(told, Exception):
            raise told
        if told is not None:
            before = self.streamed.incoming.position
            self.streamed.incoming.position = Position(before.seq + 1, before.size + len(told))
        return told


class Purse:
    """A payment channel; it takes its time, and fails where a test says so."""

    id = "channel-1"
    other_agent_id = "bob"
    last_payment: OwnPayment | None = None

    def __init__(self, *outcomes: Exception | None) -> None:
        self.paid: list[int] = []
        self.outcomes = [*outcomes]
        self.is_open = asyncio.Event()
        self.is_open.set()

    async def pay(self, amount: int, *, task_id: str | None = None) -> int:
        assert task_id == Script.id
        await self.is_open.wait()
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if isinstance(outcome, NoAnswer):  # It is signed, and nobody knows more.
            self.last_payment = OwnPayment(nonce=1, amount=amount, task_id=task_id, memo=None, is_paid=None)
        if outcome is not None:
            raise outcome
        self.paid.append(amount)
        return len(self.paid)


def output_of(
    script: Script,
    purse: Purse | None = None,
    *,
    paid: Callable[[], int] = int,
    under_way: dict[str, Payment] | None = None,
) -> HiredOutput:
    kept: Any = script
    background: Any = Background(paid)
    return HiredOutput(kept, UnitPayer(background, kept, purse, under_way))


def made(nonce: int, *, is_paid: bool | None, task_id: str = Script.id) -> OwnPayment:
    """The last payment that was signed in a channel."""
    return OwnPayment(nonce=nonce, amount=7, task_id=task_id, memo=None, is_paid=is_paid)


async def take_all(output: HiredOutput) -> list[bytes]:
    heard = []
    while True:
        chunk = output.pop()
        if chunk is not None:
            heard.append(chunk)
        elif output.is_whole:
            return heard
        else:
            await output.fetch()


class TestInput:
    @pytest.mark.parametrize(
        ("data", "pieces"),
        [
            (b"abcdefg", [b"abc", b"def", b"g"]),
            ("grün", ["grü".encode()[:3], b"\xbcn"]),
            ([b"ab", "cd", b"", b"efgh"], [b"ab", b"cd", b"efg", b"h"]),
            (io.BytesIO(b"a\nb\n"), [b"a\n", b"b\n"]),
            (b"", []),
        ],
    )
    async def test_is_sent_as_it_is_yielded_and_what_is_too_large_in_pieces(
        self, data: Data, pieces: list[bytes]
    ) -> None:
        assert [piece async for piece in pieces_of(data, 3)] == pieces

    async def test_may_come_over_time(self) -> None:
        async def lines() -> AsyncIterator[str]:
            yield "one"
            await asyncio.sleep(0)
            yield "two"

        assert [piece async for piece in pieces_of(lines(), 100)] == [b"one", b"two"]

    async def test_that_is_waited_for_without_async_stops_nobody_else(self) -> None:
        reading, writing = os.pipe()
        with os.fdopen(reading, "rb") as pipe:
            pieces = pieces_of(pipe, 100)
            first = asyncio.ensure_future(anext(pieces))
            await asyncio.sleep(0)
            os.write(writing, b"one\n")  # The loop goes on, or else nobody would ever write.
            assert await first == b"one\n"

            second = asyncio.ensure_future(anext(pieces, None))
            await asyncio.sleep(0)
            os.close(writing)
            assert await second is None

    async def test_of_a_generator_ends_with_it_or_with_what_it_raises(self) -> None:
        def steps(*, fails: bool) -> Iterator[str]:
            yield "one"
            if fails:
                raise LookupError("two is gone")

        assert [piece async for piece in pieces_of(steps(fails=False), 100)] == [b"one"]
        with pytest.raises(LookupError, match="two is gone"):
            [piece async for piece in pieces_of(steps(fails=True), 100)]

    async def test_that_is_neither_bytes_nor_text_is_refused(self) -> None:
        with pytest.raises(TypeError, match="input is bytes or text, not int"):
            [piece async for piece in pieces_of([1], 3)]  # type: ignore[list-item] # On purpose.


class TestOutput:
    async def test_comes_once_and_in_order_and_is_kept_as_a_whole(self) -> None:
        output = output_of(Script(b"a", b"b", None))

        assert await take_all(output) == [b"a", b"b"]
        assert await take_all(output) == []
        assert output.content == b"ab"

    async def test_that_was_rewritten_before_it_was_handed_on_is_told_to_nobody(self) -> None:
        output = output_of(Script(b"a", b"b", b"c", StreamRewritten(seq=1, size=1), b"x", None))
        for _ in range(4):
            await output.fetch()
        heard = [output.pop()]
        await output.fetch()
        heard += await take_all(output)

        assert heard == [b"a", b"x"]

    async def test_that_was_rewritten_behind_a_reader_is_told_to_the_reader_alone(self) -> None:
        output = output_of(Script(b"a", b"b", StreamRewritten(seq=1, size=1), b"x", None))
        await output.fetch()
        await output.fetch()
        assert (output.pop(), output.pop()) == (b"a", b"b")
        while not output.is_whole:
            await output.fetch()

        with pytest.raises(StreamRewritten) as rewritten:
            output.pop()

        assert (rewritten.value.seq, rewritten.value.size) == (1, 1)
        assert await take_all(output) == [b"x"]
        assert output.content == b"ax"

    async def test_that_a_completed_task_never_had_is_empty_and_that_of_a_failed_one_broken(self) -> None:
        empty = output_of(Script(StreamBroken("completed")))
        failed = output_of(Script(StreamBroken("failed")))
        begun = output_of(Script(b"a", StreamBroken("completed")))
        await begun.fetch()

        assert await take_all(empty) == []
        for broken in (failed, begun):
            with pytest.raises(StreamBroken):
                await broken.fetch()

    async def test_a_chunk_that_one_has_fetched_is_handed_at_once_to_another_who_waits(self) -> None:
        chunks: asyncio.Queue[bytes] = asyncio.Queue()
        script = Script()
        script.next_chunk = chunks.get  # type: ignore[method-assign] # what comes is put by the test
        output = output_of(script)

        async def finish() -> None:
            while not output.is_whole:
                await output.fetch()

        async def next_chunk() -> bytes | None:
            while (chunk := output.pop()) is None:
                await output.fetch()
            return chunk

        finishing = asyncio.create_task(finish())  # As `result` does; the other one waits behind it.
        await asyncio.sleep(0)
        reading = asyncio.create_task(next_chunk())
        await asyncio.sleep(0)
        chunks.put_nowait(b"an answer before more is asked for")

        assert await asyncio.wait_for(reading, 30) == b"an answer before more is asked for"

        finishing.cancel()
        await asyncio.wait([finishing])

    async def test_two_readers_share_it_without_a_loss(self) -> None:
        output = output_of(Script(*[bytes([number]) for number in range(20)], None))

        heard = await asyncio.gather(take_all(output), take_all(output))

        assert sorted(heard[0] + heard[1]) == [bytes([number]) for number in range(20)]


class TestPayments:
    async def test_one_that_failed_and_was_made_after_all_is_not_made_again(self) -> None:
        script = Script(b"one", b"two", None, price=StreamPrice(amount=5, per="chunk"))
        purse = Purse(NoAnswer("the market is gone"))
        output = output_of(script, purse)

        with pytest.raises(NoAnswer):
            await output.fetch()
        with pytest.raises(UnfinishedPayment):
            await output.fetch()

        purse.last_payment = OwnPayment(nonce=1, amount=5, task_id=Script.id, memo=None, is_paid=True)
        assert await take_all(output) == [b"one", b"two"]
        assert purse.paid == [5]  # For the second one.

    async def test_follow_each_unit_and_none_is_ahead(self) -> None:
        purse = Purse()
        output = output_of(Script(b"a", b"b", None, price=StreamPrice(amount=7, per="chunk")), purse)
        await output.fetch()

        assert purse.paid == [7]
        await take_all(output)
        assert purse.paid == [7, 7]

    async def test_by_bytes_count_units_that_have_begun(self) -> None:
        purse = Purse()
        price = StreamPrice(amount=5, per="bytes", unit_bytes=4)
        await take_all(output_of(Script(b"abc", b"d", b"efg", b"hijk", None, price=price), purse))

        assert purse.paid == [5, 5, 5]

    async def test_of_a_reader_who_is_cancelled_are_made_once(self) -> None:
        purse = Purse()
        purse.is_open.clear()
        output = output_of(Script(b"a", None, price=StreamPrice(amount=7, per="chunk")), purse)
        reading = asyncio.create_task(output.fetch())
        await asyncio.sleep(0.01)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        purse.is_open.set()

        assert await take_all(output) == [b"a"]
        assert purse.paid == [7]

    async def test_that_fail_are_told_and_made_again_and_the_chunk_is_not_lost(self) -> None:
        purse = Purse(NotPaid(1), NotPaid(2))
        output = output_of(Script(b"a", None, price=StreamPrice(amount=7, per="chunk")), purse)

        for _ in range(2):
            with pytest.raises(NotPaid):
                await output.fetch()

        assert await take_all(output) == [b"a"]
        assert purse.paid == [7]

    async def test_that_cannot_be_written_down_are_told_to_the_reader_and_end_nothing_else(self) -> None:
        purse = Purse(OSError(28, "No space left on device"))
        script: Any = Script(b"a", None, price=StreamPrice(amount=7, per="chunk"))
        async with asyncio.TaskGroup() as group:
            background: Any = Background()
            background.spawn = lambda work, name: group.create_task(work, name=name)
            output = HiredOutput(script, UnitPayer(background, script, purse))

            with pytest.raises(OSError, match="No space left"):
                await output.fetch()

            assert await take_all(output) == [b"a"]
        assert purse.paid == [7]

    async def test_that_another_program_has_made_are_not_made_again(self) -> None:
        purse = Purse()
        script = Script(b"a", b"b", b"c", None, price=StreamPrice(amount=7, per="chunk"))
        script.streamed.paid = 14

        await take_all(output_of(script, purse))

        assert purse.paid == [7]

    @pytest.mark.parametrize(
        ("last", "paid"),
        [
            (None, 0),  # It died before anything was signed,
            (made(3, is_paid=False), 0),  # or the payment was taken back;
            (made(3, is_paid=True), 7),  # or both had signed it, and the join did not know yet:
            (made(4, is_paid=True, task_id="task-2"), 7),  # also where another task's came behind it.
        ],
    )
    async def test_of_a_program_that_died_are_made_once(self, last: OwnPayment | None, paid: int) -> None:
        purse = Purse()
        purse.last_payment = last
        script = Script(b"a", b"b", None, price=StreamPrice(amount=7, per="chunk"))

        assert await take_all(output_of(script, purse, paid=lambda: paid)) == [b"a", b"b"]

        assert paid + sum(purse.paid) == 14

    async def test_of_a_program_that_died_with_one_that_hangs_wait_for_that(self) -> None:
        purse = Purse()
        purse.last_payment = made(3, is_paid=None)
        output = output_of(Script(b"a", b"b", None, price=StreamPrice(amount=7, per="chunk")), purse, paid=lambda: 7)
        with pytest.raises(UnfinishedPayment):
            await take_all(output)
        assert purse.paid == []

        purse.last_payment = made(3, is_paid=True)  # It was resumed.

        assert await take_all(output) == [b"a", b"b"]
        assert purse.paid == [7]

    async def test_that_are_under_way_when_a_task_is_taken_up_again_are_not_made_again(self) -> None:
        purse, under_way = Purse(), dict[str, Payment]()
        purse.is_open.clear()
        price = StreamPrice(amount=7, per="chunk")
        reading = asyncio.create_task(output_of(Script(b"a", price=price), purse, under_way=under_way).fetch())
        await settle()
        reading.cancel()
        await asyncio.wait((reading,))

        output = output_of(
            Script(b"a", b"b", None, price=price), purse, paid=lambda: sum(purse.paid), under_way=under_way
        )
        again = asyncio.create_task(take_all(output))
        await settle()
        purse.is_open.set()

        assert await again == [b"a", b"b"]
        assert purse.paid == [7, 7]
        assert not under_way

    async def test_of_two_who_read_a_task_are_made_once_also_behind_one_that_failed(self) -> None:
        purse, under_way = Purse(NotPaid(1)), dict[str, Payment]()
        price = StreamPrice(amount=7, per="chunk")
        first, second = (
            output_of(Script(b"a", None, price=price), purse, paid=lambda: sum(purse.paid), under_way=under_way)
            for _ in range(2)
        )
        outcomes = await asyncio.gather(first.fetch(), second.fetch(), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [NotPaid, NotPaid]

        await asyncio.gather(first.fetch(), second.fetch())

        assert purse.paid == [7]
        assert not under_way

    async def test_that_failed_while_nobody_waited_are_told_before_anything_is_paid_anew(self) -> None:
        purse = Purse(NotPaid(1))
        purse.is_open.clear()
        output = output_of(Script(b"a", None, price=StreamPrice(amount=7, per="chunk")), purse)
        reading = asyncio.create_task(output.fetch())
        await settle()
        reading.cancel()
        await asyncio.wait((reading,))
        purse.is_open.set()
        await settle()

        with pytest.raises(NotPaid):
            await output.fetch()

        assert purse.paid == []
        assert await take_all(output) == [b"a"]
        assert purse.paid == [7]

    async def test_are_none_where_the_price_is_held(self) -> None:
        purse = Purse()

        await take_all(output_of(Script(b"a", None), purse))

        assert purse.paid == []


class TestProofs:
    SENT = Position(2, 10, "a" * 64)
    RECEIVED = Position(3, 30, "b" * 64)

    def streams(self, **changed: dict[str, Any]) -> dict[str, Any]:
        told = {
            "input": {"next_seq": 2, "total_size": 10, "digest": "a" * 64, "complete": True},
            "output": {"next_seq": 3, "total_size": 30, "digest": "b" * 64, "complete": True},
        }
        return {name: stream | changed.get(name, {}) for name, stream in told.items()}

    def test_hold_where_both_streams_are_what_was_sent_and_received(self) -> None:
        require_streams(self.streams(), sent=self.SENT, received=self.RECEIVED)

    @pytest.mark.parametrize("direction", ["input", "output"])
    def test_fail_where_a_stream_is_another(self, direction: str) -> None:
        for changed, error in (
            ({"digest": "c" * 64}, AlteredChunk),
            ({"total_size": 9}, AlteredChunk),
            ({"next_seq": 1}, LostChunks),
            ({"next_seq": 4}, LostChunks),
        ):
            with pytest.raises(error):
                require_streams(self.streams(**{direction: changed}), sent=self.SENT, received=self.RECEIVED)

    def test_do_not_need_input_that_came_too_late(self) -> None:
        late = self.streams(input={"next_seq": 1, "total_size": 5, "digest": "d" * 64, "complete": False})

        require_streams(late, sent=self.SENT, received=self.RECEIVED)


class TestOrders:
    def test_say_what_was_given_and_nothing_else(self) -> None:
        wanted = Wanted(capability="translate", input={"a": [1]}, hold_s=0)

        assert wanted.body("bob", Price(max_price=5)) == {
            "provider_agent_id": "bob",
            "capability": "translate",
            "input": {"a": [1]},
            "hold_seconds": 0,
            "max_price": 5,
        }

    def test_are_held_against_price_and_parties(self) -> None:
        streamed = Price(stream_price={"amount": 1, "per": "chunk"}, channel_id="channel-1")

        order = Wanted(capability="translate").order("alice", "bob", streamed)

        assert (order.price, order.price_max, order.channel_id) == (None, 0, "channel-1")

    def test_take_times_with_a_zone(self) -> None:
        tomorrow = datetime.now(UTC) + timedelta(days=1)

        assert as_time(tomorrow) == tomorrow
        assert as_time(None) is None
        in_an_hour = as_time(timedelta(hours=1))
        assert in_an_hour is not None
        assert timedelta(minutes=59) < in_an_hour - datetime.now(UTC) <= timedelta(hours=1)
        with pytest.raises(ValueError, match="needs a time zone"):
            as_time(datetime(2030, 1, 1))  # noqa: DTZ001 - On purpose.

    def test_take_prices_of_units_in_either_form(self) -> None:
        context: Any = Background()

        assert as_stream_price(context, {"amount": "3", "per": "chunk"}) == {"amount": 3, "per": "chunk"}
        assert as_stream_price(context, StreamPrice(amount=3, per="bytes", unit_bytes=9)) == {
            "amount": 3,
            "per": "bytes",
            "unit_bytes": 9,
            "credit": 1,
        }
        with pytest.raises(ValueError, match="has an amount"):
            as_stream_price(context, {"per": "chunk"})

    def test_compare_input_as_it_comes_back(self) -> None:
        assert as_json({"pair": (1, 2)}) == {"pair": [1, 2]}


class TestPrices:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"provider": "bob"},
            {"provider": FoundAgent(id="bob", handle="bob/agent")},
            {"max_price": 1, "stream_price": {"amount": 1}, "channel": Purse()},
        ],
    )
    async def test_not_just_one_is_refused_before_anything_is_asked(self, options: dict[str, Any]) -> None:
        context: Any = None

        with pytest.raises(ValueError, match="just one of max_price"):
            await Hiring(context).hire("translate", **options)

    async def test_a_channel_and_what_it_pays_belong_together(self) -> None:
        context: Any = None

        with pytest.raises(ValueError, match="belong together"):
            await Hiring(context).hire("translate", stream_price={"amount": 1, "per": "chunk"})
        with pytest.raises(ValueError, match="belong together"):
            await Hiring(context).hire("translate", max_price=1, channel=Purse())
