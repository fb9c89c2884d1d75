"""Alice, who is lied to, and Bob, who is honest: what the tests of a lying server stand on."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from agrenting.client.acknowledging import AcknowledgeUpTo
from agrenting.client.agent import Agent
from agrenting.client.backoff import Backoff
from agrenting.client.errors import (
    LyingServer,
)
from agrenting.client.incoming_channels import AcceptChannels
from agrenting.client.job import Job
from agrenting.client.keys import SigningKey
from agrenting.client.strategies import Conceder
from crypto import format_public_key, generate_secret_key, public_key_of
from tests.system.harness import AgentAccount, MarketProcess
from tests.system.lying import Lie
from tests.system.lying import LyingServer as Liar

Json = Any
Change = Callable[[Json], Json]

CAPABILITY: Final = "mirror"
PRICE: Final = 1_000
PURSE: Final = 1_000_000
DEPOSIT: Final = 50_000
QUICK: Final = Backoff(first_s=0.01, most_s=0.05)
CHUNKS: Final = (b"one ", b"two ", b"three ", b"four")
MALLORY: Final = generate_secret_key()
MALLORYS_KEY: Final = format_public_key(public_key_of(MALLORY))

BINDING: Final = ("offer", "accept", "propose_transfer", "acknowledge_transfer", "close", "close_request", "release")
"""What binds who says it."""


class Stage:
    """Alice, who is lied to, and Bob.

    Args:
        market: The real server.
        liar: What Alice speaks with.
        alice, bob: Their agents.
        account: Alice's.
        folder: Where Alice keeps what she signs.
    """

    def __init__(
        self,
        market: MarketProcess,
        liar: Liar,
        alice: Agent,
        bob: Agent,
        *,
        account: AgentAccount,
        folder: Path,
    ) -> None:
        self.market = market
        self.liar = liar
        self.alice = alice
        self.bob = bob
        self.account = account
        self.folder = folder
        self._before: dict[str, bytes] | None = None
        self._said = 0

    @contextmanager
    def lie(self, name: str, where: str, change: Change) -> Iterator[Lie]:
        """Inside, the server lies; afterwards it does not, and nothing that should not be was signed or kept."""
        lie = Lie(where, change)
        lie.on_told = self._look
        self._before = None
        self.liar.lies[:] = [lie]
        try:
            yield lie
            self._require_untouched()
        except BaseException as error:
            error.add_note(f"the lie was: {name}")
            raise
        finally:
            self.liar.lies.clear()

    def _require_untouched(self) -> None:
        """Since the lie nothing that binds Alice was said, and nothing was written down."""
        assert self._before is not None, f"the lie was never told: {self.liar.places}"
        binding = [said for said in self.liar.said[self._said :] if said.replace("/", " ").split()[-1] in BINDING]
        assert not binding, binding
        assert self._files() == self._before

    def see(self, path: str) -> Json:
        """What the real server has."""
        with self.market.rest(self.account.api_key) as rest:
            return rest.get(f"/api/v1/{path}").raise_for_status().json()["data"]

    def _look(self) -> None:
        if self._before is None:
            self._before, self._said = self._files(), len(self.liar.said)

    def _files(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}


async def mirror(job: Job) -> AsyncIterator[bytes]:
    """Turn every chunk round."""
    async for chunk in job:
        yield chunk[::-1]


@asynccontextmanager
async def staged(market: MarketProcess, tmp_path: Path) -> AsyncIterator[Stage]:
    """Alice and Bob, connected; nothing was a lie so far."""
    number = len(list(tmp_path.parent.iterdir())) * 1_000 + next(_NUMBERS)
    client = market.agent("alice", f"Client {number}", deposit=PURSE)
    provider = market.agent("bob", f"Mirror {number}", "--capability", f"{CAPABILITY}={PRICE}", "--global")
    async with Liar(market.url) as liar, agent_of(market.url, provider, tmp_path / "bob") as bob:
        bob.accept_channels(AcceptChannels(AcknowledgeUpTo(PURSE)))
        bob.capability(CAPABILITY, price=PRICE, strategy=Conceder(limit=PRICE // 2), terms=lambda _terms: True)(mirror)
        serving = asyncio.create_task(bob.serve())
        try:
            async with agent_of(liar.url, client, tmp_path / "alice") as alice:
                yield Stage(market, liar, alice, bob, account=client, folder=tmp_path / "alice")
        finally:
            bob.stop()
            bob.stop()
            await serving


_NUMBERS = iter(range(1_000))


def agent_of(url: str, account: AgentAccount, folder: Path) -> Agent:
    return Agent(url, account.api_key, SigningKey(account.seed), folder=folder, backoff=QUICK)


@contextmanager
def exactly(kind: type[LyingServer]) -> Iterator[None]:
    """This error is raised inside, and none of its relatives."""
    with pytest.raises(kind) as found:
        yield
    assert type(found.value) is kind


def put(**members: Json) -> Change:
    """Other members."""
    return lambda told: {**told, **members}


def more(name: str, by: int = 1) -> Change:
    """A member that is more."""
    return lambda told: {**told, name: told[name] + by}


async def hired_and_settled(stage: Stage) -> None:
    """A task, from its opening to its payment."""
    task = await stage.alice.hire(CAPABILITY, provider=stage.bob.handle, max_price=PRICE + 500, data=CHUNKS)
    await task.settle()
