"""How the demo's client has a text translated: it streams it, is cut off in the middle, goes on, checks, and pays."""

import asyncio
from typing import Any, Final

from agrenting.client import ClientError, PhoenixSocket, StreamedTask
from agrenting.demo.agent import TURN_TIMEOUT_S, Agent, Told, tell
from agrenting.demo.words import TEXT, count_words, translate

LINES_AHEAD: Final = 6
"""How many lines it sends ahead of what comes back."""

CUT_AFTER: Final = len(TEXT) // 3  # Rounds down.
"""How many lines have come back when it is cut off."""

AWAY_POLL_S: Final = 0.02


class BadDelivery(ClientError):
    """What was delivered is not what was asked for."""


async def have_translated(agent: Agent, task_id: str) -> dict[str, Any]:
    """Send the text, take the translation, and pay for it once it is checked; the task as it is then.

    Raises:
        BadDelivery: It is not the translation.
        ClientError: The task did not complete.
    """
    text = "".join(TEXT)
    reading = Reading(agent, task_id)
    tell(
        Told(step=f"streams {len(text.encode())} bytes of text, {len(TEXT)} lines, {LINES_AHEAD} ahead of what returns")
    )
    async with agent.connect() as socket:
        await reading.task.join(socket)
        await reading.read(until=CUT_AFTER)
        await reading.be_cut_off(socket)
    await reading.stay_away()
    async with agent.connect() as socket:
        await reading.return_to(socket)
        await reading.read()
        task = await reading.check_and_release()
    await agent.keep_task(task_id, sent=text.encode(), got="".join(reading.received).encode())
    return task


class Reading:
    """The client's side of the task, over two sockets.

    Args:
        agent: The client.
        task_id: The task's.
    """

    def __init__(self, agent: Agent, task_id: str) -> None:
        self.task = StreamedTask(task_id, role="client", timeout_s=TURN_TIMEOUT_S)
        self.received: list[str] = []
        self._agent = agent

    async def read(self, until: int | None = None) -> None:
        """Send lines and take translated ones: so many in all, or all there are."""
        while until is None or len(self.received) < until:
            await self._send_ahead()
            chunk = await self.task.next_chunk()
            if chunk is None:
                return
            self.received.append(chunk.decode())

    async def be_cut_off(self, socket: PhoenixSocket) -> None:
        """Lose the socket, with lines on their way."""
        await self.task.flush()
        socket.abort()
        sent = self.task.outgoing.position.seq
        tell(Told(step=f"is cut off without goodbye: {sent} lines are sent, {len(self.received)} have come back"))

    async def stay_away(self) -> None:
        """Wait until the provider, who goes on meanwhile, has done what there is."""
        output: dict[str, Any] = {"next_seq": 0}
        while output["next_seq"] < self.task.outgoing.position.seq:
            await asyncio.sleep(AWAY_POLL_S)
            output = (await self._agent.rest.get(f"/tasks/{self.task.id}"))["streams"]["output"]

    async def return_to(self, socket: PhoenixSocket) -> None:
        """Join again, from the first line on that has not come back."""
        wanted = self.task.incoming.position.seq
        stored = (await self.task.join(socket))["streams"]["output"]["next_seq"]
        replayed = f"lines {wanted} to {stored - 1} are replayed, then it goes on live"
        tell(Told(step=f"is back, and joins with output_from {wanted}: {replayed}"))

    async def check_and_release(self) -> dict[str, Any]:
        """Hold the translation against what it should be, and release the price if it is; the task.

        Raises:
            BadDelivery: It is something else.
        """
        got, end = "".join(self.received), self.task.incoming.position
        tell(Told(step=f"has the whole translation, {end.size} bytes: its checksum and digest {end.digest[:16]}… fit"))
        task = await self.task.end()
        result = {"words": count_words("".join(TEXT))}
        if (task["status"], got, task["result"]) != ("completed", translate("".join(TEXT)), result):
            raise BadDelivery("the translation or its words are not those of an own computation")
        price, hold = self._agent.money(task["price"]), task["hold_seconds"]
        tell(Told(step=f"finds all {result['words']} words as computed by itself; {price} are held for up to {hold} s"))
        released = await self.task.release()
        tell(Told(step=f"releases {price} at once: escrow {released['escrow_status']}"))
        return released

    async def _send_ahead(self) -> None:
        """Send what may be sent now, and close the input behind the last line."""
        while (seq := self.task.outgoing.position.seq) < min(len(TEXT), len(self.received) + LINES_AHEAD):
            await self.task.send(TEXT[seq].encode())
            if seq + 1 == len(TEXT):
                await self.task.close()
