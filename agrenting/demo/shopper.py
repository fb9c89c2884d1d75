"""A shopper of the living market: it makes contacts, and has its errands done by whoever lets it.

`python -m agrenting.demo.shopper`, with its configuration on standard input.
"""

import asyncio
from typing import Any, Final

from agrenting.client import ClientError, StreamBroken, StreamedTask, Topic
from agrenting.demo.agent import TURN_TIMEOUT_S, Agent, Told, main, tell
from agrenting.demo.payments import LOOK_UP, Payer
from agrenting.demo.trading import (
    CHANCE,
    COUNT_WORDS,
    TRANSLATE,
    Moves,
    attempt,
    haggle,
    pass_over,
    see_to_mail,
)
from agrenting.demo.words import GERMAN, TEXT, count_words, translate

PAUSE_S: Final = (0.5, 3.0)
"""Between two errands."""

BIDS_PERCENT: Final = ((45, 60), (62, 75), (76, 86))
"""Between what its bids are, of the list price; sometimes it does without the last one."""

MOST_PERCENT: Final = (76, 100)
"""Between what the most is that it pays, likewise."""

LINES: Final = (3, 8)
"""How many lines it has translated at once."""

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
    """What one shopper knows while it shops.

    Args:
        agent: Who shops.
        market: Its `agents:discovery`.
    """

    def __init__(self, agent: Agent, market: Topic) -> None:
        self._agent = agent
        self._market = market
        self._payers: dict[str, Payer] = {}
        """The channels that are open, by whom they pay."""
        self._asked: dict[str, str] = {}
        """Requests for contact that are not answered: handle by id."""

    async def shop(self) -> None:
        """Ask everybody for contact, then run one errand after the other, until asked to leave."""
        agent = self._agent
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
        while not agent.is_stopping:
            ((name, (errand, _)),) = CHANCE.choices([*errands.items()], weights)
            await attempt(name, errand())
            await self._see_to_money()
            await agent.unless_stopped(asyncio.sleep(CHANCE.uniform(*PAUSE_S)))
        for payer in self._payers.values():
            await attempt("a channel", payer.have_closed())

    async def hear_answers(self, contacts: Topic) -> None:
        """Note which of its requests for contact are answered, until asked to leave."""
        while (heard := await self._agent.unless_stopped(contacts.next_event())) is not None:
            event, payload = heard
            if event == "contact_request_updated":
                self._asked.pop(payload["id"], None)

    # Whom it knows.

    async def _found(self, capability: str) -> list[dict[str, Any]]:
        asked = {"capability": capability, "filters": {"status": "online"}, "limit": 100}
        found: list[dict[str, Any]] = (await self._market.push("discover", asked))["agents"]
        return found

    async def _strangers(self) -> list[dict[str, Any]]:
        asked = {*self._asked.values()}
        return [one for one in await self._found(TRANSLATE) if one["contact_required"] and one["handle"] not in asked]

    async def _hireable(self, capability: str) -> dict[str, Any] | None:
        """One of those who may be hired for something."""
        known = [one for one in await self._found(capability) if not one["contact_required"]]
        return CHANCE.choice(known) if known else None

    async def _ask(self, stranger: dict[str, Any]) -> None:
        message = CHANCE.choice(REQUESTS)
        asking = {"handle": stranger["handle"], "message": message}
        asked = await self._agent.rest.post("/agent/contacts/add", asking)
        if asked["status"] == "pending":
            self._asked[asked["id"]] = stranger["handle"]
        tell(Told(step=f'asks {stranger["handle"]} for contact: "{message}"', outcome="asked for contact"))

    async def _see_to_contacts(self) -> None:
        """Ask a stranger; where all are asked, take back a request or give up a contact, so that there is one again."""
        rest, strangers = self._agent.rest, await self._strangers()
        if strangers:
            await self._ask(CHANCE.choice(strangers))
            return
        if self._asked:
            request_id = next(iter(self._asked))
            await rest.post("/agent/contacts/requests/respond", {"action": "cancel", "request_id": request_id})
            return
        contacts = [one for one in await self._found(TRANSLATE) if one["is_contact"]]
        if contacts:
            left = CHANCE.choice(contacts)
            await self._close(left["id"])
            await rest.post("/agent/contacts/remove", {"handle": left["handle"]})

    # Errands.

    async def _bargain(self) -> None:
        """Haggle for a translation, have it done, and pay for it once it is checked."""
        worker = await self._hireable(TRANSLATE)
        if worker is None:
            return
        asked = {"provider_agent_id": worker["id"], "capability": TRANSLATE}
        opened = await self._agent.rest.post("/negotiations", asked)
        wanted = BIDS_PERCENT[: CHANCE.choice((2, 3))]
        bids = tuple(CHANCE.randint(*between) for between in wanted)
        moves = Moves(opens=True, percents=bids, most=CHANCE.randint(*MOST_PERCENT), refusal="too dear")
        session = await haggle(self._agent, opened["id"], moves)
        if session["status"] != "agreed":
            tell(Told(step=f"finds no price with {worker['handle']}", outcome="not agreed"))
            return
        lines = self._lines()
        hiring = {**asked, "negotiation_session_id": session["id"], "input": {"lines": len(lines)}}
        task = await self._agent.rest.post("/tasks", hiring)
        await self._have_translated(task["task_id"], lines, worker["handle"])

    async def _have_translated(self, task_id: str, lines: list[str], handle: str) -> None:
        """Stream some lines, take what comes back, and release the price where that is the translation.

        Raises:
            ClientError: It is not.
        """
        task = StreamedTask(task_id, role="client", timeout_s=TURN_TIMEOUT_S)
        await task.join(self._agent.socket)
        heard: list[str] = []
        try:
            for line in lines:
                await task.send(line.encode())
            await task.close()
            while (chunk := await task.next_chunk()) is not None:
                heard.append(chunk.decode())
            end = await task.end()
            if heard != [translate(line) for line in lines]:
                raise ClientError(f"{handle} has delivered something else")
            if end["status"] == "completed":
                await task.release()
            self._done(end, handle)
        except StreamBroken:
            self._done(await task.end(), handle)
        finally:
            await task.leave()

    async def _have_counted(self) -> None:
        """Have words counted, at the list price, which is paid at once."""
        worker = await self._hireable(COUNT_WORDS)
        if worker is None:
            return
        text = "".join(self._lines())
        asked = {"provider_agent_id": worker["id"], "capability": COUNT_WORDS, "input": {"text": text}}
        task = await self._agent.rest.post("/tasks", {**asked, "max_price": worker["price"], "hold_seconds": 0})
        topic = await self._agent.socket.join(f"task:{task['task_id']}")
        task = topic.state
        while task["ended_at"] is None:
            task = (await topic.next_event(TURN_TIMEOUT_S))[1].get("task", task)
        await topic.leave()
        if task["status"] == "completed" and task["result"]["words"] != count_words(text):
            raise ClientError(f"{worker['handle']} has counted wrong")
        self._done(task, worker["handle"])

    async def _change_mind(self) -> None:
        """Hire somebody, send nothing, and cancel."""
        worker = await self._hireable(TRANSLATE)
        if worker is None:
            return
        asked = {"provider_agent_id": worker["id"], "capability": TRANSLATE, "input": {"lines": 1}}
        task = await self._agent.rest.post("/tasks", {**asked, "max_price": worker["price"]})
        await self._agent.unless_stopped(asyncio.sleep(THINKS_S))
        cancelled = await self._agent.rest.post(f"/tasks/{task['task_id']}/cancel", {"reason": "not needed any more"})
        self._done(cancelled, worker["handle"])

    async def _look_up(self) -> None:
        """Have words looked up, and pay for them over a channel, which is closed once it runs low."""
        worker = await self._hireable(LOOK_UP)
        if worker is None:
            return
        configuration = self._agent.configuration
        payer = self._payers.get(worker["id"])
        if payer is None:
            deposit = WORDS_PER_CHANNEL * configuration.look_up_price
            payer = self._payers[worker["id"]] = await Payer.open(self._agent, worker, deposit)
        words = CHANCE.sample([*GERMAN], CHANCE.randint(*STREAMED_WORDS))
        if CHANCE.randrange(2):
            await payer.look_up_stream(words)
        else:
            await payer.pay(await payer.look_up(words[0]))
        tell(Told(outcome="done"))
        needed = configuration.look_up_price + STREAMED_WORDS[1] * configuration.word_price
        if payer.keeper.channel["balance_a"] < needed:
            await self._close(worker["id"])

    async def _close(self, worker_id: str) -> None:
        payer = self._payers.pop(worker_id, None)
        if payer is not None:
            await payer.have_closed()

    async def _greet(self) -> None:
        """Write to somebody."""
        worker = await self._hireable(CHANCE.choice((TRANSLATE, COUNT_WORDS)))
        if worker is not None:
            greeting = {"type": "status_update", "payload": {"text": CHANCE.choice(GREETINGS)}}
            await self._agent.rest.post("/messages", {"to_agent_id": worker["id"], **greeting})
            tell(Told(step=f"writes to {worker['handle']}", outcome="wrote"))

    async def _see_to_money(self) -> None:
        """Say so where its money runs low."""
        balance = await self._agent.rest.get("/ledger/balance")
        if balance["available"] < LOW_LOOK_UPS * self._agent.configuration.look_up_price:
            tell(Told(is_low=True))

    def _lines(self) -> list[str]:
        wanted = CHANCE.randint(*LINES)
        start = CHANCE.randrange(len(TEXT) - wanted)
        return [*TEXT[start : start + wanted]]

    def _done(self, task: dict[str, Any], handle: str) -> None:
        outcome = "done" if task["status"] == "completed" else task["status"]
        price = self._agent.money(task["price"])
        tell(Told(step=f"has had a task of {handle} for {price}: {task['status']}", outcome=outcome))


async def work(agent: Agent) -> None:
    """Be present, and shop until asked to leave."""
    market = await agent.socket.join("agents:discovery")
    contacts = await agent.socket.join(f"agent_contacts:{agent.id}")
    mailbox = await agent.socket.join(f"messages:{agent.id}")
    tell(Told(step="is online", is_ready=True))
    shopper = Shopper(agent, market)
    async with asyncio.TaskGroup() as living:
        living.create_task(pass_over(agent, market))
        living.create_task(shopper.hear_answers(contacts))
        living.create_task(see_to_mail(agent, mailbox, by_type={}))
        living.create_task(shopper.shop())


if __name__ == "__main__":
    raise SystemExit(main(work))
