"""What a server remembers of a stream does not grow with its length: 10,000 chunks go through an engine on a file."""

import gc
import tracemalloc
from pathlib import Path
from typing import Any, Final

from agrenting.db import states
from agrenting.db.database import Database
from agrenting.db.migrate import migrate
from agrenting.deciding import Command, Done
from agrenting.engine import Engine
from channels import task
from channels.chunks import SendChunk
from channels.limits import Market
from channels.task_state import Task
from tests.agrenting.test_deciding_together import BOB, HELD, ID, START

CHUNKS, CHUNK_BYTES, AT_ONCE = 10_000, 1_000, 100
GROWTH_BYTES_MAX: Final = 1_500_000
"""Of the nine million bytes that flow between the two looks."""


class Sender:
    """Bob, who sends chunk after chunk, so many at once."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.next_seq = 0
        self.answered = 0

    async def send(self, upto: int) -> None:
        """Send until so many are stored."""
        while self.next_seq < upto:
            for seq in range(self.next_seq, min(upto, self.next_seq + AT_ONCE)):
                chunk = SendChunk(chunk=f"{seq:0{CHUNK_BYTES}}", seq=seq)
                sent = Command(handler=task.HANDLERS["output_stream"], topic=f"task:{ID}", request=chunk, sender=BOB)
                self.engine.submit(sent, self.settled)
                self.next_seq = seq + 1
            await self.engine.settled()
        assert self.answered == upto

    def settled(self, done: Done | None, error: Exception | None) -> None:
        assert done is not None, error
        self.answered += 1


async def test_the_memory_of_a_server_does_not_grow_with_the_length_of_a_stream(tmp_path: Path) -> None:
    path = tmp_path / "market.sqlite3"
    migrate(path)
    database = Database(path)
    relayed = 0

    def publish(told: tuple[Any, ...], _sender_id: str | None, _socket: Any) -> None:
        nonlocal relayed
        relayed += len(told)

    engine = Engine(database, market=Market(signing_domain="market.test/abc"), clock=lambda: START, publish=publish)
    await database.write(lambda tx: states.insert(tx, "task", ID, HELD))
    sender = Sender(engine)
    tracemalloc.start()
    try:
        await sender.send(1_000)
        gc.collect()
        early = tracemalloc.get_traced_memory()[0]
        await sender.send(CHUNKS)
        gc.collect()
        late = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    stored: Task = await database.write(lambda tx: states.load(tx, "task", ID))
    await engine.close()
    await database.close()

    assert (stored.output_stream.next_seq, stored.output_stream.size) == (CHUNKS, CHUNKS * CHUNK_BYTES)
    assert relayed == CHUNKS
    assert late - early < GROWTH_BYTES_MAX
