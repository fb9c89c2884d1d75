"""One task with its handler: how it ends, whatever the handler does, and whatever becomes of the task meanwhile."""

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Self, cast

import pytest

from agrenting.client import Disconnected, LyingServer, NoAnswer, RefusedByServer, Signer
from agrenting.client.errors import TopicEnded, WrongAnswer, WrongPrice
from agrenting.client.job import Job, TaskFailed
from agrenting.client.serving import cancelled, leave
from tests.agrenting.client_task_server import TASK_ID
from tests.agrenting.provider_ground import ALICE_ID, BOB_ID, Ground, ProvidedTask

FOREVER_S = 60.0
WINDOW = 32
"""Chunks in flight: with one more, a handler hangs at its yield."""


@pytest.fixture
def server() -> ProvidedTask:
    return ProvidedTask()


@pytest.fixture
def ground(server: ProvidedTask) -> Ground:
    return Ground(server)


async def shout(job: Job) -> AsyncIterator[str]:
    async for line in job.lines():
        yield line.upper()


async def count(_job: Job) -> int:
    return 0


class TestWhatIsDelivered:
    async def test_yields_are_chunks_and_nothing_is_sent_for_nothing(self, ground: Ground) -> None:
        async def some(_job: Job) -> AsyncIterator[str | bytes]:
            for piece in ("one", b"", "", b"\xff\x00", "ü"):
                yield piece

        await ground.serve(some)

        assert ground.server.streams["output"].stored == {0: b"one", 1: b"\xff\x00", 2: "ü".encode()}
        assert ground.server.task["status"] == "completed"
        assert ground.server.streams["output"].checksum is not None

    async def test_what_is_too_large_for_a_chunk_is_several(self, server: ProvidedTask) -> None:
        ground = Ground(server, chunk_bytes_max=4)

        async def much(_job: Job) -> AsyncIterator[str]:
            yield "abcdefghij"

        await ground.serve(much)

        assert list(server.streams["output"].stored.values()) == [b"abcd", b"efgh", b"ij"]

    async def test_a_coroutine_returns_the_result_and_opens_no_stream(self, ground: Ground) -> None:
        async def count(job: Job) -> dict[str, int]:
            return {"bytes": len(await job.read())}

        await ground.give(b"four", b"more")
        await ground.serve(count)

        assert (ground.server.task["status"], ground.server.task["result"]) == ("completed", {"bytes": 8})
        assert ground.server.streams["output"].checksum is None

    async def test_a_generator_may_set_a_result_beside_its_output(self, ground: Ground) -> None:
        async def both(job: Job) -> AsyncIterator[str]:
            yield "words"
            job.result = {"count": 1}

        await ground.serve(both)

        assert (ground.output, ground.server.task["result"]) == (b"words", {"count": 1})

    async def test_a_generator_that_yields_nothing_may_set_a_result_and_its_output_is_empty(
        self, ground: Ground
    ) -> None:
        async def none(job: Job) -> AsyncIterator[str]:
            job.result = 0
            for piece in list[str]():
                yield piece

        await ground.serve(none)

        assert (ground.server.task["status"], ground.server.task["result"]) == ("completed", 0)
        assert ground.server.streams["output"].checksum is not None

    async def test_input_that_nobody_reads_does_no_harm(self, ground: Ground) -> None:
        async def deaf(_job: Job) -> str:
            return "done"

        await ground.give(b"unheard")
        await ground.serve(deaf)

        assert ground.server.task["status"] == "completed"

    async def test_neither_output_nor_result_is_told_as_what_it_is(self, ground: Ground) -> None:
        ground.server.refuses["complete"] = "nothing_delivered"

        async def idle(_job: Job) -> None:
            return None

        await ground.serve(idle)

        assert ground.server.task["error"] == {"type": "nothing_delivered", "details": None}

    async def test_a_result_that_is_too_large_is_told_so(self, ground: Ground) -> None:
        ground.server.refuses["complete"] = "invalid_payload"

        async def much(_job: Job) -> str:
            return "x"

        await ground.serve(much)

        assert ground.server.task["error"] == {"type": "result_too_large", "details": None}


