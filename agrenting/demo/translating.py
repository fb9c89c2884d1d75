"""How the demo's provider translates a text: line by line as it comes, cut off once, and back from its checkpoint."""

from typing import Any, Final

import msgspec

from agrenting.client import PhoenixSocket, Position, StreamedTask
from agrenting.demo.agent import TURN_TIMEOUT_S, Agent, Told, tell
from agrenting.demo.words import TEXT, count_words, translate

CHECKPOINT_LINES: Final = 8
"""After so many lines it saves a checkpoint."""

CUT_AFTER: Final = len(TEXT) * 2 // 3  # Rounds down.
"""After how many lines it is cut off."""


class Notes(msgspec.Struct, frozen=True, kw_only=True):
    """What it notes in its checkpoint: how far it has read, and the words so far."""

    read: Position = Position()
    words: int = 0


async def translate_task(agent: Agent, task_id: str) -> None:
    """Translate each line of a task's input, then say how many words it was."""
    async with agent.connect() as socket:
        translating = Translating(agent, task_id, Notes())
        task = await translating.task.join(socket)
        tell(Told(step=f"starts the task: {agent.money(task['price'])} are held for it"))
        await translating.push_progress()
        await translating.translate(until=CUT_AFTER)
        await translating.be_cut_off(socket)
    async with agent.connect() as socket:
        notes = msgspec.convert(await checkpoint(socket, task_id), Notes)
        translating = Translating(agent, task_id, notes)
        await translating.return_to(socket)
        await translating.translate()
        await translating.finish()
    await agent.keep_task(task_id)


async def checkpoint(socket: PhoenixSocket, task_id: str) -> Any:
    """The state that was saved last, which a join tells the provider alone."""
    topic = await socket.join(f"task:{task_id}")
    return topic.state["checkpoint"]["state"]


class Translating:
    """The provider's side of the task, over one socket: it knows what its notes say, and nothing else.

    Args:
        agent: The provider.
        task_id: The task's.
        notes: From where it goes on.
    """

    def __init__(self, agent: Agent, task_id: str, notes: Notes) -> None:
        self.task = StreamedTask(task_id, role="provider", start=notes.read, timeout_s=TURN_TIMEOUT_S)
        self._agent = agent
        self._words = notes.words

    async def push_progress(self) -> None:
        """Say that it has begun."""
        await self.task.push("progress", {"percent": 0, "message": "reading"})

    async def translate(self, until: int | None = None) -> None:
        """Translate line by line: so many in all, or all there are. What was sent before is not sent again."""
        while (seq := self.task.incoming.position.seq) != until:
            line = await self.task.next_chunk()
            if line is None:
                return
            translated = translate(line.decode())
            self._words += count_words(line.decode())
            if seq == 0:
                tell(Told(step=f"translates line 0: {translated.strip()}"))
            if seq >= self.task.outgoing.position.seq:
                await self.task.send(translated.encode())
            if (seq + 1) % CHECKPOINT_LINES == 0:
                notes = Notes(read=self.task.incoming.position, words=self._words)
                await self.task.flush()
                await self.task.push("checkpoint", {"state": msgspec.to_builtins(notes), "seq": seq + 1})

    async def be_cut_off(self, socket: PhoenixSocket) -> None:
        """Lose the socket, and all that is in memory."""
        await self.task.flush()
        socket.abort()
        sent = self.task.outgoing.position.seq
        tell(Told(step=f"is cut off without goodbye after {sent} lines, and forgets everything"))

    async def return_to(self, socket: PhoenixSocket) -> None:
        """Join again, from the checkpoint on."""
        first, words = self.task.incoming.position.seq, self._words
        await self.task.join(socket)
        await self.task.flush()  # What it has sent is replayed to it: the checksum is over all of that.
        stored = self.task.outgoing.position.seq
        known = f"its checkpoint knows {words} words, and {stored} of its lines are stored"
        tell(Told(step=f"is back, and joins with input_from {first}: {known}"))

    async def finish(self) -> None:
        """Close the output, complete the task, and wait for the money."""
        closed = await self.task.close()
        checksum, size = closed["checksum"], closed["total_size"]
        tell(Told(step=f"delivers {size} bytes, SHA-256 {checksum[:16]}…, verified"))
        await self.task.push("complete", {"result": {"words": self._words}})
        paid = await self.task.settled()
        tell(Told(step=f"has completed the task and is paid {self._agent.money(paid['net'])}"))
