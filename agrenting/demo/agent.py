"""What both of the demo's agents have in common: how they are started, and how they tell what they do.

An agent gets its configuration as one line of JSON on standard input, because arguments can be read by others, and
tells each step as a line of JSON on standard output. It is stopped by SIGTERM.
"""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from agrenting.client import ClientError, PhoenixSocket, RestClient, Signer
from crypto import parse_secret_key


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """An agent's configuration.

    Args:
        url: The server.
        agent_id, api_key, secret_key: Who it is; the secret key is the seed in base64.
        signing_domain: The deployment's, as the agent's author knows it.
        receipts: The folder where it keeps its receipts.
        verbose: Tell every frame.
        once: One deal, then end.
    """

    url: str
    agent_id: str
    api_key: str
    secret_key: str
    signing_domain: str
    receipts: str
    verbose: bool = False
    once: bool = True


class Told(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line that an agent tells: a step, a frame, or that something is done."""

    step: str = ""
    direction: str = ""
    frame: str = ""
    ready: bool = False
    deal: dict[str, Any] | None = None
    failed: str = ""


def tell(**fields: Any) -> None:
    """Tell the demo one thing."""
    print(msgspec.json.encode(Told(**fields)).decode(), flush=True)


class Agent:
    """An agent at work: its socket, REST, and signer."""

    def __init__(self, settings: Settings, socket: PhoenixSocket, rest: RestClient, signer: Signer) -> None:
        self.settings = settings
        self.id = settings.agent_id
        self.socket = socket
        self.rest = rest
        self.signer = signer

    async def keep_receipt(self, session_id: str) -> Path:
        """Fetch an agreement's receipt and keep it as a file."""
        receipt = await self.rest.get(f"/negotiations/{session_id}/receipt")
        path = Path(self.settings.receipts) / f"{self.id}-{session_id}.json"
        path.write_bytes(msgspec.json.encode(receipt))
        return path


def main(work: Callable[[Agent], Awaitable[None]]) -> int:
    """Run an agent until it is done, or stopped; the exit code."""
    settings = msgspec.json.decode(sys.stdin.readline(), type=Settings)
    return asyncio.run(_run(settings, work))


async def _run(settings: Settings, work: Callable[[Agent], Awaitable[None]]) -> int:
    task = asyncio.current_task()
    assert task is not None, "this runs in a task"
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)

    def on_frame(direction: str, frame: Any) -> None:
        if settings.verbose:
            tell(direction=direction, frame=msgspec.json.encode(frame).decode())

    signer = Signer(parse_secret_key(settings.secret_key), settings.signing_domain)
    try:
        async with (
            RestClient(settings.url, settings.api_key) as rest,
            PhoenixSocket(settings.url, settings.api_key, on_frame) as socket,
        ):
            await work(Agent(settings, socket, rest, signer))
    except asyncio.CancelledError:
        return 0
    except (ClientError, TimeoutError) as error:
        tell(failed=f"{type(error).__name__}: {error}")
        return 1
    return 0
