"""The socket door: paths, credentials, versions, and every refusal before the upgrade."""

import asyncio
import base64
import json
import sqlite3
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, closing
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from agrenting.sockets import AGENT_PATHS, USER_PATHS
from tests.system.harness import AgentAccount
from tests.system.raw import WatchedMarket, Wire, http_exchange, watched

DISCOVERY = "agents:discovery"
UPGRADE = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"


class Doors:
    """A market with Alice's two agents, and Bob's one."""

    def __init__(self, market: WatchedMarket) -> None:
        self.market = market
        self.alice = market.user("alice")
        self.bob_user = market.user("bob")
        self.anna = market.agent("alice", "Anna")
        self.albert = market.agent("alice", "Albert")
        self.bob = market.agent("bob", "Bob")

    @asynccontextmanager
    async def open(
        self, query: str = "vsn=2.0.0", *, path: str = "/socket/websocket", headers: Any = None, **options: Any
    ) -> AsyncGenerator[Wire, None]:
        async with connect(
            self.market.ws_url(path, query), additional_headers=headers, compression=None, **options
        ) as socket:
            yield Wire(socket)

    async def whoami(self, query: str = "vsn=2.0.0", **options: Any) -> str:
        """The agent that a socket acts as."""
        async with self.open(query, **options) as wire:
            response = await wire.join(DISCOVERY)
            agent_id: str = response["agent_id"]
            return agent_id

    async def refusal(self, query: str = "vsn=2.0.0", **options: Any) -> tuple[int, str]:
        """Status and code of a handshake that is refused."""
        with pytest.raises(InvalidStatus) as no:
            async with self.open(query, **options):
                pass
        response = no.value.response
        assert response.headers["content-type"] == "application/json"
        assert response.body is not None
        error = httpx.Response(200, content=bytes(response.body)).json()["error"]
        assert {"code", "message", "request_id"} <= error.keys()
        assert error["message"]
        assert error["request_id"]
        return response.status_code, error["code"]


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    with watched(tmp_path_factory.mktemp("doors") / "var", AGRENTING_BAD_CREDENTIALS_BURST="1000") as market:
        yield Doors(market)


@pytest.mark.parametrize("path", [*AGENT_PATHS, *USER_PATHS])
async def test_every_path_opens_a_socket(doors: Doors, path: str) -> None:
    headers = {"x-api-key": doors.anna.api_key}

    assert await doors.whoami(path=path, headers=headers) == doors.anna.id


@pytest.mark.parametrize("name", ["api_key", "token", "session_token"])
@pytest.mark.parametrize("is_session", [False, True])
async def test_a_key_or_a_session_token_in_the_query_opens_a_socket(
    doors: Doors, name: str, *, is_session: bool
) -> None:
    secret = doors.market.token(doors.anna.api_key) if is_session else doors.anna.api_key

    assert await doors.whoami(f"vsn=2.0.0&{name}={quote(secret)}") == doors.anna.id


@pytest.mark.parametrize("name", ["x-api-key", "x-auth-token", "authorization", "AUTHORIZATION"])
@pytest.mark.parametrize("is_session", [False, True])
async def test_a_key_or_a_session_token_in_a_header_opens_a_socket(
    doors: Doors, name: str, *, is_session: bool
) -> None:
    secret = doors.market.token(doors.anna.api_key) if is_session else doors.anna.api_key
    value = f"Bearer {secret}" if name.lower() == "authorization" else secret

    assert await doors.whoami(headers={name: value}) == doors.anna.id


async def test_phoenix_auth_token_travels_as_a_subprotocol_and_the_answer_names_phoenix(doors: Doors) -> None:
    encoded = base64.urlsafe_b64encode(doors.anna.api_key.encode()).decode().rstrip("=")

    async with doors.open(subprotocols=["phoenix", f"base64url.bearer.phx.{encoded}"]) as wire:
        assert wire.socket.subprotocol == "phoenix"
        assert (await wire.join(DISCOVERY))["agent_id"] == doors.anna.id


async def test_an_auth_token_that_cannot_be_read_is_refused(doors: Doors) -> None:
    assert await doors.refusal(subprotocols=["phoenix", "base64url.bearer.phx.A"]) == (403, "invalid_credential")


async def test_an_unknown_subprotocol_is_accepted_and_none_is_selected(doors: Doors) -> None:
    headers = {"x-api-key": doors.anna.api_key}
    async with doors.open(headers=headers, subprotocols=["mqtt"]) as wire:
        assert wire.socket.subprotocol is None


