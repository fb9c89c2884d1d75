"""What the traders of the living market have in common: how they haggle, and how they go on when something fails.

A trader runs for hours. So it reads every topic that it has joined, remembers nothing for ever, and takes what goes
wrong in one errand as part of the trade: a person may revoke a contact in the page at any moment.
"""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import msgspec

from agrenting.client import ClientError, Disconnected, Topic, negotiation_after
from agrenting.demo.agent import TURN_TIMEOUT_S, Agent, Told, tell

TRANSLATE: Final = "translate"
COUNT_WORDS: Final = "count_words"
CAPABILITIES: Final = (TRANSLATE, "look_up", COUNT_WORDS)
"""What every worker of the living market offers."""

PERCENT: Final = 100
REMEMBERED: Final = 1_000
"""Messages that were seen to: an older one does not come again."""

CHANCE: Final = random.Random()  # noqa: S311 - it decides what the demo does next, and guards nothing
"""What traders leave to chance."""


class Moves(msgspec.Struct, frozen=True, kw_only=True):
    """How one side haggles.

    Args:
        opens: Whether it makes the first offer.
        percents: What it offers, of the list price, one after the other.
        least, most: The midpoints that it accepts once it has offered all that, likewise.
        refusal: What it says otherwise.
    """

    opens: bool
    percents: tuple[int, ...]
    least: int = 0
    most: int = 1_000
    refusal: str


async def haggle(agent: Agent, session_id: str, moves: Moves) -> dict[str, Any]:
    """One side of a negotiation, to its end; the session.

    Raises:
        ClientError: The server refuses a move, or the other side is silent.
    """
    topic = await agent.socket.join(f"negotiation:{session_id}")
    session: dict[str, Any] = topic.state
    left = deque(moves.percents)
    while session["status"] == "open":
        begins = moves.opens and not session["offers"]
        if session["turn"] != agent.id and not begins:
            event, payload = await topic.next_event(TURN_TIMEOUT_S)
            session = negotiation_after(session, event, payload)
        elif left:
            amount = share(session["base_max"], left.popleft())
            session = await topic.push("offer", agent.signer.offer(session, agent_id=agent.id, amount=amount))
        elif share(session["base_max"], moves.least) <= session["midpoint"] <= share(session["base_max"], moves.most):
            session = await topic.push("accept", agent.signer.accept(session, agent_id=agent.id))
        else:
            session = await topic.push("reject", {"reason": moves.refusal})
    await topic.leave()
    return session


def share(price: int, percent: int) -> int:
    """A part of a price; the least that anything costs is 1."""
    return max(1, price * percent // PERCENT)  # Rounds down.


async def attempt(errand: str, doing: Awaitable[None]) -> bool:
    """Do something; whether it went well. Where it does not, the trade goes on, unless the server is gone.

    Raises:
        Disconnected: The server is gone.
    """
    try:
        await doing
    except Disconnected:
        raise
    except ClientError as error:
        tell(Told(step=f"gives up {errand}: {error}", outcome="given up"))
        return False
    return True


async def pass_over(agent: Agent, topic: Topic) -> None:
    """Read what comes on a topic that is joined to be seen there, until asked to leave."""
    while await agent.unless_stopped(topic.next_event()) is not None:
        pass


SeeTo = Callable[[dict[str, Any]], Coroutine[Any, Any, None]]


async def see_to_mail(agent: Agent, mailbox: Topic, *, by_type: dict[str, SeeTo], grace_s: float = 0.0) -> None:
    """Take every message once, and see to those of these types side by side, until asked to leave.

    Args:
        agent: Whose mailbox it is.
        mailbox: Its `messages:{id}`.
        by_type: What is done with a message's payload.
        grace_s: How long what is under way may take when it is asked to leave.
    """
    seen: deque[str] = deque(maxlen=REMEMBERED)
    under_way: set[asyncio.Task[bool]] = set()
    async with asyncio.TaskGroup() as serving:
        while (message := await agent.unless_stopped(mailbox.expect("new_message", None))) is not None:
            if message["type"] in by_type and message["id"] not in seen:  # One may come more than once.
                doing = serving.create_task(attempt(message["type"], by_type[message["type"]](message["payload"])))
                under_way.add(doing)
                doing.add_done_callback(under_way.discard)
            seen.append(message["id"])
            await mailbox.push("acknowledge", {"message_id": message["id"]})
        if under_way:
            await asyncio.wait(under_way, timeout=grace_s)
        for doing in under_way:
            doing.cancel()
