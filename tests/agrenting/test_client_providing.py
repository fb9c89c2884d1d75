"""What an agent offers, and how it goes about what comes: slots, what is heard of twice, stopping, signals."""

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agrenting.client import Disconnected, LyingServer, RefusedByServer
from agrenting.client.backoff import Backoff
from agrenting.client.bargaining import Bargaining
from agrenting.client.connection import State
from agrenting.client.context import AgentContext
from agrenting.client.errors import BeyondLimit, NoAnswer, NoSigningKey
from agrenting.client.job import Job
from agrenting.client.providing import Providing
from agrenting.client.service import FOLLOWED_MAX
from agrenting.client.signals import SIGNALS, Signals
from agrenting.client.strategies import Boulware, FixedLimit, Strategy
from agrenting.client.told_messages import Message
from tests.agrenting.client_task_server import Json
from tests.agrenting.provider_ground import BOB, market

PATIENCE_S = 20.0
SOON_S = 0.02


async def until(is_so: Callable[[], bool]) -> None:
    """Let everybody go on until something is so."""
    async with asyncio.timeout(PATIENCE_S):
        while not is_so():  # noqa: ASYNC110 - stand-ins have no events
            await asyncio.sleep(0)


class Hall:
    """All that a provider talks to: what it has said, and what may be told to it."""

    def __init__(self) -> None:
        self.pushed: list[tuple[str, Json]] = []
        self.posted: list[tuple[str, Json]] = []
        self.lists: dict[str, list[Json]] = {}
        self.handlers: dict[str, list[Callable[[Message], Any]]] = {}
        self.refuses: dict[str, Exception] = {}
        self.refuses_at_first: dict[str, list[Exception]] = {}
        """How the first few times of something are answered: `join`, `announce`, `mailbox`, or a path."""
        self.ends: dict[str, list[Json]] = {}
        """What is told of tasks that were done: by the join of their topic, and after it."""
        self.followed: set[str] = set()
        """Tasks whose topics are joined."""
        self.is_joined = False
        self.running: dict[str, asyncio.Event] = {}
        """Tasks that are done at present, and what lets them end."""
        self.done: list[str] = []
        self.stopped: list[str] = []
        self.failure: BaseException | None = None
        self.interruptions: list[str] = []
        """Tasks that something comes between, once each."""
        self.connection = SimpleNamespace(state=State.CONNECTED, backoff=Backoff(first_s=0.0, most_s=0.0))
        self.bargained: list[tuple[Json, Strategy]] = []
        self.terms: list[object] = []
        self.rejected: list[tuple[str, str]] = []
        self.bargaining_error: Exception | None = None
        self.bargaining = asyncio.Event()
        self.bargaining.set()

    def ask(self, what: str) -> None:
        """Something is asked for."""
        answers = self.refuses_at_first.get(what)
        if answers:
            raise answers.pop(0)

    def names(self, event: str) -> list[Any]:
        return [payload.get("capabilities") for name, payload in self.pushed if name == event]

    async def announce(self, type_: str, payload: Json) -> None:
        """The market leaves a message."""
        message = Message(
            id="m", type=type_, payload=payload, from_agent_id=None, from_market=True, inserted_at=cast("Any", None)
        )
        for handler in list(self.handlers.get(type_, [])):
            await handler(message)

    async def hand_off(self, *task_ids: str, capability: str = "translate") -> None:
        for task_id in task_ids:
            await self.announce("task_handoff", {"task_id": task_id, "capability": capability, "client_handle": "a/c"})

    # Mailbox.

    def on(self, type_: str, handler: Callable[[Message], Any]) -> Callable[[], None]:
        self.handlers.setdefault(type_, []).append(handler)
        return lambda: self.handlers[type_].remove(handler)

    async def start(self) -> None:
        self.ask("mailbox")

    # Bargaining.

    async def answer(self, announced: Json, strategy: Strategy, *, terms: object) -> None:
        self.terms.append(terms)
        self.bargained.append((announced, strategy))
        if self.bargaining_error is not None:
            raise self.bargaining_error
        await self.bargaining.wait()

    async def reject(self, session_id: str, reason: str) -> None:
        self.rejected.append((session_id, reason))


