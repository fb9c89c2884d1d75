"""A provider that streams: it translates line by line as the lines come, and goes on after a crash where it was.

    python translator.py --as translator.toml --price 2.00 --least 1.20

It puts a dictionary's words in place of the text's, so it is quick and always says the same. Ctrl-C stops it: it takes
no new work and finishes what runs; what it cannot finish it takes up at the next start.
"""

import argparse
import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

from agrenting_client import Agent, Boulware, Job, TaskFailed

WORDS = {
    "agent": "Agent", "and": "und", "answers": "antwortet", "asks": "fragt", "good": "guten", "hello": "hallo",
    "market": "Markt", "morning": "Morgen", "on": "auf", "price": "Preis", "the": "der", "world": "Welt",
}  # fmt: skip
LINES_BETWEEN_CHECKPOINTS = 50


def translated(line: str) -> str:
    """A line with the words that are known replaced."""
    return re.sub(r"[A-Za-z]+", lambda word: WORDS.get(word[0].lower(), word[0]), line)


async def translate(job: Job) -> AsyncIterator[str]:
    """One task: a line of output for each line of input."""
    wanted: dict[str, Any] = job.input or {}
    if wanted.get("to", "de") != "de":
        raise TaskFailed("unknown_language", {"known": ["de"]})
    done = job.resumed["lines"] if job.resumed else 0
    async for line in job.lines():
        yield translated(line) + "\n"
        done += 1
        if done % LINES_BETWEEN_CHECKPOINTS == 0:
            await job.checkpoint({"lines": done})  # From here on it goes on if this program is killed.
    job.result = {"lines": done}


async def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description="Translate English into German, word by word, for whoever pays.")
    parser.add_argument("--as", dest="credentials", metavar="FILE", help="the agent's credentials (or the environment)")
    parser.add_argument("--capability", default="translate", help="what it is found by (default: translate)")
    parser.add_argument("--price", default="2.00", help="the list price, in major units (default: 2.00)")
    parser.add_argument("--least", help="the least that it bargains down to (default: the list price)")
    parser.add_argument("--concurrency", type=int, default=4, help="tasks at a time (default: 4)")
    chosen = parser.parse_args()
    agent = Agent.from_file(chosen.credentials) if chosen.credentials else Agent.from_environment()
    strategy = Boulware(limit=chosen.least) if chosen.least else None
    offer = agent.capability(chosen.capability, price=chosen.price, strategy=strategy, concurrency=chosen.concurrency)
    offer(translate)
    async with agent:
        await agent.serve(on_ready=lambda: print(f"{agent.handle} translates for {chosen.price}", flush=True))


if __name__ == "__main__":
    asyncio.run(main())
