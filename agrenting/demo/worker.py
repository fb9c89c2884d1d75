"""A worker of the living market: it admits whoever asks, or leaves that to its owner, haggles, works, and is paid.

`python -m agrenting.demo.worker`, with its configuration on standard input.
"""

import asyncio
from functools import partial
from typing import Any, Final

from agrenting.client import StreamBroken, StreamedTask, Topic
from agrenting.demo.agent import TURN_TIMEOUT_S, Agent, Told, main, tell
from agrenting.demo.consent import KINDS, consider, policy
from agrenting.demo.payments import LOOK_UP, Payee
from agrenting.demo.trading import (
    CAPABILITIES,
    CHANCE,
    COUNT_WORDS,
    Moves,
    SeeTo,
    haggle,
    pass_over,
    see_to_mail,
)
from agrenting.demo.words import count_words, translate

ADMITTED: Final = (*KINDS, "message")
"""What whoever is admitted may open."""

FIRST_PERCENT, NEXT_PERCENT, LEAST_PERCENT = (110, 135), (90, 108), (78, 94)
"""Between what its asks are, of the list price, and the least that it accepts."""

FAILS_PERCENT: Final = 7
"""How many tasks of a hundred turn out to be beyond it."""

LINE_S: Final = (0.1, 0.3)
"""How long a line takes."""

GRACE_S: Final = 2.0


async def work(agent: Agent) -> None:
    """Be present, and see to requests, negotiations, tasks and channels until asked to leave."""
    market = await agent.socket.join("agents:discovery")
    await market.push("announce", {"capabilities": list(CAPABILITIES)})
    contacts = await agent.socket.join(f"agent_contacts:{agent.id}")
    mailbox = await agent.socket.join(f"messages:{agent.id}")
    tell(Told(step=f"is online; {policy(agent)}", is_ready=True))
    payee = Payee(agent, patience_s=None)
    by_type: dict[str, SeeTo] = {
        "negotiation": partial(bargain, agent),
        "task_handoff": partial(do_task, agent, payee),
        "payment_channel": payee.be_paid,
    }
    async with asyncio.TaskGroup() as serving:
        serving.create_task(pass_over(agent, market))
        serving.create_task(admit(agent, contacts))
        serving.create_task(see_to_mail(agent, mailbox, by_type=by_type, grace_s=GRACE_S))


async def admit(agent: Agent, contacts: Topic) -> None:
    """Answer whoever asks for contact, or leave it to the owner, until asked to leave."""
    while (heard := await agent.unless_stopped(contacts.next_event())) is not None:
        event, payload = heard
        if event == "contact_request_received":
            await consider(agent, payload, ADMITTED)


async def bargain(agent: Agent, announced: dict[str, Any]) -> None:
    """Ask more than the list price, then about that, and then accept what is not too little."""
    asks = tuple(CHANCE.randint(*between) for between in (FIRST_PERCENT, NEXT_PERCENT))
    moves = Moves(opens=False, percents=asks, least=CHANCE.randint(*LEAST_PERCENT), refusal="too cheap")
    await haggle(agent, announced["topic"].removeprefix("negotiation:"), moves)


async def do_task(agent: Agent, payee: Payee, announced: dict[str, Any]) -> None:
    """Look up, count, or translate, as the task asks."""
    if announced["capability"] == COUNT_WORDS:
        await count(agent, announced["task_id"])
    elif announced["capability"] != LOOK_UP:
        await translate_lines(agent, announced["task_id"])
    elif announced["stream_price"] is None:
        topic = await agent.socket.join(announced["topic"])
        await payee.look_up(topic, topic.state)
    else:
        await payee.look_up_stream(announced["task_id"])


async def count(agent: Agent, task_id: str) -> None:
    """Count the words of a text that stands in the task, unless it is beyond it."""
    topic = await agent.socket.join(f"task:{task_id}")
    await topic.push("progress", {"percent": 50, "message": "counting"})
    await asyncio.sleep(CHANCE.uniform(*LINE_S))
    if fails():
        await topic.push("error", {"type": "no_text", "details": {"message": "this is no text"}})
    else:
        await topic.push("complete", {"result": {"words": count_words(topic.state["input"]["text"])}})
    await topic.leave()


async def translate_lines(agent: Agent, task_id: str) -> None:
    """Translate line by line, telling how far it is, unless a line turns out to be unreadable."""
    task = StreamedTask(task_id, role="provider", timeout_s=TURN_TIMEOUT_S)
    lines: int = (await task.join(agent.socket))["input"]["lines"]
    unreadable = CHANCE.randrange(lines) if fails() else lines
    words = done = 0
    await task.push("progress", {"percent": 0, "message": "reading"})
    try:
        while (line := await task.next_chunk()) is not None:
            await asyncio.sleep(CHANCE.uniform(*LINE_S))
            if done == unreadable:
                await task.push("error", {"type": "unreadable_line", "details": {"line": done}})
                return
            await task.send(translate(line.decode()).encode())
            done, words = done + 1, words + count_words(line.decode())
            percent = 100 * done // lines  # Rounds down.
            await task.push("progress", {"percent": percent, "message": f"line {done} of {lines}"})
        await task.close()
        await task.push("complete", {"result": {"words": words}})
    except StreamBroken:
        pass  # The client does not need it any more.
    finally:
        await task.leave()


def fails() -> bool:
    """Whether a task turns out to be beyond it."""
    return CHANCE.randrange(100) < FAILS_PERCENT


if __name__ == "__main__":
    raise SystemExit(main(work))