class Topic:
    """Discovery, in a hall."""

    def __init__(self, hall: Hall) -> None:
        self._hall = hall

    async def join(self) -> None:
        self._hall.ask("join")
        self._hall.is_joined = True

    async def leave(self) -> None:
        self._hall.is_joined = False

    async def push(self, event: str, payload: Json) -> None:
        self._hall.ask(event)
        self._hall.pushed.append((event, payload))
        if event in self._hall.refuses:
            raise self._hall.refuses[event]

    async def next_event(self) -> tuple[str, Any]:
        await asyncio.get_running_loop().create_future()
        raise AssertionError("nobody comes")


class TaskTopic:
    """The topic of a task that is done, in a hall."""

    def __init__(self, hall: Hall, name: str) -> None:
        self._hall = hall
        self._id = name.removeprefix("task:")

    async def join(self) -> Json:
        self._hall.ask(self._id)
        self._hall.followed.add(self._id)
        return self._hall.ends[self._id].pop(0)

    async def leave(self) -> None:
        self._hall.followed.discard(self._id)

    async def next_event(self) -> tuple[str, Any]:
        while not self._hall.ends[self._id]:  # noqa: ASYNC110 - stand-ins have no events
            await asyncio.sleep(0)
        task = self._hall.ends[self._id].pop(0)
        return ("task_updated", {"task": task}) if "status" in task else ("progress", task)


class Serving:
    """The doing of a task, in a hall: it lasts until the test says so."""

    def __init__(self, hall: Hall, task_id: str) -> None:
        self._hall = hall
        self._id = task_id

    async def run(self) -> bool:
        hall = self._hall
        if hall.failure is not None:
            raise hall.failure
        if self._id in hall.interruptions:
            hall.interruptions.remove(self._id)
            return False
        ends = hall.running[self._id] = asyncio.Event()
        try:
            await ends.wait()
            hall.done.append(self._id)
            return True
        except asyncio.CancelledError:
            hall.stopped.append(self._id)
            raise
        finally:
            del hall.running[self._id]


@pytest.fixture
def hall(monkeypatch: pytest.MonkeyPatch) -> Hall:
    """The hall, with stand-ins for the topic of discovery, REST and the doing of tasks."""
    hall = Hall()

    async def every(_context: object, path: str, kind: Any, **query: Any) -> AsyncIterator[Any]:
        hall.ask(path)
        for row in hall.lists.get(f"{path} {query['status']}", []):
            yield kind(**row)

    async def post(_context: object, path: str, body: Json, _kind: object) -> None:
        hall.posted.append((path, body))
        if path in hall.refuses:
            raise hall.refuses[path]

    stand_ins = {
        "KeptTopic": lambda _connection, _name: Topic(hall),
        "Serving": lambda _context, _handler, *, task_id, **_rest: Serving(hall, task_id),
        "every": every,
        "post": post,
    }
    for name, stand_in in stand_ins.items():
        monkeypatch.setattr(f"agrenting.client.service.{name}", stand_in)
    monkeypatch.setattr("agrenting.client.task_ends.KeptTopic", lambda _connection, name: TaskTopic(hall, name))
    return hall


class Bob:
    """A provider in the hall."""

    def __init__(self, hall: Hall, **options: Any) -> None:
        context = AgentContext(cast("Any", hall.connection), cast("Any", None))
        context.fill(
            me=BOB, market=market(), folder=cast("Any", None), signer=None, group=cast("asyncio.TaskGroup", None)
        )
        context.mailbox = cast("Any", hall)
        self.hall = hall
        self.providing = Providing(context, bargaining=cast("Bargaining", hall), **options)

    def offers(self, name: str = "translate", **options: Any) -> "Bob":
        self.providing.capability(name, **options)(work)
        return self

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["asyncio.Task[None]"]:
        """He is at work in here."""
        heard = self.hall.handlers.setdefault("negotiation", [])
        before = len(heard)
        serving = asyncio.create_task(self.providing.serve())
        await until(lambda: len(heard) > before or serving.done())
        try:
            yield serving
        finally:
            self.providing.stop()
            if self.hall.running:
                self.providing.stop()
            await asyncio.wait((serving,))
            if not serving.cancelled():
                serving.exception()  # A test that expects one has asked for it.


async def work(_job: Job) -> str:
    return "done"


