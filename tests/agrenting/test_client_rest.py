"""The client's REST door, against a server that answers what the test says and remembers what it was asked."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

import msgspec
import pytest

from agrenting.client import Disconnected, NoAnswer, RefusedByServer, RestClient
from agrenting.client import rest as client_rest
from agrenting.client.backoff import Backoff
from agrenting.client.errors import MalformedAnswer
from agrenting.client.keys import ApiKey

KEY = "agk_alices-key"
QUICK = Backoff(first_s=0.001, most_s=0.002)
Ask = Callable[[], Awaitable[Any]]


class Asked(msgspec.Struct, frozen=True):
    """What the server was asked."""

    method: str
    path: str
    body: Any
    headers: dict[str, str]


class Counter:
    """A server's side: what it answers next, and all that it was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.status = 200
        self.body = b'{"data": {"n": 1}}'
        self.first: list[tuple[int, bytes, dict[str, str]] | None] = []
        """What it answers before that, with what headers; None: it hangs up."""
        self.asked: list[Asked] = []
        self.may_answer = Event()
        self.may_answer.set()
        self.was_asked = Event()


@pytest.fixture
def counter() -> Iterator[Counter]:
    opened = Counter()

    class Clerk(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            headers = {name.lower(): value for name, value in self.headers.items()}
            opened.asked.append(Asked(self.command, self.path, json.loads(body) if body else None, headers))
            opened.was_asked.set()
            opened.may_answer.wait()
            answer = opened.first.pop(0) if opened.first else (opened.status, opened.body, {})
            if answer is None:
                self.close_connection = True
                return
            status, told, said = answer
            self.send_response(status)
            for name, value in {"content-length": str(len(told)), **said}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(told)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815 - http.server looks for these names

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class calls it so
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Clerk) as server:
        opened.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield opened
        opened.may_answer.set()
        server.shutdown()
        thread.join()


async def test_reading_gives_the_data_and_sends_key_and_query(counter: Counter) -> None:
    async with RestClient(counter.url, KEY, backoff=QUICK) as alice:
        told = await alice.get("/tasks/1/chunks", direction="input", limit=5)

    (asked,) = counter.asked
    assert told == {"n": 1}
    assert (asked.method, asked.path) == ("GET", "/api/v1/tasks/1/chunks?direction=input&limit=5")
    assert asked.headers["x-api-key"] == KEY
    assert KEY not in repr(alice)


async def test_a_file_is_read_as_it_is_and_asked_for_by_its_kind(counter: Counter) -> None:
    counter.body = b'{"line": 1}\n{"line": 2}\n'

    async with RestClient(counter.url, KEY, backoff=QUICK) as alice:
        assert await alice.file("/payment-channels/1/history", "application/jsonl") == counter.body
        counter.status, counter.body = 404, b""
        with pytest.raises(RefusedByServer, match="404"):
            await alice.file("/payment-channels/2/history", "application/jsonl")

    assert {asked.headers["accept"] for asked in counter.asked} == {"application/jsonl"}


async def test_creating_sends_body_and_idempotency_key(counter: Counter) -> None:
    async with RestClient(f"{counter.url}/", KEY) as alice:
        await alice.post("/tasks", {"capability": "translate"}, idempotency_key="once")
        await alice.post("/key-challenges")

    first, second = counter.asked
    assert (first.method, first.path, first.body) == ("POST", "/api/v1/tasks", {"capability": "translate"})
    assert first.headers["idempotency-key"] == "once"
    assert second.body is None
    assert "idempotency-key" not in second.headers


async def test_taking_away_may_be_answered_with_nothing(counter: Counter) -> None:
    counter.status, counter.body = 204, b""

    async with RestClient(counter.url, KEY, backoff=QUICK) as alice:
        assert await alice.delete("/auth/logout") is None

    assert counter.asked[0].method == "DELETE"


async def test_a_refusal_is_raised_as_on_the_wire(counter: Counter) -> None:
    counter.status = 422
    error = {
        "code": "amount_mismatch",
        "message": "The midpoint is 800.",
        "request_id": "r",
        "details": {"/amount": ["The midpoint is 800."]},
        "context": {"expected_amount": 800},
    }
    counter.body = json.dumps({"error": error}).encode()

    async with RestClient(counter.url, KEY, backoff=QUICK) as alice:
        with pytest.raises(RefusedByServer, match=r"^amount_mismatch: The midpoint is 800\.$") as refused:
            await alice.post("/negotiations/1/accept", {"amount": 700})

    assert refused.value.context == {"/amount": ["The midpoint is 800."], "expected_amount": 800}


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"error": "no"}'])
async def test_a_failure_that_is_not_ours_has_its_status_as_reason(counter: Counter, body: bytes) -> None:
    counter.status, counter.body = 502, body

    async with RestClient(counter.url, KEY, backoff=QUICK) as alice:
        with pytest.raises(RefusedByServer) as refused:
            await alice.get("/meta")

    assert (refused.value.reason, refused.value.message) == ("502", "Bad Gateway")


