"""A worker of the living market: it admits whoever asks, or leaves that to its owner, haggles, works, and is paid.

`python -m agrenting.demo.worker`, with its configuration on standard input.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Final

from agrenting.client import (
    AcceptChannels,
    AcknowledgeWhen,
    Approve,
    Callback,
    Conceder,
    ContactRequest,
    Job,
    ProposedPayment,
    TaskFailed,
)
from agrenting.demo.agent import Configuration, Told, tell
from agrenting.demo.consent import KINDS
from agrenting.demo.payments import LOOK_UP
from agrenting.demo.trading import CHANCE, COUNT_WORDS, TRANSLATE, Trader, main, share
from agrenting.demo.words import count_words, translate

ADMITTED: Final = (*KINDS, "message")
"""What whoever is admitted may open."""

FIRST_PERCENT, LEAST_PERCENT = (105, 130), (74, 92)
"""Between what it asks first of the list price, and the least that it accepts."""

FAILS_PERCENT: Final = 7
"""How many tasks of a hundred turn out to be beyond it."""

LINE_S: Final = (0.1, 0.3)
"""How long a line takes."""

REMEMBERED: Final = 1_000
"""Of how many streamed tasks it knows that they are paid for."""


async def work(trader: Trader) -> None:
    """See to requests, negotiations, tasks and channels until asked to leave."""
    agent, desk = trader.agent, Desk(trader.configuration.look_up_price)
    agent.accept_channels(AcceptChannels(AcknowledgeWhen(desk.is_owed)))
    for name, do in ((TRANSLATE, translate_lines), (COUNT_WORDS, count), (LOOK_UP, desk.look_up)):
        agent.capability(name, strategy=asks(prices(trader).get(name, 0)))(do)
    tell(Told(step="goes online", is_ready=True))
    await agent.serve()  # It hears SIGTERM itself.


def contacts(configuration: Configuration) -> Callback:
    """Approves whoever asks, up to a price, or leaves that to the agent's owner."""

    async def decide(request: ContactRequest) -> Approve | None:
        most, heard = configuration.admits_up_to, f"hears contact_request_received from {request.from_handle}"
        if most is None:
            tell(Told(step=f"{heard}, and leaves that to {configuration.owner}", left_to_owner=request.id))
            return None
        tell(Told(step=f"{heard}, and approves by its policy"))
        return Approve(kinds=ADMITTED, max_price=most)

    return Callback(decide)


def prices(trader: Trader) -> dict[str, int]:
    """Its list prices, by capability, in minor units."""
    return {one.name: one.price or 0 for one in trader.agent.me.capabilities}


def asks(price: int) -> Conceder | None:
    """How it haggles about something; None: it costs nothing by itself."""
    if price == 0:
        return None
    first, least = (share(price, CHANCE.randint(*between)) for between in (FIRST_PERCENT, LEAST_PERCENT))
    return Conceder(first=first, limit=least)


async def count(job: Job) -> Any:
    """Count the words of a text that stands in the task, unless it is beyond it."""
    await job.progress(50, "counting")
    await asyncio.sleep(CHANCE.uniform(*LINE_S))
    if fails():
        raise TaskFailed("no_text", {"message": "this is no text"})
    return {"words": count_words(job.input["text"])}


async def translate_lines(job: Job) -> AsyncIterator[str]:
    """Translate line by line, telling how far it is, unless a line turns out to be unreadable."""
    lines: int = job.input["lines"]
    unreadable = CHANCE.randrange(lines) if fails() else lines
    words = done = 0
    await job.progress(0, "reading")
    async for line in job:
        await asyncio.sleep(CHANCE.uniform(*LINE_S))
        if done == unreadable:
            raise TaskFailed("unreadable_line", {"line": done})
        yield translate(line.decode())
        done, words = done + 1, words + count_words(line.decode())
        percent = 100 * done // lines  # Rounds down.
        await job.progress(percent, f"line {done} of {lines}")
    job.result = {"words": words}


class Desk:
    """Where words are looked up, one by one or as a stream of them, and paid over a channel.

    Args:
        price: What one costs by itself, in minor units.
    """

    def __init__(self, price: int) -> None:
        self._price = price
        self._owed: dict[str, int] = {}
        """By task."""
        self._streams: deque[str] = deque(maxlen=REMEMBERED)
        """Tasks that are paid as they stream; the last payment comes when the last word is there."""

    async def look_up(self, job: Job) -> AsyncIterator[str]:
        """Look up the word that stands in the task; or those that stream in, as far as the others are paid."""
        if job.input is not None:
            self._owed[job.task_id] = self._price
            job.result = {"text": translate(job.input["word"]), "owed": self._price}
            return
        self._streams.append(job.task_id)
        async for word in job:
            yield translate(word.decode())

    async def is_owed(self, payment: ProposedPayment) -> bool:
        """Whether a payment is what somebody owes; it is not owed twice."""
        return payment.task_id in self._streams or self._owed.pop(payment.task_id or "", None) == payment.amount


def fails() -> bool:
    """Whether a task turns out to be beyond it."""
    return CHANCE.randrange(100) < FAILS_PERCENT


if __name__ == "__main__":
    raise SystemExit(main(work, contacts))
