"""The demo's client: it finds a translator, bargains, hires it, and checks what it gets.

`python -m agrenting.demo.client`
"""

import asyncio
import hashlib
import uuid
from typing import Any, Final

from agrenting.client import ClientError
from agrenting.demo.agent import Agent, main, tell
from agrenting.demo.words import TEXT

CAPABILITY: Final = "translate"
FIRST_BIDS_PERCENT: Final = (50, 55, 45, 60)
SECOND_BID_PERCENT: Final = 70
TURN_TIMEOUT_S: Final = 30.0
PAUSE_S: Final = 3.0


class BadDelivery(ClientError):
    """What was delivered is not what was said."""


async def work(agent: Agent) -> None:
    """Deal once, or until stopped."""
    market = await agent.socket.join("agents:discovery")
    number = 0
    while True:
        found = await market.push("discover", {"capability": CAPABILITY, "filters": {"status": "online"}})
        hits = found["agents"]
        if not hits:
            raise ClientError("nobody who translates is online")
        tell(step=f"discovers {hits[0]['handle']}: {CAPABILITY} for {{{hits[0]['price']}}}, reputation "
                  f"{hits[0]['reputation']:.2f}")  # fmt: skip
        session = await market.push("open_negotiation", {"provider_agent_id": hits[0]["id"], "capability": CAPABILITY})
        tell(step=f"opens a negotiation; its digest is {session['session_digest'][:16]}…")
        agreed = await bargain(agent, session["id"], FIRST_BIDS_PERCENT[number % len(FIRST_BIDS_PERCENT)])
        task = await hire(agent, agreed)
        completed = await stream(agent, task["task_id"])
        path = await agent.keep_receipt(agreed["id"])
        tell(step=f"keeps its receipt of the agreement: {path.name}")
        tell(deal={"session_id": agreed["id"], "task_id": task["task_id"], "price": completed["price"],
                   "fee": completed["fee"]})  # fmt: skip
        number += 1
        if agent.settings.once:
            return
        await asyncio.sleep(PAUSE_S)


async def bargain(agent: Agent, session_id: str, first_percent: int) -> dict[str, Any]:
    """Bid low, bid once more, and accept the midpoint."""
    topic = await agent.socket.join(f"negotiation:{session_id}")
    session: dict[str, Any] = topic.state
    bids = [session["base_max"] * percent // 100 for percent in (first_percent, SECOND_BID_PERCENT)]
    # Rounds down, in the client's favour.
    while session["status"] == "open":
        if bids:
            session = await topic.push("offer", agent.signer.offer(session, agent_id=agent.id, amount=bids.pop(0)))
            tell(step=f"offers {{{session['offers'][-1]['amount']}}} (round {len(session['offers'])}, signed)")
            await topic.expect("offer", TURN_TIMEOUT_S)
            session = await agent.rest.get(f"/negotiations/{session_id}")
        else:
            session = await topic.push("accept", agent.signer.accept(session, agent_id=agent.id))
            tell(step=f"accepts the midpoint: {{{session['amount']}}}")
    await topic.leave()
    return session


async def hire(agent: Agent, agreed: dict[str, Any]) -> dict[str, Any]:
    """Create the task from the agreement; with an idempotency key it may be repeated safely."""
    body = {
        "provider_agent_id": agreed["provider_agent_id"],
        "capability": agreed["capability"],
        "negotiation_session_id": agreed["id"],
    }
    task: dict[str, Any] = await agent.rest.post("/tasks", body, idempotency_key=str(uuid.uuid4()))
    tell(step=f"creates the task: {{{task['price']}}} are held, {{{task['fee']}}} of it the platform's fee")
    return task


async def stream(agent: Agent, task_id: str) -> dict[str, Any]:
    """Send the text, take the translation, and check it.

    Raises:
        BadDelivery: The checksum does not fit what came.
        ClientError: The task did not complete.
    """
    topic = await agent.socket.join(f"task:{task_id}")
    sent = "".join(TEXT).encode()
    for seq, line in enumerate(TEXT):
        await topic.push("input_stream", {"chunk": line, "seq": seq})
    await topic.push("input_complete", {"checksum": hashlib.sha256(sent).hexdigest(), "total_size": len(sent)})
    tell(step=f"sends {len(sent)} bytes of text in {len(TEXT)} chunks, verified")
    received: dict[int, str] = {}
    while True:
        event, payload = await topic.next_event(TURN_TIMEOUT_S)
        if event == "output_stream":
            received[payload["seq"]] = payload["chunk"]
        elif event == "output_complete":
            whole = "".join(received[seq] for seq in sorted(received)).encode()
            if hashlib.sha256(whole).hexdigest() != payload["checksum"]:
                raise BadDelivery("the translation's checksum does not fit what came")
            tell(step=f"has the whole translation, {len(whole)} bytes, and its checksum fits")
        elif event == "task_completed":
            task: dict[str, Any] = payload["task"]
            tell(step=f"sees the task completed: {{{task['price']}}} released")
            await topic.leave()
            return task
        elif event in {"task_failed", "task_cancelled"}:
            raise ClientError(f"the task ended without a result: {event}")


if __name__ == "__main__":
    raise SystemExit(main(work))
