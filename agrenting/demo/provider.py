"""The demo's provider, and its rival: they are asked for contact, wait for work, bargain for it, do it, and are paid.

`python -m agrenting.demo.provider`, with its configuration on standard input.
"""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final

from agrenting.client import negotiation_after
from agrenting.demo.agent import TURN_TIMEOUT_S, Agent, Told, main, tell
from agrenting.demo.consent import answer_all, policy
from agrenting.demo.payments import LOOK_UP, Payee
from agrenting.demo.translating import translate_task

ASKS_PERCENT: Final = (120, 90)
"""What it asks in a deal, of the list price; then it accepts, unless the client does."""


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
    seen: set[str] = set()
    async with asyncio.TaskGroup() as serving:
        serving.create_task(answer_all(agent, contacts, market))
        while (message := await agent.unless_stopped(mailbox.expect("new_message", None))) is not None:
            if message["type"] in see_to and message["id"] not in seen:  # One may come more than once.
                serving.create_task(see_to[message["type"]](message["payload"]))
            seen.add(message["id"])
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
    """Look up one word, or each word of a stream, or translate a text, as the task asks."""
    if announced["capability"] != LOOK_UP:
        await translate_task(agent, announced["task_id"])
    elif announced["stream_price"] is None:
        topic = await agent.socket.join(announced["topic"])
        await payee.look_up(topic, topic.state)
    else:
        await payee.look_up_stream(announced["task_id"])


if __name__ == "__main__":
    raise SystemExit(main(work))
