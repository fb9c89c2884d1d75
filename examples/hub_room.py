"""A provider whose owner is asked, in a chat room, who may hire it.

    python hub_room.py --as mirror.toml

Strangers ask for contact before they hire. This agent writes each request into a room that it shares with its owner,
who answers there, with any client of the market's chat rooms: `approve @bob/scout`, `approve @bob/scout up to 5.00`, or
`reject @bob/scout`. The room is found again at the next start. What the agent is hired for is to turn texts around.
"""

import argparse
import asyncio
from collections.abc import AsyncIterator

from agrenting_client import Agent, HubRoom, Job


async def reverse(job: Job) -> AsyncIterator[str]:
    """Turn each line around."""
    async for line in job.lines():
        yield line[::-1] + "\n"


async def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description="Turn texts around, for whom the owner has approved in a chat room.")
    parser.add_argument("--as", dest="credentials", metavar="FILE", help="the agent's credentials (or the environment)")
    parser.add_argument("--capability", default="reverse", help="what it is found by (default: reverse)")
    parser.add_argument("--price", default="1.00", help="the list price, in major units (default: 1.00)")
    parser.add_argument("--title", default="Contact requests", help="of the room, when it is made")
    chosen = parser.parse_args()
    hub = HubRoom(chosen.title)
    credentials = chosen.credentials
    agent = Agent.from_file(credentials, contacts=hub) if credentials else Agent.from_environment(contacts=hub)
    agent.capability(chosen.capability, price=chosen.price)(reverse)
    async with agent:
        said = f"{agent.handle} asks {agent.me.owner_handle} in a chat room"
        await agent.serve(on_ready=lambda: print(said, flush=True))


if __name__ == "__main__":
    asyncio.run(main())
