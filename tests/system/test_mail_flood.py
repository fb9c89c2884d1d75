"""Floods of messages, and mailboxes full of large ones: nobody else waits for them.

What takes how long is compared on the same machine at the same time; no time of a clock is asked for.
"""

import asyncio
import json
import math
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager
from statistics import median
from urllib.parse import urlsplit

import pytest
from websockets.asyncio.client import connect

from tests.system.halls import rss_bytes
from tests.system.harness import AgentAccount, MarketProcess
from tests.system.mail_halls import Mailbox, MailHall, Writer, mail_market, refused

FLOODING = {
    "AGRENTING_CONTROL_PER_S": "10",
    "AGRENTING_CONTROL_BURST": "50",
    "AGRENTING_MESSAGE_BYTES_PER_S": "16384",
    "AGRENTING_MESSAGE_BYTES_BURST": "262144",
}
SOCKETS_WORTH = 4
"""An agent's share of what a socket may."""

SAMPLES = 20
"""Twice as many are acknowledged on one socket, which has fewer than its burst then, however fast the machine is."""
FACTOR = 25
"""How many times as long as alone something may take beside a flood, of which each part takes its turn."""

MIB = 1_048_576
LARGE = 65_530
LARGE_ONES, LARGE_ONES_LONG = 400, 10_000
READERS = 3
SENDERS = 5


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MarketProcess]:
    with mail_market(tmp_path_factory.mktemp("flood") / "var", **FLOODING) as market:
        yield market


@pytest.fixture
def hall(market: MarketProcess) -> MailHall:
    return MailHall(market)


class Flood:
    """The same message again and again, on some connections: each as soon as the one before is answered."""

    def __init__(self, hall: MailHall, account: AgentAccount, body: bytes, connections: int = 6) -> None:
        parts = urlsplit(hall.market.url)
        self.host, self.port = str(parts.hostname), parts.port
        self.request = (
            f"POST /api/v1/messages HTTP/1.1\r\nHost: {self.host}\r\nx-api-key: {account.api_key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        ).encode() + body
        self.answers: Counter[tuple[int, str]] = Counter()
        self.is_refused = asyncio.Event()
        self.connections = connections

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """It flows meanwhile."""
        sending = [asyncio.create_task(self._send()) for _ in range(self.connections)]
        try:
            yield
        finally:
            for task in sending:
                task.cancel()
            for end in await asyncio.gather(*sending, return_exceptions=True):
                assert isinstance(end, asyncio.CancelledError), end

    async def _send(self) -> None:
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            while True:
                writer.write(self.request)
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split()[0])
                told = json.loads(await reader.readexactly(length))
                answer = int(head.split()[1]), told.get("error", {}).get("code", "")
                self.answers[answer] += 1
                if answer == (429, "rate_limited"):
                    self.is_refused.set()
        finally:
            writer.close()


async def latencies(alice: Writer, bob: Mailbox, count: int = SAMPLES) -> list[float]:
    """How long a message of Alice takes to Bob, from before it is sent until he has it."""
    clock = asyncio.get_running_loop().time
    taken: list[float] = []
    for number in range(count):
        began = clock()
        sending = asyncio.create_task(alice.write(number))
        message = await bob.next()
        taken.append(clock() - began)
        assert message["id"] == (await sending)["id"]
        await bob.acknowledge(message["id"])
    return taken


def message_to(account: AgentAccount, payload: object) -> bytes:
    """A message's body."""
    return json.dumps({"to_agent_id": account.id, "type": "x_spam", "payload": payload}).encode()


async def test_a_flood_of_one_sender_is_refused_and_another_pairs_messages_take_no_longer(hall: MailHall) -> None:
    """Mallory sends on some connections as soon as the answer to the one before is there, whatever it says."""
    victim = hall.agent("bob", "Victim", "--global")
    async with hall.writer(hall.alice) as alice, hall.mailbox() as bob:
        alone = await latencies(alice, bob)
        flood = Flood(hall, hall.mallory, message_to(victim, "spam"))
        async with flood.flowing():
            await flood.is_refused.wait()
            beside = await latencies(alice, bob)
        assert flood.answers.keys() == {(201, ""), (429, "rate_limited")}
        assert median(beside) < FACTOR * median(alone), f"{median(beside)} beside a flood, {median(alone)} alone"
        await alice.write("and now the victim", to=victim)
        async with hall.writer(victim) as one:
            *spam, last = await one.listed("messages")
    assert last["payload"] == "and now the victim"
    # Of what was under way at its end, the flood has not heard.
    assert 0 <= len(spam) - flood.answers[201, ""] <= flood.connections


