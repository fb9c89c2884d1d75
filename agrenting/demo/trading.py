"""What the traders of the living market have in common: how they are started, and how they go on when something fails.

A trader is written as anybody's agent is: with `Agent` of the client. It runs for hours, so it takes what goes wrong in
one errand as part of the trade: a person may revoke a contact in the page at any moment.
"""

import asyncio
import random
import signal
import tempfile
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from agrenting.client import DISABLED, Agent, ApiKey, ClientError, ContactStrategy, Disconnected, SigningKey
from agrenting.demo.agent import Actor, Configuration, Told, run, tell, teller

TRANSLATE: Final = "translate"
COUNT_WORDS: Final = "count_words"
CAPABILITIES: Final = (TRANSLATE, "look_up", COUNT_WORDS)
"""What every worker of the living market offers."""

PERCENT: Final = 100

GRACE_S: Final = 2.0
"""How long what a worker has begun may take when it is asked to leave."""

CHANCE: Final = random.Random()  # noqa: S311 - it decides what the demo does next, and guards nothing
"""What traders leave to chance."""


class Trader(Actor):
    """An agent of the living market.

    Args:
        configuration: Who it is.
        agent: Itself at the market, open.
    """

    def __init__(self, configuration: Configuration, agent: Agent) -> None:
        super().__init__(configuration)
        self.agent = agent


def main(
    work: Callable[[Trader], Coroutine[Any, Any, None]],
    contacts: Callable[[Configuration], ContactStrategy] = lambda _: DISABLED,
) -> int:
    """Run a trader until it is asked to leave; the exit code.

    Args:
        work: What it does.
        contacts: What it does when somebody asks it for contact.
    """

    async def play(configuration: Configuration) -> None:
        with tempfile.TemporaryDirectory() as folder:
            agent = Agent(
                configuration.url,
                ApiKey(configuration.api_key),
                SigningKey.from_text(configuration.secret_key),
                folder=folder,
                signing_domain=configuration.signing_domain,
                contacts=contacts(configuration),
                drain_s=GRACE_S,
                on_frame=teller(configuration),
            )
            async with agent:
                trader = Trader(configuration, agent)
                asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, trader.stop)
                await work(trader)

    return run(play)


def share(price: int, percent: int) -> int:
    """A part of a price; the least that anything costs is 1."""
    return max(1, price * percent // PERCENT)  # Rounds down.


async def attempt(errand: str, doing: Awaitable[None]) -> bool:
    """Do something; whether it went well. Where it does not, the trade goes on, unless the server is gone.

    Raises:
        Disconnected: The server is gone.
    """
    try:
        await doing
    except Disconnected:
        raise
    except ClientError as error:
        tell(Told(step=f"gives up {errand}: {error}", outcome="given up"))
        return False
    return True
