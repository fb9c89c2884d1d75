"""One envelope everywhere: what is refused before any handler, and what every answer has around it."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from litestar.exceptions import HTTPException, InternalServerException

from agrenting.api.errors import (
    Malformed,
    as_pointer,
    as_refusal,
    error_body,
    headers_of,
    status_before_upgrade,
    status_of,
)
from agrenting.db.commit import StorageUnavailable
from agrenting.db.transaction import StaleState
from channels import errors
from channels.errors import Conflict, Invalid, RateLimited, Refusal, Unauthorized
from channels.wire import InvalidPayload
from tests.agrenting.api.market import Caller, Marketplace, Player, marketplace

BODY = {"content-type": "application/json"}


async def test_an_error_has_code_message_and_request_id(market: Marketplace) -> None:
    refused = await market.anybody.refused("GET", "/me")

    assert set(refused.error) == {"code", "message", "request_id"}
    assert refused.error["request_id"] == refused.answer.headers["x-request-id"]


@pytest.mark.parametrize(
    "path", ["/index.php", "/api/v1", "/api/v2/me", "/api/v1/tasks/1/2/3", "/docs", "/favicon.ico"]
)
async def test_an_unknown_address_is_not_found(market: Marketplace, path: str) -> None:
    answer = await market.http.get(path)

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/api/v1/tasks", "GET, POST"),
        ("DELETE", "/api/v1/tasks/1", "GET"),
        ("POST", "/api/v1/agents/1", "DELETE, GET, PATCH"),
        ("GET", "/api/v1/auth/rotate-key", "POST"),
        ("OPTIONS", "/api/v1/tasks", "GET, POST"),
        ("OPTIONS", "/schema", "GET"),
        ("BREW", "/api/v1/me/", "GET"),
        ("TRACE", "/health//live", "GET"),
    ],
)
async def test_an_address_says_which_methods_it_answers(
    market: Marketplace, method: str, path: str, allow: str
) -> None:
    answer = await market.http.request(method, path)

    error = answer.json()["error"]
    assert (answer.status_code, error["code"], answer.headers["allow"]) == (405, "method_not_allowed", allow)
    assert error["details"] == {"allow": allow.split(", ")}


async def test_head_is_refused_like_every_other_method(market: Marketplace) -> None:
    answer = await market.http.head("/api/v1/meta")

    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("body", [b"{", b"", b"\xff", b"nonsense", b"[1,]", b'{"a": NaN}', b'"\\ud800"', b"{} {}"])
async def test_a_body_that_is_no_json_is_malformed(olga: Caller, body: bytes) -> None:
    refused = await olga.refused("POST", "/admin/users", content=body, headers=BODY)

    assert refused.why == (400, "malformed")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b"[]", ""),
        (b"null", ""),
        (b"{}", "/handle"),
        (b'{"handle": 5}', "/handle"),
        (b'{"handle": "a", "handle": "b"}', "/handle"),
        (b'{"handle": "a", "x": 9007199254740992}', "/x"),
        (b'{"handle": "a", "x": ' + b"[" * 65 + b"]" * 65 + b"}", ""),
        (b'{"handle": "a", "x": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", ""),
    ],
)
async def test_json_that_does_not_fit_is_refused_with_a_pointer(olga: Caller, body: bytes, pointer: str) -> None:
    refused = await olga.refused("POST", "/admin/users", content=body, headers=BODY)

    assert refused.why == (422, "invalid_payload")
    assert list(refused.details) == [pointer]
    assert all(isinstance(sentence, str) for sentence in refused.details[pointer])


@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/xml", ""]
)
async def test_a_body_of_another_type_is_refused(olga: Caller, media_type: str) -> None:
    refused = await olga.refused(
        "POST", "/admin/users", content=b'{"handle": "dave"}', headers={"content-type": media_type}
    )

    assert refused.why == (415, "unsupported_media_type")


@pytest.mark.parametrize("media_type", ["application/json; charset=utf-8", "Application/JSON", "application/ld+json"])
async def test_json_is_taken_by_its_names(olga: Caller, media_type: str) -> None:
    assert await olga.post("/admin/users", content=b'{"handle": "dave"}', headers={"content-type": media_type})


async def test_a_body_that_is_too_large_is_refused(folder: Any) -> None:
    async with marketplace(folder, body_bytes_max=1_000) as market:
        olga = await market.user("olga", is_operator=True)

        refused = await olga.refused("POST", "/admin/users", content=b" " * 1_001, headers=BODY)

        assert refused.why == (413, "body_too_large")
        assert refused.details == {"body_bytes_max": 1_000}
        assert await olga.post("/admin/users", content=b'{"handle":"dave"}' + b" " * 900, headers=BODY)


async def test_a_body_that_grows_too_large_on_its_way_is_refused(folder: Any) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b" " * 500

    async with marketplace(folder, body_bytes_max=1_000) as market:
        olga = await market.user("olga", is_operator=True)

        assert (await olga.refused("POST", "/admin/users", content=parts(), headers=BODY)).why == (
            413,
            "body_too_large",
        )


async def test_nobody_sends_a_large_body_without_a_credential(market: Marketplace) -> None:
    """Who asks is looked at before a byte of the body is read."""
    refused = await market.anybody.refused("POST", "/admin/users", content=b" " * 2_000_000, headers=BODY)

    assert refused.why == (401, "missing_credential")


async def test_a_client_that_goes_before_its_body_is_whole_is_no_bug(market: Marketplace, olga: Caller) -> None:
    sent: list[dict[str, Any]] = []
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": b"{", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    headers = [(b"x-api-key", olga.headers["x-api-key"].encode())]
    await market.app(_scope("POST", "/api/v1/admin/users", headers), receive, send)  # type: ignore[arg-type] # ASGI.

    assert sent[0]["status"] == 400


async def test_a_request_with_a_strange_host_is_malformed(market: Marketplace) -> None:
    answer = await market.http.get("/api/v1/meta", headers={"host": "a b"})

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "malformed")


async def test_a_bug_is_answered_without_a_word_of_it(
    market: Marketplace, olga: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_args: Any, **_named: Any) -> Any:
        raise ZeroDivisionError("the secret of the house")

    monkeypatch.setattr(market.server.engine, "change", fail)
    answer = await market.http.post("/api/v1/keys", json={"name": "x"}, headers=olga.headers)

    assert answer.status_code == 500
    assert answer.json()["error"].keys() == {"code", "message", "request_id"}
    assert answer.json()["error"]["code"] == "internal_error"
    assert "secret" not in answer.text


async def test_what_lost_a_race_twice_is_a_conflict(
    market: Marketplace, olga: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = market.server.engine.change

    async def race(unit: Any, **named: Any) -> Any:
        def lose(tx: Any) -> Any:
            unit(tx)
            raise StaleState

        return await change(lose, **named)

    monkeypatch.setattr(market.server.engine, "change", race)

    assert (await olga.refused("POST", "/keys", {"name": "x"})).why == (409, "conflict")


async def test_a_socket_path_speaks_websocket(market: Marketplace) -> None:
    answer = await market.http.get("/socket/websocket")

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "upgrade_required")
    assert answer.json()["error"]["request_id"] == answer.headers["x-request-id"]


async def test_other_origins_are_closed_out_by_default(market: Marketplace) -> None:
    answer = await market.http.get("/api/v1/meta", headers={"origin": "https://elsewhere.test"})

    assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_an_origin_that_the_operator_names_may_call(folder: Any) -> None:
    async with marketplace(folder, allowed_origins=("https://home.test",)) as market:
        preflight = {"origin": "https://home.test", "access-control-request-method": "POST"}
        asked = await market.http.options("/api/v1/tasks", headers=preflight)
        called = await market.http.get("/api/v1/meta", headers={"origin": "https://home.test"})
        other = await market.http.get("/api/v1/meta", headers={"origin": "https://elsewhere.test"})

        assert asked.status_code == 204
        assert called.headers["access-control-allow-origin"] == "https://home.test"
        assert "x-request-id" in called.headers["access-control-expose-headers"]
        assert "access-control-allow-origin" not in other.headers


def _scope(method: str, path: str, headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    return {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": headers,
        "client": ("198.51.100.7", 1),
        "server": ("market.test", 80),
        "scheme": "http",
        "http_version": "1.1",
        "asgi": {"version": "3.0"},
    }


# The mapping itself.


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (errors.Invalid, 422),
        (errors.Unauthorized, 401),
        (errors.Forbidden, 403),
        (errors.NotFound, 404),
        (errors.Conflict, 409),
        (errors.Expired, 410),
        (errors.TooLarge, 413),
        (errors.RateLimited, 429),
        (Malformed, 400),
    ],
)
def test_every_kind_of_refusal_has_its_status(kind: type[Refusal], status: int) -> None:
    assert status_of(kind("because", "Because.")) == status


def test_every_kind_there_is_has_a_status() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Refusal)]

    assert [status_of(kind("because", "Because.")) for kind in kinds if kind is not Refusal]


def test_two_reasons_have_a_status_of_their_own() -> None:
    assert status_of(Conflict("escrow_locked", "It is held.")) == 423
    assert status_of(Conflict("draining", "It stops.")) == 503


@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        (Unauthorized("invalid_credential", "No."), 403),
        (Conflict("connection_conflict", "No."), 409),
        (Conflict("draining", "No."), 503),
        (RateLimited("rate_limited", "No.", retry_after=3), 429),
        (Invalid("invalid_payload", "No."), 403),
    ],
)
def test_a_socket_is_refused_with_403_but_for_what_clients_tell_apart(refusal: Refusal, status: int) -> None:
    assert status_before_upgrade(refusal) == status


def test_details_are_what_the_refusal_knows() -> None:
    body = json.loads(error_body(Conflict("not_your_turn", "Wait.", turn="a"), "r1"))

    assert body == {
        "error": {"code": "not_your_turn", "message": "Wait.", "request_id": "r1", "details": {"turn": "a"}}
    }


def test_details_of_422_are_pointers_and_the_rest_is_context() -> None:
    body = json.loads(error_body(Invalid("invalid_price", "Less.", field="a.0.b", price_max=5), "r1"))

    assert body["error"]["details"] == {"/a/0/b": ["Less."]}
    assert body["error"]["context"] == {"price_max": 5}


def test_a_422_that_names_no_field_points_at_the_whole() -> None:
    body = json.loads(error_body(Invalid("same_agent", "Another."), "r1"))

    assert body["error"]["details"] == {"": ["Another."]}
    assert "context" not in body["error"]


@pytest.mark.parametrize(
    ("path", "pointer"),
    [
        ("", ""),
        ("name", "/name"),
        ("terms.languages[0]", "/terms/languages/0"),
        ("$.a[0][1].b", "/a/0/1/b"),
        ("/already/a~1pointer", "/already/a~1pointer"),
        ("a/b.c~d", "/a~1b/c~0d"),
    ],
)
def test_a_path_becomes_a_pointer(path: str, pointer: str) -> None:
    assert as_pointer(path) == pointer


def test_a_rate_limit_says_when_to_come_back() -> None:
    assert headers_of(RateLimited("rate_limited", "Later.", retry_after=3)) == {"Retry-After": "3"}
    assert headers_of(Conflict("conflict", "No.")) == {}


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (InvalidPayload("payload", "no"), (422, "invalid_payload")),
        (StorageUnavailable("full"), (503, "unavailable")),
        (HTTPException(status_code=418, detail="teapot"), (400, "malformed")),
    ],
)
def test_every_expected_error_is_a_refusal(error: Exception, why: tuple[int, str]) -> None:
    refusal = as_refusal(error, allow=(), body_bytes_max=1)

    assert refusal is not None
    assert (status_of(refusal), refusal.reason) == why


@pytest.mark.parametrize("error", [ZeroDivisionError(), InternalServerException()])
def test_what_is_not_expected_is_a_bug(error: Exception) -> None:
    assert as_refusal(error, allow=(), body_bytes_max=1) is None


async def test_the_answer_of_a_player_is_in_the_envelope(mallory: Player) -> None:
    answer: httpx.Response = await mallory.call("GET", "/tasks")

    assert set(answer.json()) == {"data", "metadata"}
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