class TestRegistering:
    @pytest.mark.parametrize("name", ["", "x" * 65, "No", "a b", "ü", "a\n"])
    def test_a_name_is_one_that_the_market_takes(self, hall: Hall, name: str) -> None:
        with pytest.raises(ValueError, match="1-64"):
            Bob(hall).offers(name)

    @pytest.mark.parametrize("price", [8.5, True, b"8.50", [8]])
    def test_a_price_is_exact(self, hall: Hall, price: object) -> None:
        with pytest.raises(TypeError, match="minor units"):
            Bob(hall).offers(price=price)

    @pytest.mark.parametrize("concurrency", [0, -1])
    def test_at_least_one_task_is_done_at_once(self, hall: Hall, concurrency: int) -> None:
        with pytest.raises(ValueError, match="at least one"):
            Bob(hall).offers(concurrency=concurrency)
        with pytest.raises(ValueError, match="at least one"):
            Bob(hall, concurrency=concurrency)

    def test_a_capability_is_registered_once(self, hall: Hall) -> None:
        bob = Bob(hall).offers()

        with pytest.raises(ValueError, match="already"):
            bob.offers()
        assert bob.providing.capabilities == ("translate",)

    def test_a_handler_can_be_called_and_is_handed_back(self, hall: Hall) -> None:
        providing = Bob(hall).providing

        assert providing.capability("translate")(work) is work
        with pytest.raises(TypeError):
            providing.capability("sum")(cast("Any", "work"))

    async def test_nobody_serves_twice_at_once_and_again_he_may(self, hall: Hall) -> None:
        bob = Bob(hall).offers()
        async with bob.serving():
            assert bob.providing.is_serving
            with pytest.raises(RuntimeError, match="already"):
                await bob.providing.serve()

        assert not bob.providing.is_serving
        async with bob.serving() as serving:
            assert not serving.done()

    def test_stopping_who_does_not_serve_does_nothing(self, hall: Hall) -> None:
        Bob(hall).providing.stop()


class TestBeingThere:
    async def test_all_is_announced_at_once_with_the_prices_that_are_given(self, hall: Hall) -> None:
        bob = Bob(hall).offers(price="8.50").offers("sum", price=7).offers("sing")
        async with bob.serving():
            assert hall.is_joined
            announced = {"capabilities": ["translate", "sum", "sing"], "prices": {"translate": 8_500_000, "sum": 7}}
            assert hall.pushed == [("announce", announced)]

        assert hall.names("update_metadata") == []
        assert not hall.is_joined

    async def test_without_prices_none_are_announced(self, hall: Hall) -> None:
        async with Bob(hall).offers().serving():
            assert hall.pushed == [("announce", {"capabilities": ["translate"]})]

    async def test_what_is_registered_meanwhile_is_announced_too(self, hall: Hall) -> None:
        bob = Bob(hall).offers()
        async with bob.serving():
            bob.offers("sing")
            await until(lambda: len(hall.pushed) > 1)

            assert hall.names("announce") == [["translate"], ["translate", "sing"]]

    async def test_who_offers_nothing_is_online_and_leaves_tasks_to_other_programs(self, hall: Hall) -> None:
        hall.lists["/tasks pending"] = [{"id": "a", "capability": "translate"}]
        bob = Bob(hall)
        ready = asyncio.Event()
        serving = asyncio.create_task(bob.providing.serve(ready.set))
        await ready.wait()

        assert hall.is_joined
        assert (hall.pushed, hall.handlers, hall.posted) == ([], {}, [])
        bob.offers()
        await until(lambda: "a" in hall.running)
        assert hall.names("announce") == [["translate"]]
        bob.providing.stop()
        bob.providing.stop()
        await serving

    async def test_it_is_ready_once_it_is_announced_and_before_it_begins(self, hall: Hall) -> None:
        hall.lists["/tasks pending"] = [{"id": "a", "capability": "translate"}]
        seen: list[Any] = []
        bob = Bob(hall).offers()

        def ready() -> None:
            seen.extend((hall.names("announce"), {*hall.running}))
            bob.providing.stop()

        await bob.providing.serve(ready)

        assert seen == [[["translate"]], set()]

    async def test_a_refused_announcement_ends_it(self, hall: Hall) -> None:
        hall.refuses["announce"] = RefusedByServer("amount_out_of_range", "", {})

        with pytest.raises(RefusedByServer, match="amount_out_of_range"):
            await Bob(hall).offers(price=1).providing.serve()
        assert not hall.is_joined

    async def test_a_price_of_another_currency_is_refused_here(self, hall: Hall) -> None:
        with pytest.raises(ValueError, match="1"):
            await Bob(hall).offers(price="1.0000001").providing.serve()
        assert not hall.is_joined

    async def test_not_being_able_to_say_that_he_is_away_does_no_harm(self, hall: Hall) -> None:
        hall.refuses["update_metadata"] = RefusedByServer("missing_scope", "", {})
        bob = Bob(hall, drain_s=PATIENCE_S).offers()
        async with bob.serving() as serving:
            await hall.hand_off("a")
            await until(lambda: bool(hall.running))
            bob.providing.stop()
            await until(lambda: hall.pushed[-1][0] == "update_metadata")
            hall.running["a"].set()
            await serving

        assert hall.done == ["a"]