class TestFailing:
    async def test_a_failure_is_told_with_its_type_and_details(self, ground: Ground) -> None:
        async def fail(_job: Job) -> str:
            raise TaskFailed("unreadable_line", {"line": 3})

        await ground.serve(fail)

        assert ground.server.task["error"] == {"type": "unreadable_line", "details": {"line": 3}}

    async def test_of_anything_else_the_client_is_told_the_class_alone_and_the_log_the_rest(
        self, ground: Ground, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def fail(_job: Job) -> AsyncIterator[str]:
            yield "some"
            raise ValueError("the password is secret")

        with caplog.at_level(logging.ERROR):
            await ground.serve(fail)

        assert ground.server.task["error"] == {"type": "provider_error", "details": {"exception": "ValueError"}}
        assert "the password is secret" in caplog.text

    async def test_a_failure_in_a_task_group_is_the_one_that_it_holds(self, ground: Ground) -> None:
        async def fail(_job: Job) -> str:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._fails())
            return "not so"

        await ground.serve(fail)

        assert ground.server.task["error"]["type"] == "no_such_language"

    async def _fails(self) -> None:
        raise TaskFailed("no_such_language")

    async def test_several_failures_at_once_are_a_group(self, ground: Ground) -> None:
        async def fail(_job: Job) -> str:
            raise ExceptionGroup("both", [TaskFailed("one"), TaskFailed("other")])

        await ground.serve(fail)

        assert ground.server.task["error"]["details"] == {"exception": "ExceptionGroup"}

    async def test_a_handler_that_cancels_itself_has_failed(self, ground: Ground) -> None:
        async def give_up(_job: Job) -> str:
            raise asyncio.CancelledError

        await ground.serve(give_up)

        assert ground.server.task["error"]["details"] == {"exception": "CancelledError"}

    @pytest.mark.parametrize("handler", [lambda _job: "done", lambda _job: None, lambda _job: ["a"]])
    async def test_what_is_no_handler_fails_each_task(self, ground: Ground, handler: Callable[[Job], Any]) -> None:
        await ground.serve(handler)

        assert ground.server.task["error"]["details"] == {"exception": "TypeError"}

    async def test_what_is_neither_text_nor_bytes_is_not_sent(self, ground: Ground) -> None:
        async def numbers(_job: Job) -> AsyncIterator[Any]:
            yield 1

        await ground.serve(numbers)

        assert (ground.server.task["error"]["details"], ground.output) == ({"exception": "TypeError"}, b"")

    async def test_details_that_are_too_large_are_left_out(self, ground: Ground) -> None:
        tried: list[Any] = []

        def once() -> None:
            tried.append(None)
            if len(tried) > 1:
                ground.server.refuses.clear()

        ground.server.refuses["error"] = "invalid_payload"
        ground.server.on_event["error"] = once

        async def fail(_job: Job) -> str:
            raise TaskFailed("too_much", "x")

        await ground.serve(fail)

        assert ground.server.told("error") == [
            {"type": "too_much", "details": "x"},
            {"type": "too_much", "details": None},
        ]
        assert ground.server.task["status"] == "failed"

    @pytest.mark.parametrize("reason", ["stream_too_large", "chunk_too_large"])
    async def test_what_the_market_does_not_take_of_the_output_is_told_by_its_reason(
        self, ground: Ground, reason: str
    ) -> None:
        ground.server.refuses["output_stream"] = reason

        async def much(_job: Job) -> AsyncIterator[str]:
            yield "more than it takes"
            yield "and more"

        await ground.serve(much)

        assert ground.server.task["error"]["type"] == reason

    async def test_a_refusal_that_nobody_knows_leaves_the_task_as_it_is(
        self, ground: Ground, caplog: pytest.LogCaptureFixture
    ) -> None:
        ground.server.refuses["error"] = "brand_new"

        async def fail(_job: Job) -> str:
            raise TaskFailed("no_text")

        with caplog.at_level(logging.ERROR):
            await ground.serve(fail)

        assert ground.server.task["status"] == "pending"
        assert "brand_new" in caplog.text

    async def test_what_is_said_too_late_is_no_error(self, ground: Ground) -> None:
        ground.server.refuses["error"] = "terminal_state"

        async def fail(_job: Job) -> str:
            raise TaskFailed("no_text")

        await ground.serve(fail)

        assert ground.server.told("error") == [{"type": "no_text", "details": None}]


