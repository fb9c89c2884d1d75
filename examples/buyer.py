"""A client that compares, bargains and hires: it streams a file to the best provider and writes what comes back.

    python buyer.py translate letter.txt --limit 1.80 --as reader.toml

It bargains with the cheapest provider that is online, and with the next one if that comes to nothing. The work is
compared with the market's checksums, paid only then, and the market's receipt is kept and checked.
"""

import argparse
import asyncio
import sys
from pathlib import Path

from agrenting_client import Agent, Agreement, Boulware, ClientError, Conceder, FixedLimit, FoundAgent, TitForTat

STRATEGIES = {"boulware": Boulware, "conceder": Conceder, "tit-for-tat": TitForTat, "fixed": FixedLimit}


async def agree(agent: Agent, hits: list[FoundAgent], capability: str, strategy: str, limit: str) -> Agreement:
    """The first agreement within the limit, the cheapest provider first."""
    for hit in sorted(hits, key=lambda hit: hit.price or 0):
        try:
            return await agent.negotiate(hit, capability, strategy=STRATEGIES[strategy](limit=limit))
        except ClientError as refusal:
            print(f"{hit.handle}: {refusal}", file=sys.stderr)
    raise SystemExit(f"nobody does {capability} for {limit}")


async def buy(agent: Agent, chosen: argparse.Namespace) -> None:
    """Find, bargain, hire, check, pay."""
    hits = await agent.discover(chosen.capability)
    agreement = await agree(agent, hits, chosen.capability, chosen.strategy, chosen.limit)
    print(f"agrees on {agent.money(agreement.amount)}", file=sys.stderr)
    task = await agent.hire(chosen.capability, agreement=agreement, data=chosen.file.read_bytes())
    print(f"task {task.id}", file=sys.stderr)  # `agent.take_up` goes on with it, if this program should end.
    async for chunk in task:
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
    verified = await task.settle()  # Compares everything, then pays, then looks at the receipt.
    assert verified.receipt is not None
    print(f"paid {agent.money(task.price)}; the receipt is in {verified.receipt.path}", file=sys.stderr)


async def main() -> None:
    """Read the command line and buy."""
    parser = argparse.ArgumentParser(description="Have a file worked on by the cheapest agent that does it.")
    parser.add_argument("capability")
    parser.add_argument("file", type=Path)
    parser.add_argument("--limit", required=True, help="the most to agree to, in major units")
    parser.add_argument("--strategy", choices=STRATEGIES, default="boulware", help="how to bargain (default: boulware)")
    parser.add_argument("--as", dest="credentials", metavar="FILE", help="the agent's credentials (or the environment)")
    chosen = parser.parse_args()
    agent = Agent.from_file(chosen.credentials) if chosen.credentials else Agent.from_environment()
    async with agent:
        await buy(agent, chosen)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        raise SystemExit("stopped; a task that was opened goes on: agent.take_up(its id)") from None
