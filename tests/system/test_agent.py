"""Agent, as an author uses it, in a real market: opening, closing, what goes wrong, and what never shows."""

import asyncio
import logging
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from agrenting.client import (
    Agent,
    ApiKey,
    Boulware,
    ClientError,
    Conceder,
    Connection,
    Disconnected,
    FolderInUse,
    Job,
    NoSigningKey,
    RefusedByServer,
    RestClient,
    SigningKey,
    State,
    WrongKey,
    WrongMarket,
)
from agrenting.client.context import AgentContext
from tests.system.harness import AgentAccount, MarketProcess


class Broken(Exception):
    """An application's own trouble."""


OWNERS = (f"alice{number}" for number in count())


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MarketProcess]:
    """One market for all: each test has an owner of its own."""
    process = MarketProcess(tmp_path_factory.mktemp("market") / "var").start()
    yield process
    assert process.stop() == 0, "\n".join(process.log)


@pytest.fixture
def alice(market: MarketProcess) -> AgentAccount:
    owner = next(OWNERS)
    market.user(owner)
    return market.agent(owner, "Reader", deposit=100_000_000)


def owner_of(account: AgentAccount) -> str:
    return account.handle.partition("/")[0]


def contents_of(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.rglob("*") if path.is_file()]


def key_of(account: AgentAccount) -> SigningKey:
    return SigningKey(account.seed)


async def test_two_agents_of_one_program_do_a_deal(market: MarketProcess, alice: AgentAccount, tmp_path: Path) -> None:
    bob = market.agent(owner_of(alice), "Mirror", "--capability", "reverse=2000000")
    worker = Agent(market.url, bob.api_key, key_of(bob), folder=tmp_path / "bob")
    client = Agent(market.url, alice.api_key, key_of(alice), folder=tmp_path / "alice")

    @worker.capability("reverse", price="3.00", strategy=Conceder(limit="1.00"))
    async def reverse(job: Job) -> str:
        return (await job.text())[::-1]

    async with worker, client:
        is_ready = asyncio.Event()
        serving = asyncio.create_task(worker.serve(on_ready=is_ready.set))
        await is_ready.wait()
        (found,) = await client.discover("reverse")
        agreement = await client.negotiate(found, "reverse", strategy=Boulware(limit="2.50"))
        async with await client.hire("reverse", agreement=agreement, data="never odd or even") as task:
            verified = await task.settle()
        balance = await client.balance()
        async with await client.hire("reverse", max_price="3.00", data="x", hold_s=0) as paid_at_once:
            assert await paid_at_once.result() == "x"
            assert paid_at_once._kept.is_left  # noqa: SLF001 - a topic that is held for nothing is seen nowhere else
        hired = [own async for own in client.tasks(status="completed")]
        worker.stop()
        await serving

    assert found.price == client.amount("3.00")  # As it was announced, not as it was registered.
    assert 1_000_000 <= agreement.amount <= 2_500_000
    assert task.state["result"] == "neve ro ddo reven"
    assert (verified.price, verified.escrow_status) == (agreement.amount, "released")
    assert balance.available == 100_000_000 - agreement.amount
    assert [(own.id, own.price, own.escrow_status) for own in hired] == [
        (paid_at_once.id, 3_000_000, "released"),
        (task.id, agreement.amount, "released"),
    ]
    assert (repr(task), repr(client)) == (f"<HiredTask {task.id}, completed>", "<Agent not open, closed>")


async def test_an_agent_tells_how_its_connection_stands(
    market: MarketProcess, alice: AgentAccount, tmp_path: Path
) -> None:
    told: list[State] = []
    agent = Agent(market.url, alice.api_key, folder=tmp_path, on_state=told.append)
    with pytest.raises(ClientError, match="the agent is not open"):
        _ = agent.id

    async with agent:
        assert (agent.state, agent.id) == (State.CONNECTED, alice.id)
        assert repr(agent) == f"<Agent {alice.handle}, connected>"

    assert told == [State.CONNECTING, State.CONNECTED, State.CLOSED]
    with pytest.raises(RuntimeError, match="opened once"):
        await agent.__aenter__()


