"""Durability: group commit against one transaction each, and negotiation events, in this process without sockets."""

import asyncio
import statistics
import tempfile
import time
from datetime import datetime
from pathlib import Path

from agrenting.clock import system_clock
from agrenting.db import ledger
from agrenting.db.database import Database
from agrenting.db.migrate import migrate
from agrenting.db.transaction import WriterTx
from benchmarks.measures import Effort, Result
from channels.ledger import available, deposit, move
from crypto import generate_secret_key, public_key_of, sign, verify_signature

SUBMITTERS = 256
ACCOUNTS = 1_000
DEPOSIT = 10**9
GROUPED = 512
MESSAGE_BYTES = 192
SIGNED_AT_ONCE = 1_000


async def transfers(path: Path, *, batch_max: int, seconds: float) -> float:
    """Ledger entries a second, each two guarded balance updates and three inserts, durable before the next."""
    database = Database(path, batch_max=batch_max)
    now = system_clock()
    await database.write(lambda tx: _open_accounts(tx, now))
    until, done = time.perf_counter() + seconds, 0

    async def submit(number: int) -> None:
        nonlocal done
        entry = move(
            "release",
            source=available(f"a{number % ACCOUNTS}"),
            target=available(f"a{(number + 1) % ACCOUNTS}"),
            amount=1,
        )
        while time.perf_counter() < until:
            await database.write(lambda tx: ledger.post(tx, entry, now=now))
            done += 1

    started = time.perf_counter()
    await asyncio.gather(*(submit(number) for number in range(SUBMITTERS)))
    wall = time.perf_counter() - started
    await database.close()
    return done / wall


def _open_accounts(tx: WriterTx, now: datetime) -> None:
    for number in range(SUBMITTERS + 1):
        ledger.post(tx, deposit(agent_id=f"a{number}", amount=DEPOSIT), now=now)


async def commit(effort: Effort) -> list[Result]:
    """Group commit over one transaction each, and how many signatures could be verified meanwhile."""
    grouped: list[float] = []
    single: list[float] = []
    for _ in range(effort.rounds):
        for batch_max, figures in ((GROUPED, grouped), (1, single)):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "bench.sqlite3"
                migrate(path)
                figures.append(await transfers(path, batch_max=batch_max, seconds=effort.seconds))
    ratio = statistics.median(a / b for a, b in zip(grouped, single, strict=True))
    result = Result(
        f"durable ledger entries, {SUBMITTERS} at once: grouped / one each",
        f"{statistics.median(grouped) / 1_000:.1f}k/s",
        f"{statistics.median(single) / 1_000:.1f}k/s",
        ratio,
        "≥ 20",
    )
    return [result, await negotiation_events(effort)]


async def negotiation_events(effort: Effort) -> Result:
    """Durable offers a second through engine and rules, against the signatures that one core verifies a second."""
    from benchmarks.bargaining import offers  # noqa: PLC0415 - it starts a whole engine

    made = [await offers(seconds=effort.seconds) for _ in range(effort.rounds)]
    verified = _verified_a_second(effort.seconds)
    events = statistics.median(made)
    return Result(
        "durable negotiation events; limit: one core's signature checks",
        f"{events / 1_000:.1f}k/s",
        f"{verified / 1_000:.1f}k/s",
        events / verified,
    )


def _verified_a_second(seconds: float) -> float:
    """Signatures checked a second, each for the first time: the outcomes of those that were checked are kept."""
    seed = generate_secret_key()
    public_key, count, took = public_key_of(seed), 0, 0.0
    while took < seconds:
        messages = [(count + number).to_bytes(MESSAGE_BYTES) for number in range(SIGNED_AT_ONCE)]
        signatures = [sign(seed, message) for message in messages]
        started = time.perf_counter()
        for message, signature in zip(messages, signatures, strict=True):
            verify_signature(public_key=public_key, message=message, signature=signature)
        took += time.perf_counter() - started
        count += len(messages)
    return count / took
