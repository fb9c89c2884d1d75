"""Tasks from their opening to their end, in this process: what following them adds to what they cost."""

import asyncio
import hashlib
import statistics
import tempfile
import time
from pathlib import Path
from typing import Final

from agrenting.config import Settings
from agrenting.db.commit import NoFollower
from agrenting.db.following import Follower
from agrenting.db.transaction import WriterTx
from agrenting.deciding import Command
from agrenting.server import Server
from benchmarks.bargaining import identity
from benchmarks.measures import Effort, Result
from benchmarks.servers import Account, command, make_agent
from channels import discovery, task
from channels.chunks import SendChunk
from channels.facts import facts_of
from channels.hiring import OpenTask
from channels.limits import Limits
from channels.progress import ReportProgress
from channels.streams import CloseStream
from channels.task_ends import Complete
from channels.told import Counted, Told

PAIRS: Final = 32
PRICE: Final = 100
DEPOSIT: Final = 10**12
OUTPUT: Final = "Guten Morgen!"
CHECKSUM: Final = hashlib.sha256(OUTPUT.encode()).hexdigest()
TURNS: Final = 3
"""How often the two take turns in a round: the machine's own moods then meet both."""

LIMITS: Final = Limits(tasks_open_max=10**9, messages_per_sender_max=10**9, mailbox_max=10**9)


class Sums(Follower):
    """Follows with the roll-ups alone: no alerts, and nothing to see."""

    def follow(self, tx: WriterTx) -> tuple[Told, ...] | None:
        """Gather what counts."""
        facts = facts_of(tuple(tx.happened), lambda agent_id: (self._names.of(tx, agent_id) or (None,))[0])
        self._facts.merge(facts)
        return (Counted(facts.scopes),) if facts else None


async def added(effort: Effort) -> list[Result]:
    """CPU milliseconds of a task's life with and without what follows from it; and lives by the clock."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        command(data, "user", "create", "alice")
        command(data, "user", "create", "bobby")
        client = make_agent(data, "alice", "Client")
        provider = make_agent(data, "bobby", "Provider", "--capability", f"work={PRICE}", "--global")
        command(data, "deposit", "alice/client", str(DEPOSIT))
        async with Server(Settings(data_dir=folder, limits=LIMITS)) as server:
            commits = server.database.commits
            sums = Sums(server.clock)
            sums.market, sums.publish = server.engine.market, server.engine.tell
            followers = (commits.follower, sums, NoFollower())
            await _live(server, client, provider, seconds=effort.seconds / TURNS)
            cpu: tuple[list[float], ...] = ([], [], [])
            wall: tuple[list[float], ...] = ([], [], [])
            for turn in range(TURNS * effort.rounds):
                for place in (0, 1, 2) if turn % 2 else (2, 1, 0):
                    commits.follower = followers[place]
                    lives, cpu_s, wall_s = await _live(server, client, provider, seconds=effort.seconds / TURNS)
                    cpu[place].append(cpu_s * 1_000 / lives)
                    wall[place].append(lives / wall_s)
            commits.follower = followers[0]
    bare, fastest = statistics.median(cpu[2]), statistics.median(wall[2])
    results: list[Result] = []
    for place, what, expected in ((1, "with roll-ups", "< 1.15"), (0, "with alerts and activity too", "–")):
        costs, rates = statistics.median(cpu[place]), statistics.median(wall[place])
        dearer = statistics.median(a / b for a, b in zip(cpu[place], cpu[2], strict=True))
        slower = statistics.median(b / a for a, b in zip(wall[place], wall[2], strict=True))
        results += [
            Result(f"a task's life, {what} / without: CPU", f"{costs:.2f} ms", f"{bare:.2f} ms", dearer, expected),
            Result("the same by the clock: lives a second", f"{rates:.0f}/s", f"{fastest:.0f}/s", slower, expected),
        ]
    return results


async def _live(server: Server, client: Account, provider: Account, *, seconds: float) -> tuple[int, float, float]:
    """Run tasks, PAIRS at once, for a while: how many, CPU seconds, seconds by the clock.

    Nobody reads the provider's mail, so what lies there from before is taken away: it would be counted at each opening.
    """
    await server.database.write(lambda tx: tx.run("DELETE FROM messages"))
    cpu, started = time.process_time(), time.perf_counter()
    until = started + seconds

    async def one_after_the_other() -> int:
        count = 0
        while time.perf_counter() < until or not count:
            await _one(server, client, provider)
            count += 1
        return count

    lives = sum(await asyncio.gather(*(one_after_the_other() for _ in range(PAIRS))))
    await server.engine.settled()
    return lives, time.process_time() - cpu, time.perf_counter() - started


async def _one(server: Server, client: Account, provider: Account) -> None:
    """Open, start, output, complete."""
    hire = OpenTask(provider_agent_id=provider.id, capability="work", max_price=PRICE, hold_seconds=0)
    opening = Command(
        handler=discovery.HANDLERS["open_task"], topic=discovery.TOPIC, request=hire, sender=identity(client)
    )
    opened = await server.engine.execute(opening)
    requests = {
        "progress": ReportProgress(percent=0),
        "output_stream": SendChunk(chunk=OUTPUT, seq=0, encoding="utf8"),
        "output_complete": CloseStream(checksum=CHECKSUM, total_size=len(OUTPUT)),
        "complete": Complete(result={"words": 2}),
    }
    for event, request in requests.items():
        await server.engine.execute(
            Command(
                handler=task.HANDLERS[event],
                topic=f"task:{opened.reply['task_id']}",
                request=request,
                sender=identity(provider),
            )
        )
