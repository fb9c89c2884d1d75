"""The client's REST door, against a server that answers what the test says and remembers what it was asked."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

import msgspec
import pytest

from agrenting.client import Disconnected, NoAnswer, RefusedByServer, RestClient
from agrenting.client import rest as client_rest

KEY = "agk_alices-key"


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
        self.asked: list[Asked] = []
        self.may_answer = Event()
        self.may_answer.set()


@pytest.fixture
def counter() -> Iterator[Counter]:
    opened = Counter()

    class Clerk(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            headers = {name.lower(): value for name, value in self.headers.items()}
            opened.asked.append(Asked(self.command, self.path, json.loads(body) if body else None, headers))
            opened.may_answer.wait()
            self.send_response(opened.status)
            self.send_header("content-length", str(len(opened.body)))
            self.end_headers()
            self.wfile.write(opened.body)

        do_GET = do_POST = do_DELETE = _answer  # noqa: N815 - http.server looks for these names

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
    async with RestClient(counter.url, KEY) as alice:
        told = await alice.get("/tasks/1/chunks", direction="input", limit=5)

    (asked,) = counter.asked
    assert told == {"n": 1}
    assert (asked.method, asked.path) == ("GET", "/api/v1/tasks/1/chunks?direction=input&limit=5")
    assert asked.headers["x-api-key"] == KEY
    assert KEY not in repr(alice)


async def test_a_file_is_read_as_it_is_and_asked_for_by_its_kind(counter: Counter) -> None:
    counter.body = b'{"line": 1}\n{"line": 2}\n'

    async with RestClient(counter.url, KEY) as alice:
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

    async with RestClient(counter.url, KEY) as alice:
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

    async with RestClient(counter.url, KEY) as alice:
        with pytest.raises(RefusedByServer, match=r"^amount_mismatch: The midpoint is 800\.$") as refused:
            await alice.post("/negotiations/1/accept", {"amount": 700})

    assert refused.value.context == {"/amount": ["The midpoint is 800."], "expected_amount": 800}


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"error": "no"}'])
async def test_a_failure_that_is_not_ours_has_its_status_as_reason(counter: Counter, body: bytes) -> None:
    counter.status, counter.body = 502, body

    async with RestClient(counter.url, KEY) as alice:
        with pytest.raises(RefusedByServer) as refused:
            await alice.get("/meta")

    assert (refused.value.reason, refused.value.message) == ("502", "Bad Gateway")


async def test_an_answer_that_is_no_json_is_no_server_of_ours(counter: Counter) -> None:
    counter.body = b"<html>Welcome to the hotel's network</html>"

    async with RestClient(counter.url, KEY) as alice:
        with pytest.raises(Disconnected, match="GET /meta was answered by something else"):
            await alice.get("/meta")


async def test_a_server_that_does_not_answer_in_time_is_told_as_such(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_rest, "TIMEOUT_S", 0.05)
    counter.may_answer.clear()

    async with RestClient(counter.url, KEY) as alice:
        with pytest.raises(NoAnswer, match=r"no answer to GET /meta within 0\.05 s"):
            await alice.get("/meta")


async def test_a_server_that_is_not_there_is_told_as_such() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        port = server.server_port

    async with RestClient(f"http://127.0.0.1:{port}", KEY) as alice:
        with pytest.raises(Disconnected, match="GET /meta: "):
            await alice.get("/meta")