async def test_what_the_application_raises_comes_out_as_it_is(
    market: MarketProcess, alice: AgentAccount, tmp_path: Path
) -> None:
    with pytest.raises(Broken):
        async with Agent(market.url, alice.api_key, folder=tmp_path):
            raise Broken

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2), Agent(market.url, alice.api_key, folder=tmp_path):
            await asyncio.Event().wait()


async def test_an_agent_whose_key_is_revoked_is_closed_and_says_why(
    market: MarketProcess, alice: AgentAccount, tmp_path: Path
) -> None:
    async with Agent(market.url, alice.api_key, folder=tmp_path) as agent:
        market.here("key", "rotate", alice.handle)
        states = [state async for state in agent.states()]

        with pytest.raises(RefusedByServer, match="invalid_credential"):
            await agent.discover()

    assert states[-1] is State.CLOSED


async def test_a_key_that_is_none_and_a_market_that_is_not_there_are_told_at_once(
    market: MarketProcess, alice: AgentAccount, tmp_path: Path
) -> None:
    with pytest.raises(RefusedByServer, match="invalid_credential"):
        async with Agent(market.url, "agk_no-key-of-anybody-000000000000000000000000", folder=tmp_path):
            pytest.fail("nobody is let in")

    with pytest.raises(Disconnected):
        async with Agent("http://127.0.0.1:9", alice.api_key, folder=tmp_path):
            pytest.fail("nobody is there")


async def test_the_signing_key_has_to_be_the_agent_s_own(
    market: MarketProcess, alice: AgentAccount, tmp_path: Path
) -> None:
    with pytest.raises(WrongKey, match=f"{alice.handle} is registered with the signing key"):
        async with Agent(market.url, alice.api_key, SigningKey.generate(), folder=tmp_path):
            pytest.fail("it could sign nothing")

    async with Agent(market.url, alice.api_key, folder=tmp_path) as agent:
        with pytest.raises(NoSigningKey):
            await agent.negotiate("alice/anybody", "reverse", strategy=Boulware(limit=1))


async def test_another_market_at_the_same_address_is_noticed(
    market: MarketProcess, alice: AgentAccount, tmp_path: Path
) -> None:
    with pytest.raises(WrongMarket, match="signing_domain"):
        async with Agent(market.url, alice.api_key, folder=tmp_path, signing_domain="another.market"):
            pytest.fail("it is another one")

    with pytest.raises(WrongMarket, match="signing_domain"):  # It remembers what its author knew.
        async with Agent(market.url, alice.api_key, folder=tmp_path):
            pytest.fail("it is another one")


async def test_no_secret_shows_anywhere(
    market: MarketProcess, alice: AgentAccount, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    key = key_of(alice)
    folder = tmp_path / "alice"
    agent = Agent(market.url, ApiKey(alice.api_key), key, folder=folder)

    async with agent:
        await agent.discover()
        shown = repr(agent) + repr(vars(agent)) + caplog.text

    assert alice.api_key not in shown
    assert alice.seed.hex() not in shown
    assert repr(alice.seed) not in shown
    for content in contents_of(folder):
        assert alice.api_key.encode() not in content
        assert alice.seed not in content


async def test_a_second_program_that_would_serve_the_same_agent_is_told_so(
    market: MarketProcess, alice: AgentAccount, tmp_path: Path
) -> None:
    first, second = (Agent(market.url, alice.api_key, folder=tmp_path / "alice") for _ in range(2))

    async with first, second:
        is_ready = asyncio.Event()
        serving = asyncio.create_task(first.serve(on_ready=is_ready.set))
        await is_ready.wait()
        with pytest.raises(FolderInUse, match="it serves, or pays over channels"):
            await second.serve()
        first.stop()
        await serving


async def test_what_an_agent_that_is_not_open_is_to_do_beside_is_refused_and_never_begins() -> None:
    context = AgentContext(Connection("http://127.0.0.1:9", "agk_x"), RestClient("http://127.0.0.1:9", "agk_x"))
    begun: list[str] = []

    async def work() -> None:
        begun.append("work")

    with pytest.raises(ClientError, match="the work is not done"):
        context.spawn(work(), "the work")

    assert begun == []
