"""Agents whose server, connection or topic goes away: they come again by themselves, and nothing is lost or doubled."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from agrenting.client import Disconnected, RefusedByServer, RestClient, TopicEnded
from agrenting.client.backoff import Backoff
from agrenting.client.connection import Connection, State
from agrenting.client.kept_task import KeptTask
from agrenting.client.kept_topic import JOINED, KeptTopic
from tests.system.conftest import ECHO_ROOM
from tests.system.halls import Ground
from tests.system.harness import AgentAccount, MarketProcess
from tests.system.raw import Wire

QUICK = Backoff(first_s=0.02, most_s=0.5)
CHUNKS = tuple(b"line %d;" % n if n % 2 else b"\xff%d\x00" % n for n in range(200))
"""Half of them are text, half go in binary frames."""


class Pair:
    """Alice, who hires, and Bob, who translates, each with a connection and a task between them."""

    def __init__(self, market: MarketProcess, alice: AgentAccount, bob: AgentAccount) -> None:
        self.market = market
        self.alice = Connection(market.url, alice.api_key, backoff=QUICK)
        self.bob = Connection(market.url, bob.api_key, backoff=QUICK)
        self.rest = RestClient(market.url, alice.api_key, backoff=QUICK)
        self.provider = bob

    async def tasks(self) -> tuple[KeptTask, KeptTask]:
        """A new task, as the two see it."""
        body = {"provider_agent_id": self.provider.id, "capability": "translate", "max_price": 1_000}
        task = await self.rest.post("/tasks", body, idempotency_key=f"task {random.random()}")
        client = KeptTask(self.alice, task["id"], role="client")
        provider = KeptTask(self.bob, task["id"], role="provider")
        await client.join()
        await provider.join()
        return client, provider


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MarketProcess]:
    """One server for all, which some tests kill and start again at its address."""
    process = MarketProcess(tmp_path_factory.mktemp("agents") / "var", **ECHO_ROOM, AGRENTING_DRAIN_S="0.5").start()
    yield process
    assert process.stop() == 0, "\n".join(process.log)


@pytest.fixture
async def pair(market: MarketProcess, request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    name = f"{hash(request.node.name) % 10**9}"
    market.user(f"alice-{name}")
    market.user(f"bob-{name}")
    alice = market.agent(f"alice-{name}", "Client", deposit=1_000_000)
    bob = market.agent(f"bob-{name}", "Translator", "--capability", "translate=1000", "--global")
    made = Pair(market, alice, bob)
    async with made.alice, made.bob, made.rest:
        yield made


async def work(task: KeptTask, note: Callable[[int], None]) -> None:
    """Bob gives each chunk back as it comes."""
    number = 0
    while (chunk := await task.next_chunk()) is not None:
        await task.send(chunk[::-1])
        number += 1
        note(number)
    await task.close()
    await task.push("complete", {"result": number})


async def send(task: KeptTask) -> None:
    for chunk in CHUNKS:
        await task.send(chunk)
    await task.close()


async def take(task: KeptTask) -> list[bytes]:
    taken: list[bytes] = []
    while (chunk := await task.next_chunk()) is not None:
        taken.append(chunk)
    return taken


async def run(client: KeptTask, provider: KeptTask, note: Callable[[int], None]) -> None:
    """One task sends, one takes, one waits for the end; what comes is what the other side has sent."""
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(work(provider, note))
        group.create_task(send(client))
        taken = group.create_task(take(client))
        ended = group.create_task(client.end())
    assert taken.result() == [chunk[::-1] for chunk in CHUNKS]
    assert ended.result()["status"] == "completed"
    assert ended.result()["result"] == len(CHUNKS)


async def test_a_server_that_is_killed_in_the_middle_loses_and_doubles_nothing(pair: Pair) -> None:
    client, provider = await pair.tasks()
    ground = Ground(pair.market)

    await run(client, provider, lambda number: ground.kill() if number in {40, 120} else None)

    assert ground.kills == 2
    assert client.streamed.joins >= 3
    await ground.is_up()


async def test_connections_that_are_cut_at_any_moment_lose_and_double_nothing(pair: Pair) -> None:
    client, provider = await pair.tasks()
    sockets = [await pair.alice.socket(), await pair.bob.socket()]
    cuts = 0

    def note(number: int) -> None:
        nonlocal cuts
        if number % 25 == 0:
            cuts += 1
            sockets[cuts % 2].abort()

    async def follow(connection: Connection, place: int) -> None:
        async for state in connection.states():
            if state is State.CONNECTED:
                sockets[place] = await connection.socket()

    following = [asyncio.create_task(follow(c, n)) for n, c in enumerate((pair.alice, pair.bob))]
    await run(client, provider, note)
    for one in following:
        one.cancel()
    await asyncio.gather(*following, return_exceptions=True)

    assert cuts == 8
    assert client.streamed.joins + provider.streamed.joins >= 5


async def test_chunks_in_binary_frames_and_in_base64_are_the_same_chunks(pair: Pair) -> None:
    client, provider = await pair.tasks()
    topic = f"task:{client.id}"
    await provider.leave()

    async with pair.market.client(pair.provider.api_key) as bob:
        await bob.join(topic, {"input_from": 0})
        await client.send(b"\xff\xfe")
        await client.send(b"text")
        await client.close()
        heard = [await bob.expect("input_stream"), await bob.expect("input_stream")]
        await bob.push(topic, "output_stream", {"seq": 0, "chunk": "AP8=", "encoding": "base64"})
        chunk = await client.next_chunk()
    await provider.join()

    assert [(one["chunk"], one["encoding"]) for one in heard] == [("//4=", "base64"), ("text", "utf8")]
    assert chunk == b"\x00\xff"
    assert await take(provider) == [b"\xff\xfe", b"text"]
    await provider.flush()
    assert provider.streamed.outgoing.position.seq == 1  # What another program had sent is heard, and known.


async def test_a_peer_that_speaks_v1_gets_and_gives_the_same_bytes(pair: Pair) -> None:
    client, provider = await pair.tasks()
    topic = f"task:{client.id}"
    address = pair.market.socket_url.replace("vsn=2.0.0", "vsn=1.0.0")

    async with connect(address, additional_headers={"x-api-key": pair.provider.api_key}, compression=None) as socket:
        bob = Wire(socket, "1.0.0")
        await bob.join(topic, payload={"input_from": 0})
        await client.send(b"\xff\xfe")
        heard = (await bob.receive_event("input_stream"))["payload"]
        await bob.send(None, "2", topic, "output_stream", {"seq": 0, "chunk": "AP8=", "encoding": "base64"})
        chunk = await client.next_chunk()

    assert (heard["chunk"], heard["encoding"]) == ("//4=", "base64")
    assert chunk == b"\x00\xff"
    assert await provider.next_chunk() == b"\xff\xfe"


async def test_a_revoked_key_ends_the_connection_with_the_servers_refusal_for_all_who_wait(pair: Pair) -> None:
    _client, provider = await pair.tasks()
    room = KeptTopic(pair.bob, "room:1", lambda: {"presence": False})
    await room.join()
    asks = (provider.next_chunk, room.next_event, lambda: pair.bob.repeat(lambda: room.push("ignore")))
    waiting = [asyncio.create_task(ask()) for ask in asks]

    with pair.market.rest(pair.provider.api_key) as rest:
        (key,) = (await asyncio.to_thread(rest.get, "/api/v1/keys")).json()["data"]
        assert (await asyncio.to_thread(rest.delete, f"/api/v1/keys/{key['id']}")).is_success

    for one in waiting:
        with pytest.raises(RefusedByServer, match="invalid_credential"):
            await asyncio.wait_for(one, 30)
    for again in (pair.bob.socket, lambda: room.push("echo"), lambda: provider.send(b"x")):
        with pytest.raises(RefusedByServer, match="invalid_credential"):
            await again()
    assert pair.bob.state is State.CLOSED
    assert pair.alice.state is State.CONNECTED


async def test_a_wrong_key_is_told_at_once_and_closes_the_connection(market: MarketProcess) -> None:
    connection = Connection(market.url, "agk_mallory")

    with pytest.raises(RefusedByServer, match="invalid_credential"):
        await connection.open()

    assert connection.state is State.CLOSED
    await connection.close()


async def test_agents_wait_while_their_server_restarts_and_go_on_when_it_is_back(pair: Pair) -> None:
    room = KeptTopic(pair.alice, "room:1", lambda: {"presence": False})
    await room.join()

    async def watch() -> list[State]:
        return [state async for state in pair.alice.states()]

    watching = asyncio.create_task(watch())
    port = pair.market.url.rpartition(":")[2]
    assert await asyncio.to_thread(pair.market.stop) == 0
    pushing = asyncio.create_task(room.push("echo", {"n": 1}))
    await asyncio.to_thread(pair.market.start, port)

    assert await asyncio.wait_for(pushing, 60) == {"n": 1}
    assert await room.next_event(10) == (JOINED, {})
    assert (await pair.rest.get("/meta"))["currency"] == "USD"
    await pair.alice.close()
    assert await watching == [State.CONNECTED, State.RECONNECTING, State.CONNECTED, State.CLOSED]


async def test_a_crash_of_a_topic_is_joined_again_and_a_push_that_causes_it_is_given_up(pair: Pair) -> None:
    room, other = KeptTopic(pair.alice, "room:1", lambda: {"presence": False}), KeptTopic(pair.alice, "room:2")
    await room.join()
    await other.join()

    with pytest.raises(TopicEnded, match="channel_crash"):
        await room.push("crash")

    assert await room.next_event(10) == (JOINED, {})
    assert await room.push("echo", {"n": 2}) == {"n": 2}
    assert await other.push("echo", {"n": 3}) == {"n": 3}
    assert pair.alice.state is State.CONNECTED


async def test_what_waits_on_a_join_that_is_dropped_hears_why_and_the_next_join_does_not_change_it(pair: Pair) -> None:
    socket = await pair.alice.socket()
    topic = await socket.join("room:1")
    waiting = asyncio.create_task(topic.push("echo", {"n": 1}))
    await asyncio.sleep(0)  # It is sent, and no reply can have come yet.

    socket.drop(topic, TopicEnded("it is joined anew", "relay_void"))
    again = await socket.join("room:1")

    with pytest.raises(TopicEnded, match="it is joined anew") as ended:
        await waiting
    assert ended.value.reason == "relay_void"
    assert isinstance(topic.ended, TopicEnded)
    assert topic.ended.reason == "relay_void"
    assert await again.push("echo", {"n": 2}) == {"n": 2}


async def test_a_frame_that_is_too_large_is_refused_before_it_is_sent(pair: Pair) -> None:
    room = KeptTopic(pair.alice, "room:1")
    await room.join()
    socket = await pair.alice.socket()

    with pytest.raises(RefusedByServer, match="invalid_payload"):
        await room.push("echo", {"text": "x" * 1_100_000})

    assert await room.push("echo", {"n": 1}) == {"n": 1}
    assert await pair.alice.socket() is socket


async def test_a_frame_that_the_server_does_not_take_is_given_up_and_the_agent_lives_on(pair: Pair) -> None:
    room = KeptTopic(pair.alice, "room:1")
    (await pair.alice.socket()).sent_bytes_max = pair.alice.sent_bytes_max = 2_000_000  # More than the server takes.

    with pytest.raises(Disconnected, match="1009"):
        await room.push("echo", {"text": "x" * 1_100_000})

    assert await room.push("echo", {"n": 2}) == {"n": 2}


async def test_what_was_said_too_often_is_waited_for(tmp_path: Path) -> None:
    slow = {"AGRENTING_CONTROL_PER_S": "4", "AGRENTING_CONTROL_BURST": "4", "AGRENTING_JOINS_BURST": "2"}
    market = MarketProcess(tmp_path / "var", **ECHO_ROOM, **slow, AGRENTING_JOINS_PER_S="4").start()
    try:
        alice, _bob = await asyncio.to_thread(market.pair)
        async with Connection(market.url, alice.api_key) as connection, RestClient(market.url, alice.api_key) as rest:
            rooms = [KeptTopic(connection, f"room:{n}") for n in range(3)]
            for room in rooms:
                await room.join()
            answers = await asyncio.gather(*(rooms[0].push("echo", {"n": n}) for n in range(7)))
            told = [await rest.get("/agent/me") for _ in range(6)]
    finally:
        assert market.stop() == 0

    assert answers == [{"n": n} for n in range(7)]
    assert len(told) == 6


async def test_many_agents_of_one_program_are_all_back_after_a_kill(pair: Pair) -> None:
    market, key = pair.market, pair.provider.api_key
    connections = [Connection(market.url, key, backoff=QUICK) for _ in range(30)]
    rooms = [KeptTopic(one, "room:1", lambda: {"presence": False}) for one in connections]
    ground = Ground(market)

    async with asyncio.timeout(30):
        await asyncio.gather(*(one.open() for one in connections))
        await asyncio.gather(*(room.join() for room in rooms))
        ground.kill()
        told = await asyncio.gather(*(room.next_event() for room in rooms))
        await ground.is_up()
        await asyncio.gather(*(one.close() for one in connections))

    assert told == [(JOINED, {})] * 30


async def test_lists_are_read_page_by_page(pair: Pair) -> None:
    tasks = [(await pair.tasks())[0] for _ in range(5)]
    await tasks[0].send(b"a")
    await tasks[0].send(b"b")
    await tasks[0].send(b"c")
    await tasks[0].flush()

    listed = [task["id"] async for task in pair.rest.items("/tasks", limit=2, role="client")]
    chunks = pair.rest.items(f"/tasks/{tasks[0].id}/chunks", by="from", limit=1, direction="input")

    assert listed == [task.id for task in reversed(tasks)]
    assert [chunk["seq"] async for chunk in chunks] == [0, 1, 2]
