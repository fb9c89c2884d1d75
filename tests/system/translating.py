"""The work of a task whose connections are cut: a text of 451 lines, translated one by one by a table.

client     451 chunks of text ──► input_complete
provider   translates each as it comes ──► 451 chunks, 45 × progress, 50 × checkpoint, output_complete, complete
"""

import base64
import hashlib
from collections.abc import Sequence
from typing import Any

from crypto import NO_CHUNKS, next_digest
from tests.system.streaming import digests_of

CHUNKS, PROGRESS_EVERY, CHECKPOINT_EVERY = 451, 10, 9
EVENTS = 2 * (CHUNKS + 1) + CHUNKS // PROGRESS_EVERY + CHUNKS // CHECKPOINT_EVERY + 1
TABLE = {"the": "le", "agent": "agent", "asks": "demande", "and": "et", "market": "marché", "answers": "répond"}
FORMS = ("utf8", "base64", "binary")

assert EVENTS == 1_000


def source() -> list[bytes]:
    """The client's text, line by line."""
    names = list(TABLE)
    return [
        " ".join(
            [str(number), *(names[(number * 7 + word * word) % len(names)] for word in range(3 + number % 9))]
        ).encode()
        for number in range(CHUNKS)
    ]


class Worker:
    """Translates by a table, numbers the words, and keeps the running digest of what it has read.

    Args:
        state: Of a checkpoint; None at the beginning.
    """

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        self.state = state or {"done": 0, "words": 0, "digest": NO_CHUNKS}

    @property
    def done(self) -> int:
        """Chunks that it has worked on."""
        done: int = self.state["done"]
        return done

    def work(self, chunk: bytes) -> bytes:
        """Translate the next chunk."""
        text = chunk.decode().split()
        words = self.state["words"] + len(text)
        self.state = {
            "done": self.done + 1,
            "words": words,
            "digest": next_digest(self.state["digest"], seq=self.done, chunk=chunk),
        }
        return f"{words}: {' '.join(TABLE.get(word, word) for word in text)}\n".encode()


def translation() -> list[bytes]:
    """What comes out of it."""
    worker = Worker()
    return [worker.work(chunk) for chunk in source()]


INPUT, OUTPUT = source(), translation()
DIGESTS = {"input": digests_of(INPUT), "output": digests_of(OUTPUT)}


def checksum(chunks: Sequence[bytes]) -> dict[str, Any]:
    """What closes a stream of these."""
    whole = b"".join(chunks)
    return {"checksum": hashlib.sha256(whole).hexdigest(), "total_size": len(whole)}


def chunk_payload(seq: int, chunk: bytes) -> Any:
    """A chunk as it is sent; its form changes from one to the next."""
    form = FORMS[seq % len(FORMS)]
    if form == "binary":
        return seq.to_bytes(8, "big") + chunk
    text = chunk.decode() if form == "utf8" else base64.b64encode(chunk).decode()
    return {"seq": seq, "chunk": text, "encoding": form}