async def test_a_flood_of_large_messages_is_refused_by_its_bytes(hall: MailHall) -> None:
    """Refused is what goes beyond the share; what was taken is not more than that."""
    async with hall.writer(hall.mallory) as mallory:
        burst = int(FLOODING["AGRENTING_MESSAGE_BYTES_BURST"]) * SOCKETS_WORTH
        taken = 0
        began = asyncio.get_running_loop().time()
        while (
            answer := await mallory.answer("POST", "messages", content=message_to(hall.bob, "x" * LARGE))
        ).is_success:
            taken += 1
            passed_s = asyncio.get_running_loop().time() - began
            per_s = int(FLOODING["AGRENTING_MESSAGE_BYTES_PER_S"]) * SOCKETS_WORTH
            assert taken * LARGE <= burst + math.ceil(passed_s) * per_s, "more than its share was taken"
        assert taken >= burst // (LARGE + 200)
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "rate_limited")
        assert int(answer.headers["retry-after"]) >= 1
        await refused(mallory.write("x" * LARGE), "rate_limited", status=429)
        await mallory.call("GET", "messages/sent?limit=1")  # Reading costs nothing of that.


# A mailbox full of large messages.


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MarketProcess]:
    """Where the rates are not what is tested."""
    with mail_market(tmp_path_factory.mktemp("wide") / "var") as market:
        yield market


async def test_a_mailbox_of_large_messages_holds_nobody_up_while_it_is_read(wide: MarketProcess) -> None:
    await read_large_mailbox(MailHall(wide), LARGE_ONES)


@pytest.mark.long
@pytest.mark.timeout(3_600)
async def test_a_full_mailbox_of_the_largest_messages_holds_nobody_up_while_it_is_read(wide: MarketProcess) -> None:
    await read_large_mailbox(MailHall(wide), LARGE_ONES_LONG)


async def read_large_mailbox(hall: MailHall, count: int) -> None:
    """The test itself: some sockets are given it at once, while another one's heart beats, and it joins."""
    await fill(hall, count)
    held = rss_bytes(hall.market)
    clock = asyncio.get_running_loop().time
    beats: list[float] = []
    joins: list[float] = []
    most = held
    async with hall.market.client(hall.carol.api_key) as carol:
        began = clock()
        reading = [asyncio.create_task(read_whole(hall, count)) for _ in range(READERS)]
        while not all(task.done() for task in reading):
            beats.append(await timed(carol.flush()))
            joins.append(await timed(carol.join(f"messages:{hall.carol.id}")))
            most = max(most, rss_bytes(hall.market))
        took = clock() - began
        ids = [task.result() for task in reading]
    assert ids == ids[:1] * READERS
    assert ids[0] == sorted(ids[0])
    # Held up until the end of it, one of these would take as long as all of it.
    assert len(beats) >= 20
    for times in (beats, joins):
        assert median(times) < took / 20, f"{median(times)} of {took}"
        assert max(times) < took / 2, f"{max(times)} of {took}"
    assert most - held < READERS * 4 * MIB + 24 * MIB, f"{(most - held) / MIB} MiB"


async def fill(hall: MailHall, count: int) -> None:
    """As many senders as a full mailbox takes write to Bob, all at once."""
    text = "x" * LARGE

    async def write_on(sender: AgentAccount) -> None:
        async with hall.writer(sender) as writer:
            for _ in range(count // SENDERS):
                await writer.write(text)

    # One owner's agents alone would not fill it.
    owners = ("alice", "carol", "mallory")
    senders = [hall.agent(owners[number % len(owners)], f"Sender {number}") for number in range(SENDERS)]
    await asyncio.gather(*(write_on(sender) for sender in senders))


async def read_whole(hall: MailHall, count: int) -> list[str]:
    """The ids of what one socket of Bob is given."""
    ids: list[str] = []
    async with connect(
        hall.market.socket_url, additional_headers={"x-api-key": hall.bob.api_key}, compression=None, max_size=None
    ) as socket:
        await socket.send(json.dumps(["1", "1", hall.topic, "phx_join", {}]))
        async for raw in socket:
            _, _, _, event, payload = json.loads(raw)
            if event == "new_message":
                assert len(payload["payload"]) == LARGE
                ids.append(payload["id"])
                if len(ids) == count:
                    return ids
    raise AssertionError(f"closed after {len(ids)}: {socket.close_code} {socket.close_reason}")


async def timed(act: Awaitable[object]) -> float:
    """How long something takes."""
    began = asyncio.get_running_loop().time()
    await act
    return asyncio.get_running_loop().time() - began
