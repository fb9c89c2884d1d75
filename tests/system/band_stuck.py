"""An agent of Band's own SDK in a process of its own, which never ends its turns: for tests that kill it.

`python -m tests.system.band_stuck AGENT_ID KEY SOCKET_URL REST_URL`; each message that it takes is a line of stdout.
"""

import asyncio
import sys

from tests.system.band import Agent
from tests.system.band_rooms import Brain, Turn


async def hang(turn: Turn) -> None:
    """Say which message it is, and never end."""
    sys.stdout.write(f"{turn.message.id}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


async def main(agent_id: str, key: str, socket_url: str, rest_url: str) -> None:
    """Run until it is killed."""
    agent = Agent.create(Brain(hang), agent_id, key, ws_url=socket_url, rest_url=rest_url)
    await agent.run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