async def test_offered_compression_is_declined(doors: Doors) -> None:
    async with connect(
        doors.market.ws_url(query="vsn=2.0.0"), additional_headers={"x-api-key": doors.anna.api_key}
    ) as socket:
        assert socket.response is not None
        assert "Sec-WebSocket-Extensions" not in socket.response.headers


async def test_the_same_credential_twice_is_one(doors: Doors) -> None:
    key = doors.anna.api_key
    assert await doors.whoami(f"vsn=2.0.0&api_key={key}&token={key}", headers={"x-api-key": key}) == doors.anna.id


async def test_a_key_and_its_own_session_agree(doors: Doors) -> None:
    token = doors.market.token(doors.anna.api_key)
    assert await doors.whoami(f"vsn=2.0.0&token={token}", headers={"x-api-key": doors.anna.api_key}) == doors.anna.id


@pytest.mark.parametrize("path", [*AGENT_PATHS, *USER_PATHS])
async def test_two_credentials_that_disagree_are_refused(doors: Doors, path: str) -> None:
    query = f"vsn=2.0.0&api_key={doors.anna.api_key}"
    answer = await doors.refusal(query, path=path, headers={"x-api-key": doors.bob.api_key})
    assert answer == (403, "credentials_disagree")

    query += f"&api_key={doors.bob.api_key}"
    assert await doors.refusal(query, path=path) == (403, "credentials_disagree")


@pytest.mark.parametrize("path", AGENT_PATHS)
async def test_an_owners_key_acts_as_the_agent_that_it_names(doors: Doors, path: str) -> None:
    headers = {"x-api-key": doors.alice["api_key"]}
    for agent in (doors.anna, doors.albert):
        assert await doors.whoami(f"vsn=2.0.0&agent_id={agent.id}", path=path, headers=headers) == agent.id


async def test_a_session_for_an_owner_acts_as_the_agent_that_it_names(doors: Doors) -> None:
    token = doors.market.token(doors.alice["api_key"])
    query = f"vsn=2.0.0&token={token}&agent_id={doors.albert.id}"
    assert await doors.whoami(query) == doors.albert.id


@pytest.mark.parametrize("path", USER_PATHS)
async def test_the_user_socket_takes_a_token_of_just_the_agent_that_is_named(doors: Doors, path: str) -> None:
    own = doors.market.token(doors.albert.api_key)
    assert await doors.whoami(f"vsn=2.0.0&token={own}&agent_id={doors.albert.id}", path=path) == doors.albert.id

    owners = doors.market.token(doors.alice["api_key"])
    query = f"vsn=2.0.0&token={owners}&agent_id={doors.albert.id}"
    assert await doors.refusal(query, path=path) == (403, "wrong_agent")


@pytest.mark.parametrize("path", [*AGENT_PATHS, *USER_PATHS])
@pytest.mark.parametrize("of", ["agent", "owner", "session"])
async def test_a_foreign_agent_id_is_refused_on_every_socket(doors: Doors, path: str, of: str) -> None:
    secret = {
        "agent": doors.anna.api_key,
        "owner": doors.alice["api_key"],
        "session": doors.market.token(doors.anna.api_key),
    }[of]
    query = f"vsn=2.0.0&token={secret}&agent_id={doors.bob.id}"

    assert await doors.refusal(query, path=path) == (403, "wrong_agent")


async def test_a_token_of_a_sibling_does_not_open_the_user_socket_of_another_agent(doors: Doors) -> None:
    token = doors.market.token(doors.albert.api_key)
    query = f"token={token}&agent_id={doors.anna.id}"
    assert await doors.refusal(query, path="/user_socket/websocket") == (403, "wrong_agent")


@pytest.mark.parametrize("path", [*AGENT_PATHS, *USER_PATHS])
async def test_no_credential_is_refused(doors: Doors, path: str) -> None:
    assert await doors.refusal(path=path) == (403, "missing_credential")


@pytest.mark.parametrize(
    "secret",
    ["agk_wrong", "", "x" * 1_000, "ags_wrong", "ä", "%00", "'; DROP TABLE agents; --"],
    ids=lambda secret: repr(secret)[:12],
)
async def test_a_bad_credential_is_refused(doors: Doors, secret: str) -> None:
    answer = await doors.refusal(f"vsn=2.0.0&api_key={quote(secret)}")
    assert answer in {(403, "invalid_credential"), (403, "missing_credential")}


async def test_a_good_credential_beside_a_bad_one_is_refused(doors: Doors) -> None:
    answer = await doors.refusal("vsn=2.0.0&api_key=agk_wrong", headers={"x-api-key": doors.anna.api_key})
    assert answer == (403, "invalid_credential")


