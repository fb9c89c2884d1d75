"""The demo's provider: it waits for work, bargains for it, and does it.

`python -m agrenting.demo.provider`
"""

import asyncio
import base64
from typing import Any, Final

from agrenting.client import RefusedByServer, Topic
from agrenting.demo.agent import Agent, main, tell
from agrenting.demo.words import count_words, translate
from crypto import StreamChecksum

OPENING_PERCENT: Final = 120
YIELDING_PERCENT: Final = 90
TURN_TIMEOUT_S: Final = 30.0


async def work(agent: Agent) -> None:
    """Be present, hear of negotiations and tasks in the mailbox, and see to each."""
    presence = await agent.socket.join("agents:discovery")
    await presence.push("announce", {"capabilities": ["translate"]})
    mailbox = await agent.socket.join(f"messages:{agent.id}")
    tell(step="is online, announces translate, and waits for work", ready=True)
    serving: set[asyncio.Task[None]] = set()
    while True:
        message = await mailbox.expect("new_message", timeout_s=None)
        for task in [task for task in serving if task.done()]:
            serving.discard(task)
            task.result()  # What failed there fails the provider.
        see_to = {"negotiation": bargain, "task_handoff": do_task}[message["type"]]
        serving.add(asyncio.create_task(see_to(agent, message["payload"])))
        await mailbox.push("acknowledge", {"message_id": message["id"]})


async def bargain(agent: Agent, announced: dict[str, Any]) -> None:
    """Answer each offer of the client: first above the list price, then with what it yields."""
    topic = await agent.socket.join(announced["topic"])
    session = topic.state
    asks = [session["base_max"] * percent // 100 for percent in (OPENING_PERCENT, YIELDING_PERCENT)]
    # Rounds down, in the client's favour.
    while session["status"] == "open":
        if session["turn"] == agent.id and asks:
            session = await topic.push("offer", agent.signer.offer(session, agent_id=agent.id, amount=asks.pop(0)))
            tell(step=f"asks {{{session['offers'][-1]['amount']}}} (round {len(session['offers'])}, signed)")
        event, _ = await topic.next_event(TURN_TIMEOUT_S)
        if event in {"negotiation_complete", "reject", "negotiation_expired"}:
            break
        session = (await agent.rest.get(f"/negotiations/{session['id']}")) if event == "offer" else session
    path = await agent.keep_receipt(session["id"])
    tell(step=f"keeps its receipt of the agreement: {path.name}")


async def do_task(agent: Agent, announced: dict[str, Any]) -> None:
    """Translate each chunk as it comes, then say how much it was."""
    topic = await agent.socket.join(f"task:{announced['task_id']}")
    translator = Translator(agent, topic)
    await translator.begin()
    task = topic.state
    await translator.catch_up(task["task_id"], task["streams"]["input"]["next_seq"])
    if not task["streams"]["input"]["complete"]:
        while True:
            event, payload = await topic.next_event(TURN_TIMEOUT_S)
            if event == "input_stream":
                await translator.take(payload["seq"], payload["chunk"])
            elif event == "input_complete":
                break
            elif event in {"task_cancelled", "task_failed"}:
                return
    await translator.finish()


class Translator:
    """One task's work: chunks in, translated chunks out, in order."""

    def __init__(self, agent: Agent, topic: Topic) -> None:
        self._agent = agent
        self._topic = topic
        self._checksum = StreamChecksum()
        self._next_seq = 0
        self._words = 0

    async def begin(self) -> None:
        """Say that the work has begun."""
        await self._topic.push("progress", {"percent": 0, "message": "reading"})

    async def catch_up(self, task_id: str, until: int) -> None:
        """Take the chunks that came before the topic was joined."""
        while self._next_seq < until:
            page = await self._agent.rest.get(
                f"/tasks/{task_id}/chunks", **{"direction": "input", "from": self._next_seq}
            )
            for chunk in page:
                encoded = chunk["chunk"]
                text = base64.b64decode(encoded).decode() if chunk["encoding"] == "base64" else encoded
                await self.take(chunk["seq"], text)

    async def take(self, seq: int, text: str) -> None:
        """Translate one chunk and send it on; one that was taken already is passed over."""
        if seq < self._next_seq:
            return
        translated = translate(text)
        await self._topic.push("output_stream", {"chunk": translated, "seq": seq})
        self._checksum.update(translated.encode())
        self._words += count_words(text)
        self._next_seq = seq + 1
        tell(step=f"translates chunk {seq}: {translated.strip()}")

    async def finish(self) -> None:
        """Close the output, and complete the task."""
        done = {"checksum": self._checksum.hexdigest(), "total_size": self._checksum.size}
        await self._topic.push("output_complete", done)
        tell(step=f"delivers {self._checksum.size} bytes, SHA-256 {self._checksum.hexdigest()[:16]}…, verified")
        try:
            task = await self._topic.push("complete", {"result": {"words": self._words}})
        except RefusedByServer as refused:
            tell(failed=f"complete was refused: {refused}")
            raise
        tell(step=f"completes the task and is paid {{{task['net']}}}")


if __name__ == "__main__":
    raise SystemExit(main(work))