async def test_an_answer_that_is_no_json_is_no_server_of_ours(counter: Counter) -> None:
    counter.body = b"<html>Welcome to the hotel's network</html>"

    async with RestClient(counter.url, KEY, backoff=QUICK) as alice:
        with pytest.raises(Disconnected, match="GET /meta was answered by something else"):
            await alice.get("/meta")


async def test_a_server_that_does_not_answer_in_time_is_told_as_such(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_rest, "TIMEOUT_S", 0.05)
    counter.may_answer.clear()

    async with RestClient(counter.url, KEY, backoff=QUICK) as alice:
        with pytest.raises(NoAnswer, match=r"no answer to GET /meta within 0\.05 s"):
            await alice.get("/meta")


async def test_a_server_that_is_not_there_is_told_as_such() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        port = server.server_port

    async with RestClient(f"http://127.0.0.1:{port}", KEY, backoff=QUICK) as alice:
        with pytest.raises(Disconnected, match=r"GET /meta at http://127\.0\.0\.1:"):
            await alice.get("/meta")


def refused(status: int, code: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    body = json.dumps({"error": {"code": code, "message": "No.", "request_id": "r"}}).encode()
    return status, body, {name.replace("_", "-"): value for name, value in headers.items()}


def page(items: list[int], cursor: str | None) -> tuple[int, bytes, dict[str, str]]:
    metadata = {"has_more": cursor is not None, "limit": 2, "next_cursor": cursor}
    return 200, json.dumps({"data": items, "metadata": metadata}).encode(), {}


# Asking again.


async def test_reading_is_repeated_over_lost_connections_a_few_times(counter: Counter) -> None:
    counter.first = [None, (502, b"<html>", {}), None]

    async with RestClient(counter.url, KEY, backoff=QUICK) as alice:
        assert await alice.get("/meta") == {"n": 1}
        counter.first = [None] * 9
        with pytest.raises(Disconnected):
            await alice.get("/meta")

    assert len(counter.asked) == 4 + 1 + client_rest.REPEATS_MAX


async def test_a_post_with_an_idempotency_key_is_repeated_until_it_is_answered(counter: Counter) -> None:
    counter.first = [None] * 9 + [refused(409, "idempotency_pending"), (504, b"", {})]

    async with RestClient(counter.url, KEY, backoff=QUICK) as alice:
        assert await alice.post("/tasks", {"n": 2}, idempotency_key="once") == {"n": 1}

    assert {(asked.headers["idempotency-key"], asked.body["n"]) for asked in counter.asked} == {("once", 2)}
    assert len(counter.asked) == 12


@pytest.mark.parametrize("ask", ["get", "post"])
async def test_what_is_being_asked_when_the_client_is_closed_ends_and_is_not_repeated(
    counter: Counter, ask: str
) -> None:
    counter.may_answer.clear()
    async with RestClient(counter.url, KEY, backoff=QUICK) as alice:
        work = alice.get("/meta") if ask == "get" else alice.post("/tasks", {}, idempotency_key="once")
        asking = asyncio.create_task(work)
        await asyncio.to_thread(counter.was_asked.wait)

    with pytest.raises(Disconnected):
        await asyncio.wait_for(asking, 30)
    with pytest.raises(Disconnected, match="closed"):
        await alice.get("/meta")
    counter.may_answer.set()


async def test_a_post_without_one_is_not_repeated_over_a_loss(counter: Counter) -> None:
    async with RestClient(counter.url, KEY, backoff=QUICK) as alice:
        asks: tuple[Ask, ...] = (
            lambda: alice.post("/tasks", {}),
            lambda: alice.patch("/rooms/1", {}),
            lambda: alice.put("/x", {}),
        )
        for ask in asks:
            counter.first = [None]
            with pytest.raises(Disconnected):
                await ask()

    assert [asked.method for asked in counter.asked] == ["POST", "PATCH", "PUT"]


async def test_a_refusal_of_a_post_with_a_key_is_a_refusal(counter: Counter) -> None:
    counter.first = [refused(409, "agent_unavailable")]

    async with RestClient(counter.url, KEY, backoff=QUICK) as alice:
        with pytest.raises(RefusedByServer, match="agent_unavailable"):
            await alice.post("/tasks", {}, idempotency_key="once")

    assert len(counter.asked) == 1


async def test_the_patience_has_an_end(counter: Counter) -> None:
    counter.first = [None] * 1_000

    async with RestClient(counter.url, KEY, backoff=QUICK, patience_s=0.02) as alice:
        with pytest.raises(Disconnected):
            await alice.post("/tasks", {}, idempotency_key="once")

    assert 1 <= len(counter.asked) < 1_000


@pytest.mark.parametrize(
    "not_now",
    [
        refused(429, "rate_limited", retry_after="0"),
        refused(503, "draining"),
        refused(503, "unavailable"),
        (503, b"<html>", {"retry-after": "0"}),
    ],
)
async def test_what_was_too_much_is_asked_again_whatever_it_is(
    counter: Counter, not_now: tuple[int, bytes, dict[str, str]]
) -> None:
    async with RestClient(counter.url, KEY, backoff=QUICK) as alice:
        asks: tuple[Ask, ...] = (
            lambda: alice.get("/meta"),
            lambda: alice.post("/tasks"),
            lambda: alice.delete("/keys/1"),
        )
        for ask in asks:
            counter.first = [not_now, not_now]
            assert await ask() == {"n": 1}

    assert len(counter.asked) == 9


async def test_who_is_told_to_wait_longer_than_the_patience_is_told_at_once(counter: Counter) -> None:
    counter.first = [refused(429, "rate_limited", retry_after="61")]

    async with RestClient(counter.url, KEY, backoff=QUICK) as alice:
        with pytest.raises(RefusedByServer, match="rate_limited") as told:
            await alice.get("/meta")

    assert told.value.context == {"retry_after": 61}


# Lists, and the rest of the verbs.


async def test_a_list_is_read_page_by_page(counter: Counter) -> None:
    counter.first = [page([1, 2], "a"), None, page([3, 4], "b"), page([5], None)]

    async with RestClient(counter.url, KEY, backoff=QUICK) as alice:
        assert [item async for item in alice.items("/tasks", limit=2, role=None)] == [1, 2, 3, 4, 5]

    assert [asked.path.partition("?")[2] for asked in counter.asked] == [
        "limit=2",
        "limit=2&cursor=a",
        "limit=2&cursor=a",
        "limit=2&cursor=b",
    ]


async def test_a_list_may_name_its_place_otherwise(counter: Counter) -> None:
    counter.first = [page([1, 2], "2"), page([3], None)]

    async with RestClient(counter.url, KEY, backoff=QUICK) as alice:
        assert [item async for item in alice.items("/tasks/1/chunks", by="from")] == [1, 2, 3]

    assert counter.asked[1].path.endswith("?from=2")


async def test_a_page_is_told_with_how_it_goes_on(counter: Counter) -> None:
    counter.first = [page([1, 2], "a")]

    async with RestClient(counter.url, KEY, backoff=QUICK) as alice:
        assert await alice.page("/tasks") == ([1, 2], {"has_more": True, "limit": 2, "next_cursor": "a"})


@pytest.mark.parametrize("cursor", ["a", None])
async def test_a_list_that_does_not_go_on_is_no_endless_loop(counter: Counter, cursor: str | None) -> None:
    metadata = {"has_more": True, "next_cursor": cursor}
    counter.body = json.dumps({"data": [1], "metadata": metadata}).encode()

    async with RestClient(counter.url, KEY, backoff=QUICK) as alice:
        with pytest.raises(MalformedAnswer, match="does not say where"):
            assert [item async for item in alice.items("/tasks")] == []
        counter.body = b'{"data": {"n": 1}}'
        with pytest.raises(MalformedAnswer, match="no list"):
            await alice.page("/tasks")


async def test_changing_and_replacing_send_their_body(counter: Counter) -> None:
    async with RestClient(counter.url, ApiKey(KEY), agent_id="alice") as alice:
        assert await alice.patch("/rooms/1", {"title": "Tea"}) == {"n": 1}
        assert await alice.put("/me/profile", {"user": {}}) == {"n": 1}

    assert [(asked.method, asked.body) for asked in counter.asked] == [
        ("PATCH", {"title": "Tea"}),
        ("PUT", {"user": {}}),
    ]
    assert {asked.headers["x-agent-id"] for asked in counter.asked} == {"alice"}
    assert {asked.headers["x-api-key"] for asked in counter.asked} == {KEY}