async def test_a_rotated_key_and_its_session_are_refused(doors: Doors) -> None:
    account = doors.market.agent("alice", "Rotated")
    token = doors.market.token(account.api_key)
    new = doors.market.here("key", "rotate", account.handle)["api_key"]

    for query in (f"vsn=2.0.0&api_key={account.api_key}", f"vsn=2.0.0&token={token}"):
        assert await doors.refusal(query) == (403, "invalid_credential")
    assert await doors.whoami(headers={"x-api-key": new}) == account.id


async def test_a_session_that_is_over_is_refused(doors: Doors) -> None:
    token = doors.market.token(doors.anna.api_key)
    with doors.market.rest(None) as rest:
        assert rest.delete("/api/v1/auth/logout", headers={"authorization": f"Bearer {token}"}).is_success

    assert await doors.refusal(f"vsn=2.0.0&token={token}") == (403, "invalid_credential")


async def test_a_banned_agent_is_refused_and_a_suspended_one_connects(doors: Doors) -> None:
    suspended, banned = doors.market.agent("alice", "Suspended"), doors.market.agent("alice", "Banned")
    doors.market.here("agent", "suspend", suspended.handle)
    with closing(sqlite3.connect(doors.market.data_dir / "agrenting.sqlite3")) as database, database:
        changed = database.execute(
            "UPDATE agents SET status = 'banned', state = json_set(state, '$.status', 'banned') WHERE id = ?",
            [banned.id],
        )
        assert changed.rowcount == 1

    assert await doors.whoami(headers={"x-api-key": suspended.api_key}) == suspended.id
    assert await doors.refusal(headers={"x-api-key": banned.api_key}) == (403, "agent_banned")
    owner = {"x-api-key": doors.alice["api_key"]}
    assert await doors.refusal(f"agent_id={banned.id}", headers=owner) == (403, "agent_banned")


@pytest.mark.parametrize("vsn", ["2.0.0", "2.0.9", "1.0.0", "1.0.7"])
async def test_a_full_version_of_either_protocol_is_accepted(doors: Doors, vsn: str) -> None:
    async with doors.market.wire(doors.anna, vsn=vsn) as wire:
        await wire.is_alive()


async def test_without_vsn_a_socket_speaks_v1(doors: Doors) -> None:
    async with doors.open("", headers={"x-api-key": doors.anna.api_key}) as wire:
        wire.is_v1 = True
        await wire.send(None, "7", "phoenix", "heartbeat")
        reply = {"status": "ok", "response": {}}
        assert await wire.receive() == {"topic": "phoenix", "event": "phx_reply", "payload": reply, "ref": "7"}


@pytest.mark.parametrize(
    "query",
    ["vsn=1.1.0", "vsn=2.1.3", "vsn=3.0.0", "vsn=2", "vsn=2.0", "vsn=", "vsn=2.0.0-rc.1", "vsn[]=2.0.0", "vsn=%20"],
)
async def test_another_version_is_refused(doors: Doors, query: str) -> None:
    assert await doors.refusal(query, headers={"x-api-key": doors.anna.api_key}) == (403, "unsupported_version")


async def test_a_query_of_too_many_fields_is_refused(doors: Doors) -> None:
    query = "&".join(f"a{number}=1" for number in range(100))
    status, _ = await doors.refusal(query, headers={"x-api-key": doors.anna.api_key})
    assert status == 403


async def test_a_foreign_origin_is_refused_and_our_own_is_not(doors: Doors) -> None:
    headers = {"x-api-key": doors.anna.api_key}
    for origin in ("https://evil.example", "null", doors.market.url + ".evil.example"):
        refusal = await doors.refusal(headers={**headers, "Origin": origin})
        assert refusal == (403, "origin_not_allowed")
    assert await doors.whoami(headers={**headers, "Origin": doors.market.url}) == doors.anna.id


async def test_on_conflict_reject_refuses_a_second_socket_of_an_agent(doors: Doors) -> None:
    account = doors.market.agent("alice", "Only One")
    headers = {"x-api-key": account.api_key}
    async with doors.open(headers=headers) as first:
        await first.is_alive()
        refusal = await doors.refusal("vsn=2.0.0&on_conflict=reject", headers=headers)
        assert refusal == (409, "connection_conflict")
        assert await doors.whoami(headers=headers) == account.id  # Without the wish there may be two.
    # The close was answered, so the server has let go of it.
    assert await doors.whoami("vsn=2.0.0&on_conflict=reject", headers=headers) == account.id


