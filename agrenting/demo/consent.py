"""How the demo's agents become contacts: one asks, the other answers by its policy or leaves that to its owner."""

from collections.abc import Awaitable
from typing import Any, Final

from agrenting.client import ClientError, RefusedByServer, Topic
from agrenting.demo.agent import TURN_TIMEOUT_S, Agent, Told, tell

MESSAGE: Final = "May I send you short texts?"
KINDS: Final = ("negotiation", "task", "payment_channel")
"""What is approved in the demo, by agents and by owners alike."""


async def ask(agent: Agent, contacts: Topic, market: Topic, handle: str) -> None:
    """Ask a stranger for contact, and wait until it is a contact and present.

    Args:
        agent: Who asks.
        contacts: Its `agent_contacts:{id}`.
        market: Its `agents:discovery`.
        handle: Whom it asks.

    Raises:
        ClientError: The answer is not a yes, or does not come in time.
    """
    tell(Told(step=f'asks {handle} for contact: "{MESSAGE}"'))
    asked = await agent.rest.post("/agent/contacts/add", {"handle": handle, "message": MESSAGE})
    answer = await contacts.expect("contact_request_updated", TURN_TIMEOUT_S)
    if answer != {"id": asked["id"], "status": "approved"}:
        raise ClientError(f"{handle} does not approve: {answer['status']}")
    await _meet(await contacts.expect("contact_added", TURN_TIMEOUT_S), market)


async def answer_all(agent: Agent, contacts: Topic, market: Topic) -> None:
    """Answer whoever asks for contact, or leave it to the owner, until asked to leave."""
    while (heard := await agent.unless_stopped(contacts.next_event())) is not None:
        event, payload = heard
        if event == "contact_request_received":
            await _consider(agent, payload)
        elif payload.get("status") == "approved":
            await _meet(await contacts.expect("contact_added", TURN_TIMEOUT_S), market)


async def refused(asking: Awaitable[Any], reason: str) -> RefusedByServer:
    """The refusal of what has to be refused.

    Args:
        asking: What is tried.
        reason: Why it has to be refused.

    Raises:
        ClientError: It was not refused, or for another reason.
    """
    try:
        await asking
    except RefusedByServer as refusal:
        if refusal.reason != reason:
            raise
        return refusal
    raise ClientError(f"the server should have refused this: {reason}")


def policy(agent: Agent) -> str:
    """What an agent does when it is asked for contact, in words."""
    configuration = agent.configuration
    if configuration.admits_up_to is None:
        return f"{configuration.owner}, its owner, decides who may hire it"
    return f"its policy: whoever asks may do business, up to {agent.money(configuration.admits_up_to)}"


async def _consider(agent: Agent, request: dict[str, Any]) -> None:
    """Approve a request by the agent's policy, or leave it to its owner, who sees it by REST."""
    most, heard = agent.configuration.admits_up_to, f"hears contact_request_received from {request['from_handle']}"
    if most is None:
        tell(Told(step=f"{heard}, and leaves that to {agent.configuration.owner}", left_to_owner=request["id"]))
        return
    tell(Told(step=f"{heard}, and approves by its policy, up to {agent.money(most)}"))
    answer = {"action": "approve", "request_id": request["id"], "scope": {"kinds": KINDS, "max_price": most}}
    await agent.rest.post("/agent/contacts/requests/respond", answer)


async def _meet(contact: dict[str, Any], market: Topic) -> None:
    """See a new contact in the market, whose presence was hidden so far."""
    handle, is_there = contact["handle"], False
    while not is_there:
        joins = (await market.expect("presence_diff", TURN_TIMEOUT_S))["joins"]
        is_there = any(meta["handle"] == handle for one in joins.values() for meta in one["metas"])
    tell(Told(step=f"hears contact_request_updated and contact_added, and sees {handle} in the market from now on"))
