"""The demo's provider, and its rival: they are asked for contact, wait for work, bargain for it, do it, and are paid.

`python -m agrenting.demo.provider`, with its configuration on standard input.
"""

import asyncio
import base64
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final

from agrenting.client import ClientError, Topic, negotiation_after
from agrenting.demo.agent import TURN_TIMEOUT_S, Agent, Told, main, tell
from agrenting.demo.consent import answer_all, policy
from agrenting.demo.payments import LOOK_UP, Payee
from agrenting.demo.words import count_words, translate
from crypto import StreamChecksum

ASKS_PERCENT: Final = (120, 90)
"""What it asks in a deal, of the list price; then it accepts, unless the client does."""


class BadInput(ClientError):
    """What came in is not what was said."""


async def work(agent: Agent) -> None:
    """Be present, hear of contact requests, and of negotiations and tasks in the mailbox, until asked to leave."""
    market = await agent.socket.join("agents:discovery")
    await market.push("announce", {"capabilities": ["translate", LOOK_UP]})
    contacts = await agent.socket.join(f"agent_contacts:{agent.id}")
    mailbox = await agent.socket.join(f"messages:{agent.id}")
    tell(Told(step=f"is online and announces translate and {LOOK_UP}; {policy(agent)}", is_ready=True))
    payee = Payee(agent)
    see_to: dict[str, Callable[[dict[str, Any]], Coroutine[Any, Any, None]]] = {
        "negotiation": partial(bargain, agent),
        "task_handoff": partial(do_task, agent, payee),
        "payment_channel": payee.be_paid,
    }
    async with asyncio.TaskGroup() as serving:
        serving.create_task(answer_all(agent, contacts, market))
        while (message := await agent.unless_stopped(mailbox.expect("new_message", None))) is not None:
            if message["type"] in see_to:
                serving.create_task(see_to[message["type"]](message["payload"]))
            await mailbox.push("acknowledge", {"message_id": message["id"]})


async def bargain(agent: Agent, announced: dict[str, Any]) -> None:
    """Answer each offer: first above the list price, then with what it yields, then by accepting the midpoint."""
    topic = await agent.socket.join(announced["topic"])
    session: dict[str, Any] = topic.state
    # Rounds down, in the client's favour; the least that can be offered is 1.
    asks = [max(1, session["base_max"] * percent // 100) for percent in ASKS_PERCENT]
    while session["status"] == "open":
        if session["turn"] != agent.id:
            event, payload = await topic.next_event(TURN_TIMEOUT_S)
            session = negotiation_after(session, event, payload)
        elif asks:
            session = await topic.push("offer", agent.signer.offer(session, agent_id=agent.id, amount=asks.pop(0)))
            made = session["offers"][-1]
            tell(Told(step=f"asks {agent.money(made['amount'])} (round {made['round']}, signed)"))
        else:
            session = await topic.push("accept", agent.signer.accept(session, agent_id=agent.id))
            tell(Told(step=f"accepts the midpoint: {agent.money(session['amount'])}"))
    await topic.leave()
    if session["status"] == "agreed":
        await agent.keep_receipt(session["id"])


async def do_task(agent: Agent, payee: Payee, announced: dict[str, Any]) -> None:
    """Look a word up; or translate each chunk as it comes, then say how much it was.

    Raises:
        BadInput: The checksum does not fit what came.
    """
    topic = await agent.socket.join(f"task:{announced['task_id']}")
    task: dict[str, Any] = topic.state
    if task["capability"] == LOOK_UP:
        await payee.look_up(topic, task)
        return
    translator = Translator(agent, topic)
    tell(Told(step=f"starts the task: {agent.money(task['price'])} are held for it"))
    await topic.push("progress", {"percent": 0, "message": "reading"})
    await translator.catch_up(task["task_id"], task["streams"]["input"]["next_seq"])
    closed = task["streams"]["input"]
    while not closed["complete"]:
        event, payload = await topic.next_event(TURN_TIMEOUT_S)
        if event == "input_stream":
            await translator.take(payload["seq"], payload["chunk"])
        elif event == "input_complete":
            closed = payload
        elif event in {"task_cancelled", "task_failed"}:
            return
    if translator.heard.hexdigest() != closed["checksum"]:
        raise BadInput("the text's checksum does not fit what came")
    await translator.finish()
    await topic.leave()


class Translator:
    """One task's work: chunks in, translated chunks out, in order."""

    def __init__(self, agent: Agent, topic: Topic) -> None:
        self.heard = StreamChecksum()
        self._said = StreamChecksum()
        self._agent = agent
        self._topic = topic
        self._next_seq = 0
        self._words = 0

    async def catch_up(self, task_id: str, until: int) -> None:
        """Take the chunks that came before the topic was joined."""
        while self._next_seq < until:
            query: dict[str, Any] = {"direction": "input", "from": self._next_seq}
            for chunk in await self._agent.rest.get(f"/tasks/{task_id}/chunks", **query):
                encoded = chunk["chunk"]
                text = base64.b64decode(encoded).decode() if chunk["encoding"] == "base64" else encoded
                await self.take(chunk["seq"], text)

    async def take(self, seq: int, text: str) -> None:
        """Translate one chunk and send it on; one that was taken already is passed over."""
        if seq < self._next_seq:
            return
        translated = translate(text)
        await self._topic.push("output_stream", {"chunk": translated, "seq": seq})
        self.heard.update(text.encode())
        self._said.update(translated.encode())
        self._words += count_words(text)
        self._next_seq = seq + 1
        tell(Told(step=f"translates chunk {seq}: {translated.strip()}"))

    async def finish(self) -> None:
        """Close the output, and complete the task."""
        checksum, size = self._said.hexdigest(), self._said.size
        await self._topic.push("output_complete", {"checksum": checksum, "total_size": size})
        tell(Told(step=f"delivers {size} bytes, SHA-256 {checksum[:16]}…, verified"))
        task = await self._topic.push("complete", {"result": {"words": self._words}})
        tell(Told(step=f"completes the task and is paid {self._agent.money(task['net'])}"))


if __name__ == "__main__":
    raise SystemExit(main(work))