class Stopped:
    """A handler's account of how it was stopped."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.is_waiting = asyncio.Event()

    async def wait(self, _job: Job) -> str:
        try:
            self.is_waiting.set()
            await asyncio.sleep(FOREVER_S)
        except asyncio.CancelledError:
            self.steps.append("cancelled")
            raise
        finally:
            self.steps.append("cleaned up")
        return "not so"

    async def wait_between(self, _job: Job) -> AsyncIterator[str]:
        try:
            yield "first"
            self.is_waiting.set()
            await asyncio.sleep(FOREVER_S)
            yield "not so"
        except asyncio.CancelledError:
            self.steps.append("cancelled")
            raise
        finally:
            self.steps.append("cleaned up")

    async def hang_at_yield(self, _job: Job) -> AsyncIterator[str]:
        """The market does not acknowledge, so the second yield hangs once the window is full."""
        try:
            for number in range(10_000):
                if number == WINDOW:
                    self.is_waiting.set()
                yield f"{number}"
        except asyncio.CancelledError:
            self.steps.append("cancelled")
            raise
        finally:
            self.steps.append("cleaned up")

    async def wait_for_input(self, job: Job) -> str:
        try:
            self.is_waiting.set()
            return await job.text()
        finally:
            self.steps += ["cancelled", "cleaned up"]


STOPPING = ["wait", "wait_between", "hang_at_yield", "wait_for_input"]
ENDS = {
    "cancelled": lambda server: server.end("cancelled", reason="not needed"),
    "failed": lambda server: server.end("failed", error={"type": "deadline", "details": None}),
    "disputed": lambda server: server.end("disputed"),
}


class TestTheTasksEnd:
    @pytest.mark.parametrize("how", STOPPING)
    @pytest.mark.parametrize("end", ENDS)
    async def test_it_cancels_the_handler_wherever_it_waits(self, ground: Ground, how: str, end: str) -> None:
        stopped = Stopped()
        if how == "hang_at_yield":
            ground.server.is_slow = True
        serving = ground.begin(getattr(stopped, how))
        await stopped.is_waiting.wait()

        ENDS[end](ground.server)
        await serving

        assert stopped.steps == ["cancelled", "cleaned up"]
        assert not {"error", "complete"} & {event for event, _ in ground.server.pushed}

    @pytest.mark.parametrize("end", ENDS)
    async def test_it_is_heard_of_after_a_loss_too(self, ground: Ground, end: str) -> None:
        stopped = Stopped()
        serving = ground.begin(stopped.wait)
        await stopped.is_waiting.wait()

        topics, ground.server.topics = ground.server.topics, {}
        ENDS[end](ground.server)
        ground.server.topics = topics
        ground.server.cut("provider")
        await serving

        assert stopped.steps == ["cancelled", "cleaned up"]

    @pytest.mark.parametrize("status", ["completed", "failed", "cancelled", "disputed"])
    async def test_a_task_that_has_ended_is_not_begun(self, ground: Ground, status: str) -> None:
        ground.server.end(status)
        begun: list[Job] = []

        async def begin(job: Job) -> None:
            begun.append(job)

        await ground.serve(begin)

        assert (begun, ground.server.pushed, ground.server.topics) == ([], [], {})

    @pytest.mark.parametrize("event", ["progress", "checkpoint", "output_stream"])
    async def test_a_refusal_that_says_so_cancels_the_handler(self, ground: Ground, event: str) -> None:
        ground.server.refuses[event] = "expired"
        stopped: list[str] = []

        async def work(job: Job) -> AsyncIterator[str]:
            try:
                if event == "progress":
                    await job.progress(1)
                if event == "checkpoint":
                    await job.checkpoint(1)
                yield "one"
                await job.checkpoint(2)
                yield "two"
            except asyncio.CancelledError:
                stopped.append("cancelled")
                raise

        await ground.serve(work)

        assert stopped == ["cancelled"]
        assert ground.server.told("error") == []

    async def test_a_handler_that_asks_for_more_on_its_way_out_is_not_left_hanging(self, ground: Ground) -> None:
        is_waiting = asyncio.Event()
        said: list[str] = []

        async def work(job: Job) -> str:
            is_waiting.set()
            try:
                return await job.text()
            finally:
                try:
                    await job.checkpoint("late")
                finally:
                    said.append("late")

        serving = ground.begin(work)
        await is_waiting.wait()
        ground.server.end("cancelled")
        await serving

        assert said == ["late"]

    async def test_a_handler_that_goes_on_yielding_is_closed(self, ground: Ground) -> None:
        is_waiting = asyncio.Event()
        closed: list[str] = []

        async def stubborn(_job: Job) -> AsyncIterator[str]:
            try:
                for number in itertools.count():
                    if number == WINDOW:
                        is_waiting.set()
                    try:
                        yield "more"
                    except asyncio.CancelledError:
                        closed.append("cancelled")
            finally:
                closed.append("closed")

        ground.server.is_slow = True
        serving = ground.begin(stubborn)
        await is_waiting.wait()
        ground.server.end("cancelled")
        await serving

        assert closed == ["cancelled", "closed"]

    async def test_a_failure_on_the_way_out_is_logged_and_not_told(
        self, ground: Ground, caplog: pytest.LogCaptureFixture
    ) -> None:
        is_waiting = asyncio.Event()

        async def break_down(_job: Job) -> str:
            is_waiting.set()
            try:
                await asyncio.sleep(FOREVER_S)
            finally:
                raise ValueError("while cleaning up")

        serving = ground.begin(break_down)
        await is_waiting.wait()
        ground.server.end("cancelled")
        with caplog.at_level(logging.WARNING):
            await serving

        assert "while cleaning up" in caplog.text
        assert ground.server.told("error") == []

    async def test_cancelled_from_outside_the_task_is_left_as_it_is(self, ground: Ground) -> None:
        stopped = Stopped()
        serving = ground.begin(stopped.wait_between)
        await stopped.is_waiting.wait()

        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving

        assert stopped.steps == ["cancelled", "cleaned up"]
        assert (ground.server.task["status"], ground.server.topics) == ("pending", {})

    async def test_on_its_way_out_then_it_may_note_a_checkpoint(self, ground: Ground) -> None:
        is_waiting = asyncio.Event()

        async def note(job: Job) -> str:
            is_waiting.set()
            try:
                await asyncio.sleep(FOREVER_S)
            except asyncio.CancelledError:
                await job.checkpoint({"so": "far"})
                raise
            return "not so"

        serving = ground.begin(note)
        await is_waiting.wait()
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving

        assert ground.server.task["checkpoint"]["state"]["state"] == {"so": "far"}


class TestWhatTheMarketTells:
    @pytest.mark.parametrize(
        ("field", "value"),
        [("id", "another"), ("provider_agent_id", "another"), ("capability", "another")],
    )
    async def test_another_task_than_the_one_to_be_done_is_a_lie(self, ground: Ground, field: str, value: str) -> None:
        ground.server.task[field] = value

        with pytest.raises(WrongAnswer):
            await ground.serve(shout)

    async def test_a_fee_that_does_not_follow_from_the_price_is_a_lie(self, ground: Ground) -> None:
        ground.server.task["fee"] = 51

        with pytest.raises(WrongPrice):
            await ground.serve(shout)

    @pytest.mark.parametrize(("field", "value"), [("input", "another"), ("capability", "sum"), ("paid", -1)])
    async def test_a_task_that_is_another_one_after_a_loss_is_a_lie(
        self, ground: Ground, field: str, value: object
    ) -> None:
        stopped = Stopped()
        serving = ground.begin(stopped.wait)
        await stopped.is_waiting.wait()

        ground.server.task[field] = value
        if field == "paid":
            ground.server.paid = -1
        ground.server.cut("provider")
        with pytest.raises(LyingServer):
            await serving

        assert stopped.steps == ["cancelled", "cleaned up"]

    async def test_a_lie_ends_more_than_the_task_whatever_the_handler_makes_of_it(self, ground: Ground) -> None:
        async def swallow(job: Job) -> str:
            try:
                return await job.text()
            except Exception:  # noqa: BLE001 - It is what careless handlers do.
                return "never mind"

        serving = ground.begin(swallow)
        while "provider" not in ground.server.topics:  # noqa: ASYNC110 - a fake server has no events
            await asyncio.sleep(0)
        ground.server.tell("input_stream", {"seq": 0, "chunk": "?", "encoding": "base64"}, "provider")

        with pytest.raises(LyingServer):
            await serving
        assert not {"complete", "error"} & {event for event, _ in ground.server.pushed}

    async def test_the_terms_of_an_agreement_are_read_where_there_is_one(self, ground: Ground) -> None:
        ground.server.task["negotiation_session_id"] = "5e55"
        ground.rest.shows["/negotiations/5e55"] = {"terms": {"style": "formal"}, "id": "5e55"}

        async def told(job: Job) -> Any:
            return job.terms

        await ground.serve(told)

        assert ground.server.task["result"] == {"style": "formal"}

    @pytest.mark.parametrize("agreed", [1_000, 999])
    async def test_a_task_costs_what_both_have_signed(self, ground: Ground, agreed: int) -> None:
        class Verifying:
            def agreed(self, session: dict[str, Any], *, agent_id: str) -> int:
                assert (session["id"], agent_id) == ("5e55", BOB_ID)
                return agreed

        ground.server.task["negotiation_session_id"] = "5e55"
        ground.rest.shows["/negotiations/5e55"] = {"terms": None, "id": "5e55"}
        ground.open(signer=cast("Signer", Verifying()))
        serving = ground.begin(count)

        if agreed == 1_000:
            await serving
            assert ground.server.task["result"] == 0
        else:
            with pytest.raises(WrongPrice):
                await serving
            assert ground.server.pushed == []

    async def test_a_client_that_was_not_announced_is_looked_up(self, ground: Ground) -> None:
        async def told(job: Job) -> Any:
            return job.client_handle

        ground.rest.shows[f"/agents/{ALICE_ID}"] = {"handle": "alice/looked-up"}
        await ground.serve(told, client_handle=None)

        assert ground.server.task["result"] == "alice/looked-up"

    async def test_what_the_market_does_not_show_is_not_known(self, ground: Ground) -> None:
        ground.rest.shows.clear()
        ground.server.task["negotiation_session_id"] = "5e55"
        known: list[Any] = []

        async def told(job: Job) -> str:
            known.extend((job.terms, job.client_handle))
            return "done"

        await ground.serve(told, client_handle=None)

        assert known == [None, None]


class TestTheConnection:
    async def test_once_it_is_closed_a_task_is_not_begun(self, ground: Ground) -> None:
        ground.close(RefusedByServer("invalid_credential", "", {}))

        with pytest.raises(RefusedByServer, match="invalid_credential"):
            await ground.serve(shout)

    async def test_a_refusal_of_the_task_alone_leaves_it_to_others(
        self, ground: Ground, caplog: pytest.LogCaptureFixture
    ) -> None:
        ground.connection.failure = RefusedByServer("not_found", "", {})

        with caplog.at_level(logging.ERROR):
            is_over = await ground.serve(shout)

        assert is_over
        assert "not_found" in caplog.text

    @pytest.mark.parametrize(
        "failure",
        [NoAnswer("nothing came"), Disconnected("cut"), TopicEnded("over"), RefusedByServer("unavailable", "", {})],
    )
    async def test_what_comes_between_is_no_end_and_the_task_can_be_done_later(
        self, ground: Ground, caplog: pytest.LogCaptureFixture, failure: Exception
    ) -> None:
        ground.connection.failure = failure
        with caplog.at_level(logging.ERROR):
            first = await ground.serve(count)
        ground.connection.failure = None
        second = await ground.serve(count)

        assert (first, second) == (False, True)
        assert "seen to again later" in caplog.text
        assert ground.server.task["status"] == "completed"

    @pytest.mark.parametrize("how", STOPPING)
    @pytest.mark.parametrize(
        "failure", [Disconnected("it is closed"), RefusedByServer("invalid_credential", "", {})], ids=["here", "there"]
    )
    async def test_its_end_cancels_the_handler_and_is_raised(
        self, ground: Ground, how: str, failure: Exception
    ) -> None:
        stopped = Stopped()
        if how == "hang_at_yield":
            ground.server.is_slow = True
        serving = ground.begin(getattr(stopped, how))
        await stopped.is_waiting.wait()

        ground.close(failure)
        ground.server.cut("provider")
        with pytest.raises(type(failure)):
            await serving

        assert stopped.steps == ["cancelled", "cleaned up"]

    async def test_a_handler_that_fails_while_it_is_stopped_is_logged(
        self, ground: Ground, caplog: pytest.LogCaptureFixture
    ) -> None:
        is_waiting = asyncio.Event()

        async def break_down(_job: Job) -> str:
            is_waiting.set()
            try:
                await asyncio.sleep(FOREVER_S)
            finally:
                raise ValueError("while cleaning up")

        serving = ground.begin(break_down)
        await is_waiting.wait()
        serving.cancel()
        with caplog.at_level(logging.WARNING), pytest.raises(asyncio.CancelledError):
            await serving

        assert "while cleaning up" in caplog.text
        assert ground.server.task["status"] == "pending"

    @pytest.mark.parametrize("error", [NoAnswer("nothing came"), TimeoutError()])
    async def test_a_topic_that_cannot_be_left_is_not_left(self, error: Exception) -> None:
        class Stuck:
            left = 0

            async def leave(self) -> None:
                self.left += 1
                raise error

        stuck = Stuck()
        await leave(stuck)

        assert stuck.left == 1


class TestOtherHandlers:
    async def test_any_asynchronous_iterator_will_do(self, ground: Ground) -> None:
        class Words:
            def __init__(self) -> None:
                self.words = ["one", "two"]

            def __aiter__(self) -> Self:
                return self

            async def __anext__(self) -> str:
                if not self.words:
                    raise StopAsyncIteration
                return self.words.pop(0)

        await ground.serve(lambda _job: Words())

        assert (ground.output, ground.server.task["status"]) == (b"onetwo", "completed")

    async def test_such_a_one_cannot_be_told_and_is_dropped(self, ground: Ground) -> None:
        asked = itertools.count()
        is_waiting = asyncio.Event()

        class Words:
            def __aiter__(self) -> Self:
                return self

            async def __anext__(self) -> str:
                if next(asked) == WINDOW:
                    is_waiting.set()
                return "more"

        ground.server.is_slow = True
        serving = ground.begin(lambda _job: Words())
        await is_waiting.wait()
        ground.server.end("cancelled")
        await serving

        assert next(asked) == WINDOW + 1

    async def test_a_method_and_a_callable_object_will_do(self, ground: Ground) -> None:
        class Shouter:
            async def __call__(self, job: Job) -> AsyncIterator[str]:
                yield (await job.text()).upper()

        await ground.give(b"quiet")
        await ground.serve(Shouter())

        assert ground.output == b"QUIET"


async def test_cancelling_waits_for_the_end_and_goes_on_when_it_is_cancelled_itself() -> None:
    is_stopping, goes_on = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        try:
            await asyncio.sleep(FOREVER_S)
        finally:
            is_stopping.set()
            await goes_on.wait()

    async def stop(waiting: Awaitable[None]) -> None:
        await waiting

    work = asyncio.create_task(slow())
    await asyncio.sleep(0)
    stopping = asyncio.create_task(stop(cancelled((work,))))
    await is_stopping.wait()
    stopping.cancel()
    await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await stopping

    assert work.cancelled()


class Stubborn:
    """A handler that keeps cancellations to itself until it is let go."""

    def __init__(self) -> None:
        self.is_waiting = asyncio.Event()
        self.may_go = asyncio.Event()
        self.cancellations = 0
        self.has_ended = asyncio.Event()

    async def work(self, _job: Job) -> int:
        try:
            while not self.may_go.is_set():
                self.is_waiting.set()
                try:
                    await self.may_go.wait()
                except asyncio.CancelledError:
                    self.cancellations += 1
            return 0
        finally:
            self.has_ended.set()


class TestStubbornHandlers:
    @pytest.fixture(autouse=True)
    def soon(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("agrenting.client.serving.STUBBORN_S", 0.01)

    async def test_at_a_stop_it_is_named_and_left_behind(
        self, ground: Ground, caplog: pytest.LogCaptureFixture
    ) -> None:
        stubborn = Stubborn()
        serving = ground.begin(stubborn.work)
        await stubborn.is_waiting.wait()

        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving

        assert not stubborn.has_ended.is_set()
        assert f"the handler of translate, task {TASK_ID} was cancelled" in caplog.text
        assert "must not keep CancelledError to itself" in caplog.text
        assert "left behind" in caplog.text
        stubborn.may_go.set()
        await stubborn.has_ended.wait()

    async def test_at_the_tasks_end_it_is_named_and_waited_for_because_it_works_still(
        self, ground: Ground, caplog: pytest.LogCaptureFixture
    ) -> None:
        stubborn = Stubborn()
        serving = ground.begin(stubborn.work)
        await stubborn.is_waiting.wait()

        ground.server.end("cancelled")
        async with asyncio.timeout(FOREVER_S):
            while "must not keep" not in caplog.text:  # noqa: ASYNC110 - a log has no events
                await asyncio.sleep(0)
        assert not serving.done()
        stubborn.may_go.set()

        assert await serving
        assert ("left behind" in caplog.text, stubborn.cancellations) == (False, 1)

    async def test_a_stop_meanwhile_does_not_wait_for_it(
        self, ground: Ground, caplog: pytest.LogCaptureFixture
    ) -> None:
        stubborn = Stubborn()
        serving = ground.begin(stubborn.work)
        await stubborn.is_waiting.wait()
        ground.server.end("cancelled")
        async with asyncio.timeout(FOREVER_S):
            while not stubborn.cancellations:  # noqa: ASYNC110 - it has no event for that
                await asyncio.sleep(0)

        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving

        assert (stubborn.cancellations, stubborn.has_ended.is_set()) == (2, False)
        assert "left behind" in caplog.text
        stubborn.may_go.set()
        await stubborn.has_ended.wait()
