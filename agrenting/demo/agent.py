"""What the demo's agents have in common: how they are started, and how they tell what they do.

An agent gets its configuration as one line of JSON on standard input, because arguments can be read by others, and
tells each step as a line of JSON on standard output. SIGTERM asks it to finish the deal at hand and leave.
"""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from agrenting.client import ClientError, PhoenixSocket, RestClient, Signer
from agrenting.client.socket import OnFrame
from agrenting.demo.show import major
from crypto import parse_secret_key

T = TypeVar("T")

TURN_TIMEOUT_S: Final = 20.0
"""How long one agent waits for the other."""


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent is started with.

    Args:
        role: `client`, `provider`, `rival` or `stranger`, or a trader's handle; names its receipts.
        url: The server.
        agent_id, api_key, secret_key: Who it is; the secret key is the seed in base64.
        signing_domain: The deployment's, as the agent's author knows it.
        currency, exponent: The money unit, for showing amounts.
        owner: The handle of its owner.
        admits_up_to: What an offer or a task of whoever asks for contact may cost, in minor units; None: its owner
            answers.
        look_up_price: What a word costs that is looked up by itself, in minor units.
        word_price: What a word costs in a stream of them, in minor units.
        receipts: The folder where it keeps its receipts.
        verbose: Tell every frame.
    """

    role: str
    url: str
    agent_id: str
    api_key: str
    secret_key: str
    signing_domain: str
    currency: str
    exponent: int
    owner: str
    admits_up_to: int | None
    look_up_price: int
    word_price: int
    receipts: str
    verbose: bool


class Payment(msgspec.Struct, frozen=True, kw_only=True):
    """What was paid over a payment channel that is closed; minor units."""

    channel_id: str
    amount: int


class Deal(msgspec.Struct, frozen=True, kw_only=True):
    """A deal that is done, with its follow-ups; `price` and `fee` in minor units."""

    session_id: str
    task_id: str
    price: int
    fee: int
    payment: Payment


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What proves something offline, in files.

    Args:
        of: The id of what it proves.
        paths: The proofs.
        input, output: What a task's client sent and got, which its receipt is held against; None where it is not kept.
    """

    of: str
    paths: tuple[str, ...]
    input: str | None = None
    output: str | None = None


