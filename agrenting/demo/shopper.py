"""A shopper of the living market: it makes contacts, and has its errands done by whoever lets it.

`python -m agrenting.demo.shopper`, with its configuration on standard input.
"""

import asyncio
from contextlib import suppress
from typing import Any, Final

from agrenting.client import (
    Boulware,
    CheckFailed,
    FoundAgent,
    HiredTask,
    NoAnswer,
    NotAgreed,
    NotApproved,
    PaymentChannel,
    StreamPrice,
    TaskNotDone,
)
from agrenting.demo.agent import TURN_TIMEOUT_S, Told, tell
from agrenting.demo.payments import CREDIT, LOOK_UP
from agrenting.demo.trading import CHANCE, COUNT_WORDS, TRANSLATE, Trader, attempt, main, share
from agrenting.demo.words import GERMAN, TEXT, count_words, translate

PAUSE_S: Final = (0.5, 3.0)
"""Between two errands."""

FIRST_PERCENT, MOST_PERCENT = (45, 60), (80, 105)
"""Between what it bids first, of the list price, and the most that it pays."""

LINES: Final = (3, 8)
"""How many lines it has translated at once."""

ANSWERS_S: Final = 1.0
"""How long it waits for the answer to a request for contact before it goes on with its errands."""

THINKS_S: Final = 0.8
"""How long it takes to change its mind."""

WORDS_PER_CHANNEL: Final = 12
"""What it locks in a channel, in look-ups."""

STREAMED_WORDS: Final = (2, 4)
"""How many words it has looked up in one stream."""

LOW_LOOK_UPS: Final = 200
"""With less money than so many look-ups cost it needs more."""

REQUESTS: Final = (
    "May I send you short texts?",
    "I look for somebody who counts honestly.",
    "A friend says that your German is good.",
    "I have a book to translate, line by line.",
)
"""What it says when it asks for contact."""

GREETINGS: Final = ("Thank you for the quick work.", "More is to come tomorrow.", "Are you there at noon?")