def refused(*reasons: str) -> list[Exception]:
    return [RefusedByServer(reason, "", {}) for reason in reasons]


class TestNotNow:
    @pytest.mark.parametrize("what", ["join", "announce", "mailbox", "/tasks", "/negotiations"])
    async def test_he_keeps_trying_and_says_so_however_long_it_lasts(
        self, hall: Hall, caplog: pytest.LogCaptureFixture, what: str
    ) -> None:
        hall.lists["/tasks pending"] = [{"id": "a", "capability": "translate"}]
        hall.refuses_at_first[what] = [
            *refused("rate_limited", "unavailable", "draining", "internal_error", "503"),
            NoAnswer("no reply"),
        ]
        async with Bob(hall).offers().serving() as serving:
            await until(lambda: "a" in hall.running)
            await until(lambda: not hall.refuses_at_first[what])
            assert not serving.done()

        warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert len(warnings) == 6
        assert all("tried again in 0.0 s" in warning for warning in warnings)
        assert "rate_limited" in warnings[0]

    @pytest.mark.parametrize("what", ["join", "announce", "mailbox", "/tasks", "/negotiations"])
    @pytest.mark.parametrize("reason", ["missing_scope", "agent_banned", "invalid_credential"])
    async def test_what_will_not_go_away_ends_it(self, hall: Hall, what: str, reason: str) -> None:
        hall.refuses_at_first[what] = refused("rate_limited", reason)

        with pytest.raises(RefusedByServer, match=reason):
            await Bob(hall).offers().providing.serve()
        assert not hall.is_joined

    @pytest.mark.parametrize("what", ["join", "/tasks"])
    async def test_a_stop_does_not_wait_for_it(self, hall: Hall, what: str) -> None:
        hall.connection.backoff = Backoff(first_s=1_000.0, most_s=1_000.0, chance=lambda: 1.0)
        hall.refuses_at_first[what] = refused("rate_limited")
        bob = Bob(hall, drain_s=1_000.0).offers()
        serving = asyncio.create_task(bob.providing.serve())
        await until(lambda: not hall.refuses_at_first[what])

        bob.providing.stop()
        async with asyncio.timeout(PATIENCE_S):
            await serving

    async def test_what_was_taken_up_before_is_not_taken_up_twice(self, hall: Hall) -> None:
        hall.lists["/tasks pending"] = [{"id": "a", "capability": "translate"}]
        hall.refuses_at_first["/negotiations"] = refused("rate_limited")
        async with Bob(hall).offers().serving():
            await until(lambda: "a" in hall.running and not hall.refuses_at_first["/negotiations"])
            for _ in range(20):  # The lists are read once more.
                await asyncio.sleep(0)
            hall.running["a"].set()
            await until(lambda: not hall.running)

        assert hall.done == ["a"]


HELD: Json = {"status": "completed", "escrow_status": "held"}
PAID: Json = {"status": "completed", "escrow_status": "released"}
FAILED: Json = {"status": "failed", "escrow_status": "refunded"}
DISPUTED: Json = {"status": "disputed", "escrow_status": "held"}


