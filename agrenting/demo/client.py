"""The demo's client: it finds a translator, asks for contact, bargains, hires it, checks the work, pays for follow-ups.

`python -m agrenting.demo.client`, with its configuration on standard input.
"""

import asyncio
import math
import uuid
from typing import Any, Final

from agrenting.client import ClientError, Topic, negotiation_after
from agrenting.demo.agent import TURN_TIMEOUT_S, Agent, Deal, Told, main, tell
from agrenting.demo.consent import ask, refused
from agrenting.demo.payments import follow_up
from agrenting.demo.reading import have_translated

CAPABILITY: Final = "translate"
BIDS_PERCENT: Final = (50, 70)
"""What it bids in a deal, of the list price; then it accepts, unless the provider does."""


async def work(agent: Agent) -> None:
    """Deal once, and stay until asked to leave."""
    market = await agent.socket.join("agents:discovery")
    present = await market.expect("presence_state", TURN_TIMEOUT_S)
    others = [meta["handle"] for id_, one in present.items() if id_ != agent.id for meta in one["metas"][-1:]]
    tell(Told(step=f"joins the market and sees who of its contacts is there: {', '.join(others) or 'nobody'}"))
    provider = await find_provider(agent, market)
    await deal(agent, market, provider)
    await agent.unless_stopped(asyncio.sleep(math.inf))


async def find_provider(agent: Agent, market: Topic) -> dict[str, Any]:
    """The translator that it will hire: both are strangers, and it asks both for contact.

    The first one's contact turns out to be for less than that one's own list price, so the second one it is.

    Raises:
        ClientError: One of them does not approve, or the server allows what it should refuse.
    """
    contacts = await agent.socket.join(f"agent_contacts:{agent.id}")
    rival, provider = await discover(agent, market)
    first, second = rival["handle"], provider["handle"]
    refusal = await refused(market.push("open_negotiation", asked_of(rival)), "contact_required")
    tell(Told(step=f"would open a negotiation with {first}, and is refused: {refusal.reason}"))
    await ask(agent, contacts, market, first)
    hiring = {**asked_of(rival), "max_price": rival["price"]}
    refusal = await refused(agent.rest.post("/tasks", hiring), "contact_scope_exceeded")
    price, most = agent.money(rival["price"]), agent.money(refusal.context["max_price"])
    tell(Told(step=f"would hire {first} for {price}, and is refused: {refusal.reason}, above {most}"))
    await ask(agent, contacts, market, second)
    return provider


async def deal(agent: Agent, market: Topic, provider: dict[str, Any]) -> None:
    """One deal, from the first offer to the receipt, and the follow-ups to it."""
    opened = await market.push("open_negotiation", asked_of(provider))
    digest = opened["session_digest"]
    step = f"opens a negotiation with {provider['handle']}, whose digest is {digest[:16]}…"
    tell(Told(step=step, begins_deal=True))
    agreed = await bargain(agent, opened["id"], provider)
    task = await hire(agent, agreed)
    completed = await have_translated(agent, task["task_id"])
    await agent.keep_receipt(agreed["id"])
    tell(
        Told(
            deal=Deal(
                session_id=agreed["id"],
                task_id=task["task_id"],
                price=completed["price"],
                fee=completed["fee"],
                payment=await follow_up(agent, provider),
            )
        )
    )


def asked_of(provider: dict[str, Any]) -> dict[str, Any]:
    """What every opening names: with whom, and what for."""
    return {"provider_agent_id": provider["id"], "capability": CAPABILITY}


async def discover(agent: Agent, market: Topic) -> tuple[dict[str, Any], dict[str, Any]]:
    """The best two translators who are online: of equal reputation, the cheaper one first.

    Raises:
        ClientError: There are fewer.
    """
    found = await market.push("discover", {"capability": CAPABILITY, "filters": {"status": "online"}})
    for hit in found["agents"]:
        price, stars, needed = agent.money(hit["price"]), f"{hit['reputation']:.2f}", hit["contact_required"]
        known = f"{price}, reputation {stars}, contact_required: {'true' if needed else 'false'}"
        tell(Told(step=f"discovers {hit['handle']}, which translates for {known}"))
    if len(found["agents"]) < 2:  # noqa: PLR2004 - two are compared
        raise ClientError("fewer than two who translate are online")
    first, second = found["agents"][:2]
    return first, second


async def bargain(agent: Agent, session_id: str, provider: dict[str, Any]) -> dict[str, Any]:
    """Bid, bid more, and at last accept the midpoint, unless the provider does.

    Raises:
        ClientError: The session is not what was asked for, is too dear, or ended without an agreement.
    """
    topic = await agent.socket.join(f"negotiation:{session_id}")
    session: dict[str, Any] = topic.state
    if (session["provider_agent_id"], session["base_max"]) != (provider["id"], provider["price"]):
        raise ClientError("the session is with another agent, or at another price, than was asked for")
    # Rounds down, in the client's favour; the least that can be offered is 1.
    bids = [max(1, session["base_max"] * percent // 100) for percent in BIDS_PERCENT]
    while session["status"] == "open":
        if session["offers"] and session["turn"] != agent.id:
            event, payload = await topic.next_event(TURN_TIMEOUT_S)
            session = negotiation_after(session, event, payload)
            if event == "accept":
                tell(Told(step=f"hears that the midpoint is accepted: {agent.money(payload['amount'])}"))
        elif bids:
            session = await topic.push("offer", agent.signer.offer(session, agent_id=agent.id, amount=bids.pop(0)))
            made = session["offers"][-1]
            tell(Told(step=f"offers {agent.money(made['amount'])} (round {made['round']}, signed)"))
        elif session["midpoint"] > session["base_max"]:
            session = await topic.push("reject", {"reason": "too dear"})
        else:
            session = await topic.push("accept", agent.signer.accept(session, agent_id=agent.id))
            tell(Told(step=f"accepts the midpoint: {agent.money(session['amount'])}"))
    await topic.leave()
    if session["status"] != "agreed":
        raise ClientError(f"the negotiation ended without an agreement: {session['status']}")
    return session


async def hire(agent: Agent, agreed: dict[str, Any]) -> dict[str, Any]:
    """Create the task from the agreement; with an idempotency key it may be repeated safely."""
    body = {
        "provider_agent_id": agreed["provider_agent_id"],
        "capability": agreed["capability"],
        "negotiation_session_id": agreed["id"],
    }
    task: dict[str, Any] = await agent.rest.post("/tasks", body, idempotency_key=str(uuid.uuid4()))
    price, fee = agent.money(task["price"]), agent.money(task["fee"])
    tell(Told(step=f"creates the task: {price} are held, of which {fee} will be the platform's fee"))
    return task


if __name__ == "__main__":
    raise SystemExit(main(work))