class Told(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line that an agent tells.

    Args:
        step: What it did, for people.
        direction, frame: A frame on its socket.
        is_ready: A provider waits for work.
        left_to_owner: The contact request that its owner is to answer.
        begins_deal: A deal begins with this step.
        receipt: It keeps a receipt.
        deal: A deal is done.
        payment: A channel is closed that belongs to no deal.
        outcome: What one errand of the living market has come to.
        is_low: It needs money to go on.
        failure: Why it gives up.
    """

    step: str = ""
    direction: str = ""
    frame: str = ""
    is_ready: bool = False
    left_to_owner: str = ""
    begins_deal: bool = False
    receipt: Receipt | None = None
    deal: Deal | None = None
    payment: Payment | None = None
    outcome: str = ""
    is_low: bool = False
    failure: str = ""


def tell(told: Told) -> None:
    """Tell the demo one thing."""
    print(msgspec.json.encode(told).decode(), flush=True)


class Actor:
    """Who plays a part in the demo, until it is asked to leave."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self._stopping = asyncio.Event()

    @property
    def is_stopping(self) -> bool:
        """Whether it has been asked to leave."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Ask it to leave once the deal at hand is done."""
        self._stopping.set()

    async def unless_stopped(self, waiting: Coroutine[Any, Any, T]) -> T | None:
        """What is waited for; None once the agent is asked to leave."""
        stopping, work = asyncio.create_task(self._stopping.wait()), asyncio.create_task(waiting)
        try:
            await asyncio.wait({stopping, work}, return_when=asyncio.FIRST_COMPLETED)
            return work.result() if work.done() else None
        finally:
            stopping.cancel()
            work.cancel()

    def money(self, amount: int) -> str:
        """An amount of minor units for people."""
        return major(amount, currency=self.configuration.currency, exponent=self.configuration.exponent)


class Agent(Actor):
    """An agent of the story: its socket, REST, and signer, so that every step can be told."""

    def __init__(self, configuration: Configuration, socket: PhoenixSocket, rest: RestClient, signer: Signer) -> None:
        super().__init__(configuration)
        self.id = configuration.agent_id
        self.socket = socket
        self.rest = rest
        self.signer = signer

    def connect(self) -> PhoenixSocket:
        """One more socket, for a stream that may be cut without taking the rest along."""
        return connection(self.configuration)

    def path_of(self, of: str, suffix: str) -> Path:
        """Where it keeps what belongs to something."""
        return Path(self.configuration.receipts) / f"{self.configuration.role.replace('/', '-')}-{of}.{suffix}"

    async def keep_receipt(self, session_id: str) -> None:
        """Fetch an agreement's receipt and keep it as a file."""
        path = await self._keep(session_id, f"/negotiations/{session_id}/receipt")
        tell(
            Told(
                step="keeps its receipt of the agreement, signed by both agents and the platform",
                receipt=Receipt(of=session_id, paths=(path,)),
            )
        )

    async def keep_task(self, task_id: str, *, sent: bytes | None = None, got: bytes | None = None) -> None:
        """Fetch a task's receipt and keep it as a file, with the input and the output beside it where they are given.

        Args:
            task_id: The task's; its price is not held any more.
            sent: The input.
            got: The output.
        """
        files: dict[str, str] = {}
        for name, content in (("input", sent), ("output", got)):
            if content is not None:
                path = self.path_of(task_id, name)
                path.write_bytes(content)
                files[name] = str(path)
        receipt = Receipt(of=task_id, paths=(await self._keep(task_id, f"/tasks/{task_id}/receipt"),), **files)
        beside = ", and the files of input and output" if files else ""
        tell(Told(step=f"keeps its receipt of the task, signed by the platform{beside}", receipt=receipt))

    async def _keep(self, of: str, route: str) -> str:
        path = self.path_of(of, "json")
        path.write_bytes(msgspec.json.encode(await self.rest.get(route)))
        return str(path)


def main(work: Callable[[Agent], Awaitable[None]]) -> int:
    """Run an agent of the story until it is asked to leave; the exit code."""

    async def play(configuration: Configuration) -> None:
        signer = Signer(parse_secret_key(configuration.secret_key), configuration.signing_domain)
        async with (
            RestClient(configuration.url, configuration.api_key) as rest,
            connection(configuration) as socket,
        ):
            agent = Agent(configuration, socket, rest, signer)
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, agent.stop)
            await work(agent)

    return run(play)


def run(play: Callable[[Configuration], Coroutine[Any, Any, None]]) -> int:
    """Play a part with the configuration that comes on standard input; the exit code."""
    configuration = msgspec.json.decode(sys.stdin.readline(), type=Configuration)
    failures: list[str] = []
    try:
        asyncio.run(play(configuration))
    except* ClientError as group:
        failures = _sentences(group)
    for failure in failures:
        tell(Told(failure=failure))
    return 1 if failures else 0


def connection(configuration: Configuration) -> PhoenixSocket:
    """A socket of the agent, not opened yet."""
    return PhoenixSocket(configuration.url, configuration.api_key, on_frame=teller(configuration))


def teller(configuration: Configuration) -> OnFrame | None:
    """What tells each frame, where everything is wanted."""

    def on_frame(direction: str, frame: Any) -> None:
        tell(Told(direction=direction, frame=msgspec.json.encode(frame).decode()))

    return on_frame if configuration.verbose else None


def _sentences(group: ExceptionGroup[ClientError]) -> list[str]:
    """What failed in a group, and in the groups in it."""
    sentences: list[str] = []
    for error in group.exceptions:
        sentences += _sentences(error) if isinstance(error, ExceptionGroup) else [f"{type(error).__name__}: {error}"]
    return sentences