class TestEnds:
    async def do(self, hall: Hall, *task_ids: str) -> None:
        await hall.hand_off(*task_ids)
        for id_ in task_ids:
            await until(lambda: id_ in hall.running)  # noqa: B023 - it is awaited here
            hall.running[id_].set()

    async def test_it_is_told_how_a_task_has_ended_and_what_becomes_of_its_price(self, hall: Hall) -> None:
        told: list[Json] = []
        hall.ends["a"] = [HELD]
        async with Bob(hall, concurrency=1).offers(on_end=told.append).serving():
            await self.do(hall, "a")
            await until(lambda: told == [HELD])
            assert hall.followed == {"a"}
            hall.ends["a"] += [{"percent": 1}, HELD, DISPUTED, PAID]
            await until(lambda: told == [HELD, DISPUTED, PAID])
            await until(lambda: not hall.followed)

    async def test_one_that_waits_for_its_price_takes_no_slot(self, hall: Hall) -> None:
        told: list[Json] = []
        hall.ends = {"a": [HELD], "b": [FAILED]}
        async with Bob(hall, concurrency=1).offers(on_end=told.append, concurrency=1).serving():
            await self.do(hall, "a", "b")
            await until(lambda: told == [HELD, FAILED])
            assert hall.followed == {"a"}

    async def test_of_many_the_newest_are_waited_for(self, hall: Hall) -> None:
        ids = [f"t{number:02d}" for number in range(FOLLOWED_MAX + 2)]
        hall.ends = {id_: [HELD] for id_ in ids}
        async with Bob(hall, concurrency=1).offers(on_end=lambda _task: None).serving():
            await self.do(hall, *ids)
            await until(lambda: hall.followed == {*ids[2:]})

        assert hall.followed == set()

    async def test_a_stop_waits_until_an_end_is_told_and_not_for_the_price(self, hall: Hall) -> None:
        told: list[Json] = []
        hall.ends = {"a": [HELD], "b": [{"status": "in_progress", "escrow_status": "held"}]}
        bob = Bob(hall, drain_s=PATIENCE_S).offers(on_end=told.append)
        async with bob.serving() as serving:
            await self.do(hall, "a", "b")
            await until(lambda: told == [HELD] and not hall.ends["b"])
            bob.providing.stop()
            await until(lambda: hall.followed == {"b"})
            hall.ends["b"].append(HELD)
            async with asyncio.timeout(PATIENCE_S):
                await serving

        assert (told, hall.followed) == ([HELD, HELD], set())

    @pytest.mark.parametrize("error", [RefusedByServer("not_found", "", {}), NoAnswer("no reply")])
    async def test_what_cannot_be_learnt_is_not_told(self, hall: Hall, error: Exception) -> None:
        told: list[Json] = []
        hall.ends = {"a": [PAID], "b": [PAID]}
        hall.refuses_at_first["a"] = [error]
        async with Bob(hall).offers(on_end=told.append).serving() as serving:
            await self.do(hall, "a")
            await until(lambda: not hall.refuses_at_first["a"])
            await self.do(hall, "b")
            await until(lambda: told == [PAID])
            assert not serving.done()

    async def test_no_task_is_a_lie(self, hall: Hall) -> None:
        hall.ends["a"] = [{"status": "completed"}]
        async with Bob(hall).offers(on_end=lambda _task: None).serving() as serving:
            await self.do(hall, "a")

            with pytest.raises(LyingServer):
                await serving

    async def test_who_is_told_may_fail(self, hall: Hall, caplog: pytest.LogCaptureFixture) -> None:
        def fail(_task: Json) -> None:
            raise KeyError("price")

        hall.ends["a"] = [PAID]
        async with Bob(hall).offers(on_end=fail).serving() as serving:
            await self.do(hall, "a")
            await until(lambda: "has failed" in caplog.text)
            assert not serving.done()


