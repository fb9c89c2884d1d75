"""Request ids, and one line in the log for each request, in which no secret ever stands."""

import json
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from tests.agrenting.api.market import Caller, Marketplace, Player


async def request_id_of(market: Marketplace, offered: str | None) -> str:
    headers = {} if offered is None else {"x-request-id": offered}
    answer = await market.http.get("/api/v1/meta", headers=headers)
    return answer.headers["x-request-id"]


@pytest.mark.parametrize("offered", ["a", "req-1_2.3", "x" * 128])
async def test_a_sane_request_id_comes_back(market: Marketplace, offered: str) -> None:
    assert await request_id_of(market, offered) == offered


@pytest.mark.parametrize("offered", [None, "", "x" * 129, "two words", "semi;colon", "<b>"])
async def test_any_other_is_replaced(market: Marketplace, offered: str | None) -> None:
    made = await request_id_of(market, offered)

    assert made != offered
    assert len(made) == 36
    assert await request_id_of(market, offered) != made


async def test_two_request_ids_are_none(market: Marketplace) -> None:
    answer = await market.http.get("/api/v1/meta", headers=[("x-request-id", "a"), ("x-request-id", "b")])

    assert len(answer.headers["x-request-id"]) == 36


async def test_an_error_carries_the_request_id_that_was_sent(market: Marketplace) -> None:
    refused = await market.anybody.refused("GET", "/me", headers={"x-request-id": "mine"})

    assert (refused.error["request_id"], refused.answer.headers["x-request-id"]) == ("mine", "mine")


async def test_each_request_is_one_line(market: Marketplace, olga: Caller) -> None:
    with capture_logs() as lines:
        await olga.get("/me", params={"token": "hidden"}, headers={"x-request-id": "r1"})
        await olga.refused("GET", "/nothing")

    assert [(line["event"], line["method"], line["path"], line["status"]) for line in lines] == [
        ("request", "GET", "/api/v1/me", 200),
        ("request", "GET", "/api/v1/nothing", 404),
    ]
    assert [line["caller"] for line in lines] == ["olga", None]
    assert all(line["ms"] >= 0 for line in lines)
    assert "hidden" not in str(lines)


async def test_the_line_names_the_request(market: Marketplace, capsys: pytest.CaptureFixture[str]) -> None:
    await market.http.get("/api/v1/meta", headers={"x-request-id": "find-me"})

    assert "find-me" in capsys.readouterr().out


async def test_a_bug_is_logged_once_with_its_trace(
    market: Marketplace, olga: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_args: Any, **_named: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(market.server.engine, "change", fail)
    with capture_logs() as lines:
        await market.http.post("/api/v1/keys", json={"name": "x"}, headers=olga.headers)

    crashed = [line for line in lines if line["log_level"] == "error"]
    assert [line["event"] for line in crashed] == ["request_crashed"]
    assert isinstance(crashed[0]["exc_info"], ZeroDivisionError)
    assert lines[-1]["status"] == 500


async def test_no_secret_is_ever_logged(
    market: Marketplace, olga: Caller, mallory: Player, capsys: pytest.CaptureFixture[str]
) -> None:
    """Keys, tokens and challenges go through every door that knows them; the log has none of them."""
    secrets = [mallory.api_key, olga.headers["x-api-key"], "wrong-key-entirely"]
    with capture_logs() as lines:
        user = await olga.post("/admin/users", {"handle": "carol"})
        carol = market.with_key(user["api_key"])
        agent = await carol.post("/agents", {"name": "Bot", "description": "A bot"})
        key = await mallory.post("/keys", {"name": "second"})
        session = await mallory.post("/auth/authenticate")
        rotated = await market.with_key(key["api_key"]).post("/auth/rotate-key")
        challenge = await carol.post("/key-challenges")
        bearer = Caller(market.http, {"authorization": f"Bearer {session['token']}"})
        await bearer.delete("/auth/logout")
        await bearer.refused("GET", "/agent/me")
        await market.with_key("wrong-key-entirely").refused("GET", "/me", params={"api_key": mallory.api_key})
        await carol.refused("POST", "/agents", {"name": user["api_key"]})
    secrets += [user["api_key"], agent["api_key"], key["api_key"], rotated["api_key"]]
    secrets += [session["token"], challenge["challenge"]]

    told = json.dumps(lines, default=str) + capsys.readouterr().out

    assert len(lines) == 10
    assert [secret for secret in secrets if secret in told] == []


async def test_sockets_pass_without_being_counted(market: Marketplace) -> None:
    messages = [{"type": "websocket.connect"}]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "websocket",
        "path": "/socket/websocket",
        "raw_path": b"/socket/websocket",
        "root_path": "",
        "query_string": b"vsn=2.0.0",
        "headers": [],
        "subprotocols": [],
        "client": ("198.51.100.7", 1),
        "server": ("market.test", 80),
        "scheme": "ws",
        "extensions": {},
        "asgi": {"version": "3.0"},
    }
    with capture_logs() as lines:
        await market.app(scope, receive, send)  # type: ignore[arg-type] # A plain ASGI scope.

    assert sent[0]["status"] == 403
    assert "request" not in [line["event"] for line in lines]


async def test_an_answer_has_one_content_type(market: Marketplace) -> None:
    answer: httpx.Response = await market.http.get("/metrics")

    assert answer.headers["content-type"].count("charset") == 1