class Shopper:
    """What one shopper does.

    Args:
        trader: Who shops.
    """

    def __init__(self, trader: Trader) -> None:
        self._trader = trader
        self._agent = trader.agent
        self._channels: dict[str, PaymentChannel] = {}
        """Those that are open, by whom they pay."""

    async def shop(self) -> None:
        """Ask everybody for contact, then run one errand after the other, until asked to leave."""
        trader = self._trader
        for stranger in await self._strangers():
            await attempt("asking for contact", self._ask(stranger))
        errands = {
            "a bargain": (self._bargain, 40),
            "counting words": (self._have_counted, 22),
            "looking words up": (self._look_up, 22),
            "a change of mind": (self._change_mind, 5),
            "a message": (self._greet, 8),
            "its contacts": (self._see_to_contacts, 3),
        }
        weights = [weight for _, weight in errands.values()]
        while not trader.is_stopping:
            ((name, (errand, _)),) = CHANCE.choices([*errands.items()], weights)
            await attempt(name, errand())
            await self._see_to_money()
            await trader.unless_stopped(asyncio.sleep(CHANCE.uniform(*PAUSE_S)))
        for worker_id in [*self._channels]:
            await attempt("a channel", self._close(worker_id))

    # Whom it knows.

    async def _strangers(self) -> list[FoundAgent]:
        asked = {request.to_handle for request in await self._agent.contacts.own_requests()}
        found = await self._agent.discover(TRANSLATE, limit=100)
        return [one for one in found if one.contact_required and one.handle not in asked]

    async def _hireable(self, capability: str) -> FoundAgent | None:
        """One of those who may be hired for something."""
        known = [one for one in await self._agent.discover(capability, limit=100) if not one.contact_required]
        return CHANCE.choice(known) if known else None

    async def _ask(self, stranger: FoundAgent) -> None:
        message = CHANCE.choice(REQUESTS)
        tell(Told(step=f'asks {stranger.handle} for contact: "{message}"', outcome="asked for contact"))
        with suppress(NoAnswer, NotApproved):  # Its owner takes longer to answer, or has said no.
            await self._agent.request_contact(stranger.handle, message, ANSWERS_S)

    async def _see_to_contacts(self) -> None:
        """Ask a stranger; where all are asked, take back a request or give up a contact, so that there is one again."""
        contacts, strangers = self._agent.contacts, await self._strangers()
        if strangers:
            await self._ask(CHANCE.choice(strangers))
            return
        requests = await contacts.own_requests()
        if requests:
            await contacts.cancel(requests[0])
            return
        known = [one for one in await self._agent.discover(TRANSLATE, limit=100) if one.is_contact]
        if known:
            left = CHANCE.choice(known)
            await self._close(left.id)
            contact = await contacts.find(left.handle)
            if contact is not None:
                await contacts.remove(contact)

    # Errands.

    async def _bargain(self) -> None:
        """Haggle for a translation, have it done, and pay for it once it is checked."""
        worker = await self._hireable(TRANSLATE)
        if worker is None or worker.price is None:
            return
        first, most = (share(worker.price, CHANCE.randint(*between)) for between in (FIRST_PERCENT, MOST_PERCENT))
        try:
            agreement = await self._agent.negotiate(
                worker, TRANSLATE, strategy=Boulware(first=first, limit=most), timeout_s=TURN_TIMEOUT_S
            )
        except NotAgreed:
            tell(Told(step=f"finds no price with {worker.handle}", outcome="not agreed"))
            return
        lines = self._lines()
        task = await self._agent.hire(
            TRANSLATE,
            agreement=agreement,
            input={"lines": len(lines)},
            data=[line.encode() for line in lines],
        )
        await self._take(task, worker.handle, "".join(translate(line) for line in lines))

    async def _take(self, task: HiredTask, handle: str, wanted: str) -> None:
        """Take what was delivered, and release the price where that is what was wanted.

        Raises:
            CheckFailed: It is not.
        """
        async with task:
            with suppress(TaskNotDone):  # Its state says why.
                await task.settle(lambda _result, output: output.decode() == wanted)
            self._done(task, handle)

    async def _have_counted(self) -> None:
        """Have words counted, at the list price, which is paid at once."""
        worker = await self._hireable(COUNT_WORDS)
        if worker is None:
            return
        text = "".join(self._lines())
        task = await self._agent.hire(COUNT_WORDS, provider=worker, input={"text": text}, data=b"", hold_s=0)
        async with task:
            try:
                result = await task.result()
            except TaskNotDone:
                result = None
            if result is not None and result["words"] != count_words(text):
                raise CheckFailed(task.id, f"{worker.handle} has counted wrong")
            self._done(task, worker.handle)

    async def _change_mind(self) -> None:
        """Hire somebody, send nothing, and cancel."""
        worker = await self._hireable(TRANSLATE)
        if worker is None:
            return
        async with await self._agent.hire(TRANSLATE, provider=worker, input={"lines": 1}) as task:
            await self._trader.unless_stopped(asyncio.sleep(THINKS_S))
            await task.cancel("not needed any more")
            self._done(task, worker.handle)

    async def _look_up(self) -> None:
        """Have words looked up, and pay for them over a channel, which is closed once it runs low."""
        worker = await self._hireable(LOOK_UP)
        if worker is None:
            return
        price = self._trader.configuration.look_up_price
        channel = self._channels.get(worker.id)
        if channel is None:
            deposit = WORDS_PER_CHANNEL * price
            channel = self._channels[worker.id] = await self._agent.open_channel(worker, deposit)
        words = CHANCE.sample([*GERMAN], CHANCE.randint(*STREAMED_WORDS))
        if CHANCE.randrange(2):
            await self._look_up_stream(worker, channel, words)
        else:
            await self._look_up_one(worker, channel, words[0])
        tell(Told(outcome="done"))
        if channel.balance < price + STREAMED_WORDS[1] * self._trader.configuration.word_price:
            await self._close(worker.id)

    async def _look_up_one(self, worker: FoundAgent, channel: PaymentChannel, word: str) -> None:
        """Ask for a word, in a task that costs nothing, and pay what is owed for it."""
        asked: dict[str, Any] = {"word": word}
        async with await self._agent.hire(LOOK_UP, provider=worker, max_price=0, input=asked, data=b"") as task:
            owed = (await task.result())["owed"]
        if owed > self._trader.configuration.look_up_price:
            raise CheckFailed(task.id, "a word was to cost less")
        await channel.pay(owed, task_id=task.id, memo=f"{LOOK_UP}: {word}")

    async def _look_up_stream(self, worker: FoundAgent, channel: PaymentChannel, words: list[str]) -> None:
        """Ask for several words in one task, each of which is paid once it is here."""
        price = StreamPrice(amount=self._trader.configuration.word_price, per="chunk", credit=CREDIT)
        asked = [word.encode() for word in words]
        hiring = self._agent.hire(LOOK_UP, provider=worker, data=asked, channel=channel, stream_price=price)
        async with await hiring as task:
            heard = [chunk.decode() async for chunk in task]
        if heard != [translate(word) for word in words]:
            raise CheckFailed(task.id, "the words are not those of an own look-up")

    async def _close(self, worker_id: str) -> None:
        channel = self._channels.pop(worker_id, None)
        if channel is not None:
            await channel.close(timeout_s=TURN_TIMEOUT_S)

    async def _greet(self) -> None:
        """Write to somebody."""
        worker = await self._hireable(CHANCE.choice((TRANSLATE, COUNT_WORDS)))
        if worker is not None:
            await self._agent.send(worker.id, "status_update", {"text": CHANCE.choice(GREETINGS)})
            tell(Told(step=f"writes to {worker.handle}", outcome="wrote"))

    async def _see_to_money(self) -> None:
        """Say so where its money runs low."""
        balance = await self._agent.balance()
        if balance.available < LOW_LOOK_UPS * self._trader.configuration.look_up_price:
            tell(Told(is_low=True))

    def _lines(self) -> list[str]:
        wanted = CHANCE.randint(*LINES)
        start = CHANCE.randrange(len(TEXT) - wanted)
        return [*TEXT[start : start + wanted]]

    def _done(self, task: HiredTask, handle: str) -> None:
        outcome = "done" if task.status == "completed" else task.status
        price = self._agent.money(task.price)
        tell(Told(step=f"has had a task of {handle} for {price}: {task.status}", outcome=outcome))


async def work(trader: Trader) -> None:
    """Shop until asked to leave."""
    tell(Told(step="is online", is_ready=True))
    await Shopper(trader).shop()


if __name__ == "__main__":
    raise SystemExit(main(work))