class TestTasks:
    async def test_what_was_not_finished_is_taken_up_what_has_begun_first_then_the_oldest(self, hall: Hall) -> None:
        for status, ids in (("in_progress", "dc"), ("pending", "ba")):
            hall.lists[f"/tasks {status}"] = [{"id": id_, "capability": "translate"} for id_ in ids]
        async with Bob(hall, concurrency=1).offers().serving():
            for id_ in "cdab":
                await until(lambda: bool(hall.running))
                assert [*hall.running] == [id_]
                hall.running[id_].set()
                await until(lambda: id_ in hall.done)  # noqa: B023 - it is awaited here

    async def test_what_is_heard_of_twice_is_done_once(self, hall: Hall) -> None:
        hall.lists["/tasks pending"] = [{"id": "a", "capability": "translate"}]
        async with Bob(hall).offers().serving():
            await hall.hand_off("a", "a", "b")
            await until(lambda: len(hall.running) == 2)
            for ends in list(hall.running.values()):
                ends.set()
            await until(lambda: not hall.running)

        assert sorted(hall.done) == ["a", "b"]

    async def test_one_slot_and_a_hundred_that_wait(self, hall: Hall) -> None:
        ids = [f"task {number}" for number in range(100)]
        most = 0
        async with Bob(hall, concurrency=1).offers().serving():
            await hall.hand_off(*ids)
            for _ in ids:
                await until(lambda: bool(hall.running))
                most = max(most, len(hall.running))
                next(iter(hall.running.values())).set()
                done = len(hall.done)
                await until(lambda: len(hall.done) > done)  # noqa: B023 - it is awaited here

        assert (most, hall.done) == (1, ids)

    async def test_a_capability_has_slots_of_its_own_and_does_not_take_the_others(self, hall: Hall) -> None:
        async with Bob(hall, concurrency=2).offers(concurrency=1).offers("sum").serving():
            await hall.hand_off("a", "b", "c")
            await hall.hand_off("d", "e", capability="sum")
            await until(lambda: len(hall.running) == 2)

            assert {*hall.running} == {"a", "d"}
            hall.running["a"].set()
            await until(lambda: "a" in hall.done and len(hall.running) == 2)
            assert {*hall.running} == {"d", "e"}

    async def test_what_he_does_not_do_is_declined_while_it_has_not_begun(self, hall: Hall) -> None:
        hall.lists["/tasks in_progress"] = [{"id": "begun", "capability": "dance"}]
        async with Bob(hall).offers().serving():
            await hall.hand_off("new", capability="dance")
            await until(lambda: bool(hall.posted))

        assert hall.posted == [("/tasks/new/cancel", {"reason": "this agent does not do dance at present"})]

    async def test_declining_too_late_does_no_harm(self, hall: Hall) -> None:
        hall.refuses["/tasks/new/cancel"] = RefusedByServer("terminal_state", "", {})
        async with Bob(hall).offers().serving() as serving:
            await hall.hand_off("new", capability="dance")
            await until(lambda: bool(hall.posted))

        assert serving.exception() is None

    async def test_a_lie_ends_the_serving_and_stops_the_others(self, hall: Hall) -> None:
        async with Bob(hall).offers().serving() as serving:
            await hall.hand_off("a")
            await until(lambda: bool(hall.running))
            hall.failure = LyingServer("it lies")
            await hall.hand_off("b")

            with pytest.raises(LyingServer, match="it lies"):
                await serving
        assert hall.stopped == ["a"]
        assert not hall.is_joined


def session(capability: str = "translate") -> Json:
    return {"session_id": "5e55", "capability": capability, "base_max": 100, "client_handle": "a/c"}


