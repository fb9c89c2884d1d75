"""A connection over losses and refusals, against a server whose part each test plays itself."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus

import pytest
from websockets.datastructures import Headers
from websockets.http11 import Response

from agrenting.client import Disconnected, NoAnswer, RefusedByServer
from agrenting.client.backoff import Backoff
from agrenting.client.connection import Connection, State
from agrenting.client.keys import ApiKey
from tests.agrenting.client_theatre import Theatre, playing

KEY = "agk_alices-key"
QUICK = Backoff(first_s=0.001, most_s=0.005)
HEARTBEAT_S = 0.4


@pytest.fixture
async def theatre() -> AsyncIterator[Theatre]:
    async with playing() as opened:
        yield opened


@pytest.fixture
async def alice(theatre: Theatre) -> AsyncIterator[Connection]:
    async with Connection(theatre.url, KEY, backoff=QUICK) as connection:
        yield connection


def refusal(status: HTTPStatus, code: str | None, **headers: str) -> Response:
    body = b"<html>" if code is None else json.dumps({"error": {"code": code, "message": "No."}}).encode()
    return Response(status, status.phrase, Headers({name.replace("_", "-"): v for name, v in headers.items()}), body)


async def until(connection: Connection, state: State) -> None:
    async with asyncio.timeout(30):
        async for told in connection.states():
            if told is state:
                return


async def test_a_lost_connection_is_opened_again_and_each_state_is_told(theatre: Theatre) -> None:
    told: list[State] = []
    connection = Connection(theatre.url, KEY, backoff=QUICK, on_state=told.append)

    async with connection:
        first = await connection.socket()
        watched = connection.states()
        seen = [await anext(watched)]
        await (await theatre.stage()).connection.close(1012, "service restart")
        await theatre.stage()
        second = await connection.socket()
        seen += [await anext(watched), await anext(watched)]
    seen += [state async for state in watched]

    assert first is not second
    assert not first.is_open
    assert told == [State.CONNECTING, State.CONNECTED, State.RECONNECTING, State.CONNECTED, State.CLOSED]
    assert seen == [*told[1:]]
    with pytest.raises(Disconnected, match="closed"):
        await connection.socket()


async def test_who_gives_up_waiting_for_a_state_hears_the_next_ones_from_when_it_asked(theatre: Theatre) -> None:
    connection = Connection(theatre.url, KEY, backoff=QUICK)
    states = connection.states()
    async with connection:
        assert [await anext(states), await anext(states)] == [State.CONNECTING, State.CONNECTED]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(states), 0.001)

    assert [state async for state in states] == [State.CLOSED]
    assert [state async for state in connection.states()] == [State.CLOSED]


async def test_every_socket_of_a_connection_says_that_it_is_the_same_program(theatre: Theatre) -> None:
    async with Connection(theatre.url, ApiKey(KEY), agent_id="alice", backoff=QUICK) as connection:
        first = await theatre.stage()
        (await connection.socket()).abort()
        second = await theatre.stage()

    assert first.request.path == second.request.path
    assert first.request.path.endswith(f"?vsn=2.0.0&agent_id=alice&instance_id={connection.instance_id}")
    assert first.request.headers["x-api-key"] == KEY


async def test_the_first_opening_is_tried_once(theatre: Theatre) -> None:
    theatre.refusal = refusal(HTTPStatus.SERVICE_UNAVAILABLE, "draining")
    connection = Connection(theatre.url, KEY, backoff=QUICK)
    waiting = asyncio.create_task(connection.socket())

    with pytest.raises(RefusedByServer, match="draining"):
        await connection.open()

    with pytest.raises(RefusedByServer, match="draining"):
        await waiting
    assert (connection.state, theatre.asked) == (State.CLOSED, 1)
    theatre.refusal = None
    async with connection:  # Who has mended it may open it after all.
        assert connection.state is State.CONNECTED


@pytest.mark.parametrize(
    "passing",
    [
        refusal(HTTPStatus.SERVICE_UNAVAILABLE, "draining"),
        refusal(HTTPStatus.TOO_MANY_REQUESTS, "rate_limited", retry_after="0"),
        refusal(HTTPStatus.CONFLICT, "connection_conflict"),
        refusal(HTTPStatus.BAD_GATEWAY, None),
        refusal(HTTPStatus.FORBIDDEN, None),
        refusal(HTTPStatus.FOUND, None, location="http://127.0.0.1:9/elsewhere"),
    ],
    ids=lambda response: f"{response.status_code}",
)
async def test_a_refusal_that_passes_is_waited_for(theatre: Theatre, alice: Connection, passing: Response) -> None:
    stage = await theatre.stage()
    theatre.refusal, theatre.asked = passing, 0

    await stage.connection.close()
    await theatre.until_asked(3)
    assert alice.state is State.RECONNECTING
    theatre.refusal = None

    assert (await alice.socket()).is_open


async def test_what_the_server_says_how_long_to_wait_is_waited(theatre: Theatre, alice: Connection) -> None:
    stage = await theatre.stage()
    theatre.refusal, theatre.asked = refusal(HTTPStatus.TOO_MANY_REQUESTS, "rate_limited", retry_after="1"), 0
    await stage.connection.close()
    await theatre.until_asked(1)
    refused_at = asyncio.get_running_loop().time()
    theatre.refusal = None

    await theatre.stage()

    assert asyncio.get_running_loop().time() - refused_at > 0.9


@pytest.mark.parametrize("code", ["invalid_credential", "agent_banned", "wrong_agent", "unsupported_version"])
async def test_a_refusal_for_good_is_told_to_everybody_who_waits(
    theatre: Theatre, alice: Connection, code: str
) -> None:
    theatre.refusal = refusal(HTTPStatus.FORBIDDEN, code)
    stage = await theatre.stage()
    theatre.holds.clear()
    await stage.connection.close(1001, "disconnected")
    await until(alice, State.RECONNECTING)
    waiting = [asyncio.create_task(alice.socket()) for _ in range(3)]

    theatre.holds.set()

    for one in (*waiting, alice.socket()):
        with pytest.raises(RefusedByServer, match=code):
            await one
    assert alice.state is State.CLOSED


async def test_a_session_that_has_expired_is_not_tried_again(theatre: Theatre, alice: Connection) -> None:
    theatre.asked = 0
    await (await theatre.stage()).connection.close(1008, "the session has expired")
    await until(alice, State.CLOSED)

    with pytest.raises(RefusedByServer, match="invalid_credential: the session has expired"):
        await alice.socket()
    assert theatre.asked == 0


async def test_a_server_that_is_gone_is_waited_for_until_it_is_back() -> None:
    async with playing() as theatre:
        connection = Connection(theatre.url, KEY, backoff=QUICK)
        await connection.open()
        port = int(theatre.url.rpartition(":")[2])
    waiting = asyncio.create_task(connection.socket())
    await until(connection, State.RECONNECTING)

    async with playing(port):
        async with asyncio.timeout(30):
            assert (await waiting).is_open
        await connection.close()


async def test_a_server_that_does_not_answer_is_found_out_by_the_heartbeat(theatre: Theatre) -> None:
    async with Connection(theatre.url, KEY, backoff=QUICK, heartbeat_s=HEARTBEAT_S) as connection:
        mute = await theatre.stage()
        assert (await mute.hear())[3] == "heartbeat"

        living = await theatre.stage()

        socket = await connection.socket()
        for _ in range(3):
            await living.reply(await living.hear(), {})
        assert await connection.socket() is socket


@pytest.mark.parametrize("moment", ["connected", "reconnecting", "connecting again"])
async def test_closing_is_prompt_at_any_moment(theatre: Theatre, moment: str) -> None:
    slow = Backoff(90, 90, lambda: 1.0)
    connection = Connection(theatre.url, KEY, backoff=slow if moment == "reconnecting" else QUICK)
    await connection.open()
    stage = await theatre.stage()
    if moment == "connecting again":
        theatre.holds.clear()  # The handshake hangs.
    if moment != "connected":
        theatre.asked = 0
        await stage.connection.close()
        await until(connection, State.RECONNECTING)
    if moment == "connecting again":
        await theatre.until_asked(1)
    waiting = asyncio.create_task(connection.socket())
    await asyncio.sleep(0)

    async with asyncio.timeout(30):
        await connection.close()

    theatre.holds.set()
    if moment != "connected":
        with pytest.raises(Disconnected):
            await waiting
    await asyncio.gather(waiting, return_exceptions=True)
    await connection.close()
    assert len(asyncio.all_tasks()) <= 1 + theatre.open_stages


async def test_what_may_be_repeated_is_until_it_is_answered(alice: Connection) -> None:
    errors: list[Exception] = [Disconnected("lost"), NoAnswer("late")]

    async def ask() -> str:
        if errors:
            (await alice.socket()).abort()
            raise errors.pop()
        return "done"

    assert await alice.repeat(ask) == "done"
    assert not errors


async def test_nothing_is_repeated_once_the_connection_is_closed(alice: Connection) -> None:
    async def ask() -> None:
        await alice.close()
        raise Disconnected("lost")

    with pytest.raises(Disconnected, match="lost"):
        await alice.repeat(ask)
    with pytest.raises(Disconnected, match="closed"):
        await alice.repeat(ask)


async def test_an_exception_of_who_watches_the_state_ends_the_connection_and_is_not_lost(theatre: Theatre) -> None:
    def on_state(state: State) -> None:
        if state is State.RECONNECTING:
            raise ZeroDivisionError

    connection = Connection(theatre.url, KEY, backoff=QUICK, on_state=on_state)
    await connection.open()
    await (await theatre.stage()).connection.close()

    await until(connection, State.CLOSED)
    with pytest.raises(ZeroDivisionError):
        await connection.socket()
    await connection.close()


async def test_opening_twice_is_a_mistake(alice: Connection) -> None:
    with pytest.raises(RuntimeError, match="open already"):
        await alice.open()


async def test_a_connection_that_is_closed_while_it_opens_stays_closed(theatre: Theatre) -> None:
    connection = Connection(theatre.url, KEY)
    theatre.holds.clear()
    opening = asyncio.create_task(connection.open())
    await theatre.until_asked(1)

    await connection.close()
    theatre.holds.set()

    with pytest.raises(Disconnected, match="closed while it was opened"):
        await opening
    assert connection.state is State.CLOSED


@pytest.mark.parametrize("shown", [repr, str])
async def test_the_key_is_not_shown(theatre: Theatre, shown: Callable[[object], str]) -> None:
    async with Connection(theatre.url, ApiKey(KEY)) as connection:
        assert KEY not in shown(connection)
        assert KEY not in shown(vars(connection))
        assert KEY not in shown(vars(await connection.socket()))