async def test_who_only_watches_keeps_no_agent_from_connecting(doors: Doors) -> None:
    account = doors.market.agent("alice", "Watched")
    headers = {"x-api-key": account.api_key}
    async with doors.open("vsn=2.0.0&watch=true", headers=headers) as watching:
        await watching.is_alive()
        async with doors.open("vsn=2.0.0&on_conflict=reject", headers=headers) as first:
            await first.is_alive()
            refusal = await doors.refusal("vsn=2.0.0&on_conflict=reject", headers=headers)
            assert refusal == (409, "connection_conflict")


async def test_a_get_without_upgrade_and_another_method_are_answered_in_words(doors: Doors) -> None:
    with doors.market.rest(doors.anna.api_key) as rest:
        for path in (*AGENT_PATHS, *USER_PATHS):
            for answer in (rest.get(path), rest.post(path), rest.delete(path)):
                assert answer.status_code in {400, 405}, answer.text
                assert answer.json()["error"]["code"]


@pytest.mark.parametrize(
    "headers",
    [
        b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n",
        b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: short\r\nSec-WebSocket-Version: 13\r\n",
        UPGRADE + b"Sec-WebSocket-Version: 7\r\n",
        b"Upgrade: h2c\r\nConnection: Upgrade\r\n",
        UPGRADE + b"Sec-WebSocket-Version: 13\r\nX-Odd: \xff\xfe\r\n",
    ],
    ids=["no key", "bad key", "old version", "another protocol", "bytes in a header"],
)
async def test_a_broken_upgrade_is_answered_with_a_status(doors: Doors, headers: bytes) -> None:
    request = b"GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nHost: a\r\n" + headers + b"\r\n"

    answer = await http_exchange(doors.market.address, request.replace(b"Host: a", b"Host: a\r\nConnection: close"))

    assert answer.startswith(b"HTTP/1.1 4"), answer
    async with doors.market.wire(doors.anna) as wire:
        await wire.is_alive()


@pytest.mark.parametrize("size", [10_000, 40_000])
async def test_a_handshake_whose_line_is_too_long_is_answered(doors: Doors, size: int) -> None:
    request = (
        f"GET /socket/websocket?vsn=2.0.0&token={'x' * size} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )

    answer = await http_exchange(doors.market.address, request.encode())

    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "malformed"


async def test_a_client_that_leaves_during_the_handshake_disturbs_nobody(doors: Doors) -> None:
    host, port = doors.market.address
    key = doors.anna.api_key
    request = (
        f"GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nx-api-key: {key}\r\n\r\n"
    ).encode()
    for cut in [*range(10, len(request), 40), *[len(request)] * 20]:
        _, writer = await asyncio.open_connection(host, port)
        writer.write(request[:cut])
        await writer.drain()
        writer.transport.abort()
    async with doors.market.wire(doors.anna) as wire:
        await wire.is_alive()


async def test_too_many_bad_tries_from_one_address_are_limited(tmp_path_factory: pytest.TempPathFactory) -> None:
    settings = {"AGRENTING_BAD_CREDENTIALS_BURST": "3", "AGRENTING_BAD_CREDENTIALS_PER_S": "0.001"}
    with watched(tmp_path_factory.mktemp("tries") / "var", **settings) as market:
        doors = Doors(market)
        for _ in range(3):
            assert await doors.refusal(headers={"x-api-key": "agk_wrong"}) == (403, "invalid_credential")

        with pytest.raises(InvalidStatus) as no:
            async with doors.open(headers={"x-api-key": "agk_wrong"}):
                pass

        assert no.value.response.status_code == 429
        assert int(no.value.response.headers["retry-after"]) > 0
        assert await doors.whoami(headers={"x-api-key": doors.anna.api_key}) == doors.anna.id


async def test_too_many_connects_from_one_address_are_limited(tmp_path_factory: pytest.TempPathFactory) -> None:
    settings = {"AGRENTING_CONNECTS_BURST": "2", "AGRENTING_CONNECTS_PER_S": "0.001"}
    with watched(tmp_path_factory.mktemp("connects") / "var", **settings) as market:
        doors = Doors(market)
        headers = {"x-api-key": doors.anna.api_key}
        for _ in range(2):
            assert await doors.whoami(headers=headers) == doors.anna.id

        assert await doors.refusal(headers=headers) == (429, "rate_limited")


def test_an_account_is_what_the_command_line_made(doors: Doors) -> None:
    """The fixtures stand for real agents: their keys are remembered as secrets."""
    assert isinstance(doors.anna, AgentAccount)
    assert {doors.anna.api_key, doors.bob.api_key, doors.alice["api_key"]} <= doors.market.secrets