class TestNegotiations:
    @pytest.mark.parametrize(
        ("options", "strategy"),
        [
            ({"strategy": Boulware(limit=80)}, Boulware(limit=80)),
            ({"price": "8.50"}, FixedLimit(limit="8.50")),
            ({}, FixedLimit(limit=100)),
        ],
        ids=["its own", "its price", "the list price"],
    )
    async def test_they_are_answered_by_the_capabilitys_strategy(
        self, hall: Hall, options: Json, strategy: Strategy
    ) -> None:
        async with Bob(hall).offers(**options).serving():
            await hall.announce("negotiation", session())
            await until(lambda: bool(hall.bargained))

        (announced, used), *others = hall.bargained
        assert (announced["session_id"], announced["capability"], used) == ("5e55", "translate", strategy)
        assert others == []

    async def test_those_that_are_open_are_taken_up_once(self, hall: Hall) -> None:
        hall.bargaining.clear()
        hall.lists["/negotiations open"] = [{"id": "5e55", "capability": "translate", "base_max": 100}]
        async with Bob(hall).offers().serving():
            await hall.announce("negotiation", session())
            await until(lambda: bool(hall.bargained))
            hall.bargaining.set()

        assert len(hall.bargained) == 1

    async def test_what_he_does_not_do_is_rejected(self, hall: Hall) -> None:
        async with Bob(hall).offers().serving():
            await hall.announce("negotiation", session("dance"))
            await until(lambda: bool(hall.rejected))

        assert hall.rejected == [("5e55", "this agent does not do dance at present")]

    async def test_terms_are_judged_by_what_the_capability_says(self, hall: Hall) -> None:
        def judge(terms: Json) -> bool:
            return terms == {"style": "formal"}

        async with Bob(hall).offers(terms=judge).offers("dance").serving():
            await hall.announce("negotiation", session())
            await hall.announce("negotiation", session("dance") | {"session_id": "another"})
            await until(lambda: len(hall.bargained) == 2)

        assert hall.terms == [judge, None]

    def test_what_judges_terms_or_hears_of_the_end_later_is_refused(self, hall: Hall) -> None:
        async def later(_terms: Json) -> bool:
            return False

        with pytest.raises(TypeError, match="no coroutine function"):
            Bob(hall).offers(terms=later)

        with pytest.raises(TypeError, match="no coroutine function"):
            Bob(hall).offers(on_end=later)

    async def test_without_a_signing_key_it_is_rejected(self, hall: Hall) -> None:
        hall.bargaining_error = NoSigningKey()
        async with Bob(hall).offers().serving() as serving:
            await hall.announce("negotiation", session())
            await until(lambda: bool(hall.rejected))
            assert not serving.done()

        assert hall.rejected == [("5e55", "this agent cannot sign at present")]

    async def test_one_that_fails_is_given_up_and_the_others_go_on(self, hall: Hall) -> None:
        hall.bargaining_error = NoAnswer("nothing came")
        async with Bob(hall).offers().serving() as serving:
            await hall.announce("negotiation", session())
            await until(lambda: bool(hall.bargained))
            await hall.hand_off("a")
            await until(lambda: bool(hall.running))

            assert not serving.done()

    @pytest.mark.parametrize("error", [BeyondLimit(limit=8, exposed=7), ZeroDivisionError("a strategy's own")])
    async def test_a_strategy_that_fails_ends_nothing_else(self, hall: Hall, error: Exception) -> None:
        hall.bargaining_error = error
        async with Bob(hall).offers().serving() as serving:
            await hall.announce("negotiation", session())
            await until(lambda: bool(hall.bargained))
            await hall.hand_off("a")
            await until(lambda: bool(hall.running))

            assert not serving.done()

    @pytest.mark.parametrize("error", [LyingServer("so it is"), Disconnected("it is closed")])
    async def test_a_lie_ends_it_and_so_does_a_connection_that_is_closed(self, hall: Hall, error: Exception) -> None:
        hall.bargaining_error = error
        if isinstance(error, Disconnected):
            hall.connection.state = State.CLOSED
        async with Bob(hall).offers().serving() as serving:
            await hall.announce("negotiation", session())

            with pytest.raises(type(error)) as raised:
                await serving
            assert raised.value is error


class TestInterruptions:
    async def test_a_task_that_something_comes_between_is_seen_to_again(self, hall: Hall) -> None:
        hall.interruptions = ["a", "a"]
        async with Bob(hall).offers(concurrency=1).serving() as serving:
            await hall.hand_off("a")
            await until(lambda: "a" in hall.running)
            hall.running["a"].set()
            await until(lambda: hall.done == ["a"])
            assert not serving.done()

        assert hall.interruptions == []

    async def test_it_waits_without_a_slot_and_a_stop_does_not_wait_for_it(self, hall: Hall) -> None:
        hall.interruptions = ["a"]
        hall.connection.backoff = Backoff(first_s=1_000.0, most_s=1_000.0, chance=lambda: 1.0)
        async with Bob(hall, concurrency=1, drain_s=1_000.0).offers(concurrency=1).serving():
            await hall.hand_off("a", "b")
            await until(lambda: "b" in hall.running)
            hall.running["b"].set()
            await until(lambda: hall.done == ["b"])

        assert (hall.done, hall.interruptions) == (["b"], [])


class TestStopping:
    async def test_what_is_at_hand_is_done_and_what_waits_stays(self, hall: Hall) -> None:
        bob = Bob(hall, concurrency=1, drain_s=PATIENCE_S).offers()
        async with bob.serving() as serving:
            await hall.hand_off("a", "b")
            await until(lambda: bool(hall.running))
            bob.providing.stop()
            await until(lambda: ("update_metadata", {"metadata": {"status": "away"}}) in hall.pushed)
            await hall.hand_off("c")
            assert not serving.done()
            hall.running["a"].set()
            await serving

        assert (hall.done, hall.stopped) == (["a"], [])

    async def test_what_takes_longer_is_stopped(self, hall: Hall) -> None:
        bob = Bob(hall, drain_s=SOON_S).offers()
        hall.bargaining.clear()
        async with bob.serving() as serving:
            await hall.hand_off("a")
            await hall.announce("negotiation", session())
            await until(lambda: bool(hall.running) and bool(hall.bargained))
            bob.providing.stop()
            await serving

        assert (hall.done, hall.stopped) == ([], ["a"])
        assert not hall.is_joined

    async def test_the_second_time_it_does_not_wait(self, hall: Hall) -> None:
        bob = Bob(hall, drain_s=60.0).offers()
        async with bob.serving() as serving:
            await hall.hand_off("a")
            await until(lambda: bool(hall.running))
            bob.providing.stop()
            bob.providing.stop()
            async with asyncio.timeout(PATIENCE_S):
                await serving

        assert hall.stopped == ["a"]

    async def test_not_getting_an_answer_to_being_away_leaves_the_tasks_their_time(self, hall: Hall) -> None:
        hall.refuses["update_metadata"] = NoAnswer("no reply")
        bob = Bob(hall, drain_s=PATIENCE_S).offers()
        async with bob.serving() as serving:
            await hall.hand_off("a")
            await until(lambda: bool(hall.running))
            bob.providing.stop()
            await until(lambda: hall.pushed[-1][0] == "update_metadata")
            await asyncio.sleep(0)
            hall.running["a"].set()
            await serving

        assert hall.done == ["a"]

    async def test_cancelled_it_does_not_wait_either(self, hall: Hall) -> None:
        bob = Bob(hall, drain_s=60.0).offers()
        async with bob.serving() as serving:
            await hall.hand_off("a")
            await until(lambda: bool(hall.running))
            serving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await serving

        assert hall.stopped == ["a"]
        assert not hall.is_joined
        assert not bob.providing.is_serving

    @pytest.mark.parametrize("number", SIGNALS)
    async def test_a_signal_stops_it_and_afterwards_means_what_it_meant(self, hall: Hall, number: int) -> None:
        before = signal.getsignal(number)
        async with Bob(hall).offers().serving() as serving:
            assert signal.getsignal(number) != before
            signal.raise_signal(number)
            async with asyncio.timeout(PATIENCE_S):
                await serving

        assert signal.getsignal(number) == before

    async def test_a_second_signal_does_not_wait(self, hall: Hall) -> None:
        before = signal.getsignal(signal.SIGINT)
        async with Bob(hall, drain_s=60.0).offers().serving() as serving:
            await hall.hand_off("a")
            await until(lambda: bool(hall.running))
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) == before
            async with asyncio.timeout(PATIENCE_S):
                await serving

        assert hall.stopped == ["a"]

    async def test_all_who_serve_in_a_program_are_stopped(self, hall: Hall) -> None:
        before = signal.getsignal(signal.SIGTERM)
        first, second = Bob(hall).offers(), Bob(hall).offers()
        async with first.serving() as one, second.serving() as other:
            signal.raise_signal(signal.SIGTERM)
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.wait((one, other))

        assert signal.getsignal(signal.SIGTERM) == before

    async def test_who_ends_first_leaves_the_signals_to_the_other(self, hall: Hall) -> None:
        first, second = Bob(hall).offers(), Bob(hall).offers()
        async with second.serving() as other:
            async with first.serving():
                pass
            signal.raise_signal(signal.SIGTERM)
            async with asyncio.timeout(PATIENCE_S):
                await other

    def test_outside_the_main_thread_no_signal_is_asked_for(self) -> None:
        seen: list[Any] = []

        async def ask() -> None:
            with Signals().asking(lambda: None):
                seen.append(signal.getsignal(signal.SIGTERM))

        before = signal.getsignal(signal.SIGTERM)
        thread = threading.Thread(target=lambda: asyncio.run(ask()))
        thread.start()
        thread.join()

        assert seen == [before]
