"""Two agents that pay each other without end, whatever happens to the server meanwhile.

One operation is under way at a time, and it is repeated, word for word, until it is answered: so what the channel is
after it is known, and what it was before it. After every reconnection the channel has to be one or the other. Each
party keeps the doubly signed transfers that it was told, comes back with the newest (`known`), and is brought what it
lacks.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, NamedTuple, Self

import httpx
from websockets.exceptions import WebSocketException

from tests import paying
from tests.system.harness import REPLY_TIMEOUT_S, AgentAccount, Client, MarketProcess

LOST = (ConnectionError, OSError, WebSocketException, httpx.TransportError)
DEPOSIT, SHARE = 5_000, 40
"""Of an opening, and the most that is paid or put in at once."""


class State(NamedTuple):
    """What is held against the server of a channel."""

    status: str
    last_nonce: int = 0
    pending: int | None = None
    balance_a: int = 0
    balance_b: int = 0
    deposited: int = 0

    @classmethod
    def of(cls, channel: dict[str, Any]) -> Self:
        """As the server tells it."""
        proposed = channel["pending_proposal"]
        return cls(
            channel["status"],
            channel["last_nonce"],
            None if proposed is None else proposed["nonce"],
            channel["balance_a"],
            channel["balance_b"],
            channel["deposit_a"] + channel["deposit_b"],
        )

    @property
    def by_the_clock(self) -> Self:
        """The same, once the window is over."""
        return self._replace(status="closed") if self.status == "closing" else self


class Served:
    """Says when the server is back: a connection that was lost to one run of it waits for the next."""

    def __init__(self) -> None:
        self.run = 1
        self._is_back = asyncio.Condition()

    async def again(self) -> None:
        """The server has been started anew."""
        async with self._is_back:
            self.run += 1
            self._is_back.notify_all()

    async def wait_for_next(self, run: int) -> None:
        """Wait until the server runs that came after one run."""
        async with self._is_back:
            await self._is_back.wait_for(lambda: self.run > run)


class Claim(NamedTuple):
    """What the server has acknowledged of one channel: transfers, by nonce."""

    channel_id: str
    transfers: dict[int, dict[str, Any]]


class Operation(NamedTuple):
    """One thing to be done: how it is asked for, and what the channel is then."""

    name: str
    send: Callable[[], Awaitable[dict[str, Any]]]
    after: State


class Party:
    """One agent in one channel: its connection, and what it keeps."""

    def __init__(self, account: AgentAccount) -> None:
        self.account = account
        self.kept: dict[int, dict[str, Any]] = {}
        """The doubly signed transfers that it was told of, by nonce."""
        self.inbox: list[tuple[str, str, Any]] = []
        self.socket: Client
        self.rest: httpx.AsyncClient

    async def connect(self, market: MarketProcess, stack: AsyncExitStack) -> None:
        """Open a socket, and be ready to ask by REST."""
        key = self.account.api_key
        self.socket = await stack.enter_async_context(market.client(key))
        self.inbox = self.socket.inbox
        self.rest = await stack.enter_async_context(
            httpx.AsyncClient(base_url=market.url, headers={"x-api-key": key}, timeout=REPLY_TIMEOUT_S)
        )

    @property
    def known(self) -> dict[str, Any]:
        """Its newest doubly signed state, as it was told."""
        return self.kept[max(self.kept)] if self.kept else {"nonce": 0}

    def keep(self, transfer: dict[str, Any]) -> None:
        """Keep a transfer; nobody is ever told two of one nonce."""
        before = self.kept.setdefault(transfer["nonce"], transfer)
        assert before == transfer, "one nonce, two transfers"

    def hear(self, topic: str) -> None:
        """Keep what was completed, also if the connection is lost by now."""
        for told_on, event, payload in self.inbox:
            if told_on == topic and event == "transfer_complete":
                self.keep({name: value for name, value in payload.items() if name != "channel_id"})
        self.inbox[:] = [message for message in self.inbox if message[1] == "channel_closed"]

    def learn(self, found: dict[str, Any]) -> None:
        """Take what a join brings: the server has what this party has, and brings what it lacks."""
        assert found["state_lost"] is None, "a mere crash has frozen a channel"
        known_nonce, missing = max(self.kept, default=0), found["missing_transfers"]
        assert found["missing_after"] is None
        assert all(transfer["nonce"] > known_nonce for transfer in missing)
        newest = found["last_transfer"]
        for transfer in (*missing, *([newest] if newest else ())):
            self.keep(transfer)
        assert (newest["nonce"] if newest else 0) == max(self.kept, default=0), "what was acknowledged is there"

    async def post(self, path: str, body: dict[str, Any], key: str) -> dict[str, Any]:
        """Ask by REST, with an idempotency key; the channel."""
        response = await self.rest.post(f"/api/v1/payment-channels{path}", json=body, headers={"idempotency-key": key})
        assert response.is_success, response.text
        channel: dict[str, Any] = response.json()["data"]
        return channel


class SteadyPayers:
    """Two agents and their channels, one after the other.

    Args:
        market: The server, which may be killed and come back at another address.
        served: Says when it is back.
        opener: Opens each channel.
        counterparty: Accepts it.
        mode: Of all of them.
        seed: Of the choices.
    """

    def __init__(
        self,
        market: MarketProcess,
        served: Served,
        opener: AgentAccount,
        counterparty: AgentAccount,
        *,
        mode: str,
        seed: int,
    ) -> None:
        self.market, self.served, self.mode = market, served, mode
        self.chance = random.Random(seed)
        self.a, self.b = Party(opener), Party(counterparty)
        self.parties = (self.a, self.b)
        self.channel: dict[str, Any] = {}
        self.state = State("none")
        self.doing: Operation | None = None
        self.answered = 0
        self.lost = {"done": 0, "undone": 0}
        """Operations whose answer was lost, by whether they had happened."""
        self.chains: dict[int, dict[str, Any]] = {}
        """The transfers of the present channel that were handed in and answered, by nonce."""
        self.ended: list[Claim] = []
        self._keys = 0

    @property
    def topic(self) -> str:
        """The present channel's."""
        return f"payment:{self.channel['channel_id']}"

    @property
    def claims(self) -> list[Claim]:
        """What the two were told of all their channels."""
        if not self.channel:
            return [*self.ended]
        return [*self.ended, Claim(self.channel["channel_id"], self.chains | self.a.kept | self.b.kept)]

    async def run(self) -> None:
        """Pay each other until cancelled."""
        while True:
            run = self.served.run
            try:
                async with AsyncExitStack() as stack:
                    for party in self.parties:
                        await party.connect(self.market, stack)
                    await self._come_back()
                    while True:
                        await self._step()
            except TimeoutError:
                raise  # The server is there and does not answer.
            except LOST:
                self._hear()
                await self.served.wait_for_next(run)

    def _hear(self) -> None:
        for party in self.parties if self.channel else ():
            party.hear(self.topic)

    async def _come_back(self) -> None:
        """Join with what is known: the channel is as it was before what is under way, or as it is after it."""
        if not self.channel:
            return
        for party in self.parties:
            found = await party.socket.join(self.topic, {"known": party.known})
            party.learn(found)
            self.channel = {name: value for name, value in found.items() if not name.startswith("missing_")}
        now, before = State.of(self.channel), self.state
        if self.doing is None:
            assert now in {before, before.by_the_clock}
            self.state = now
            return
        after = self.doing.after
        assert now in {before, after, after.by_the_clock}, f"{self.doing.name}: {before}, {after}, but {now}"
        if before != after:
            self.lost["undone" if now == before else "done"] += 1

    async def _step(self) -> None:
        """Do one thing, or again what was not answered."""
        if self.doing is None:
            self.doing = self._choose()
        self.channel = await self.doing.send()
        now = State.of(self.channel)
        assert now in {self.doing.after, self.doing.after.by_the_clock}, f"{self.doing}: {now}"
        self.state, self.doing = now, None
        self.answered += 1
        if now.status == "pending":
            for party in self.parties:
                await party.socket.join(self.topic)
        self._hear()

    # What they do.

    def _choose(self) -> Operation:
        state = self.state
        if state.status in {"none", "closed"}:
            return self._open()
        if state.status == "pending":
            return self._accept()
        if state.status == "closing":
            return Operation("wait", self._wait, state.by_the_clock)
        if state.pending is not None:
            return self._answer()
        return self.chance.choices((self._pay, self._deposit, self._close, self._force_close), (85, 10, 3, 2))[0]()

    def _pay(self) -> Operation:
        return self._propose() if self.mode == "online" else self._submit()

    def _open(self) -> Operation:
        self.ended = self.claims
        self.channel, self.chains, self.a.kept, self.b.kept = {}, {}, {}, {}
        body = {"counterparty_agent_id": self.b.account.id, "deposit": DEPOSIT, "mode": self.mode, "window_s": 1}
        return self._asked(self.a, "", body, State("pending", balance_a=DEPOSIT, deposited=DEPOSIT))

    def _accept(self) -> Operation:
        deposit = self.chance.randint(0, 1) * DEPOSIT
        after = self.state._replace(status="open", balance_b=deposit, deposited=self.state.deposited + deposit)
        return self._asked(self.b, "accept", {"deposit": deposit}, after)

    def _deposit(self) -> Operation:
        if self.mode == "offline":
            return self._submit()
        party, amount = self.chance.choice(self.parties), self.chance.randint(1, SHARE)
        has = [self.state.balance_a, self.state.balance_b]
        has[party is self.b] += amount
        after = self.state._replace(balance_a=has[0], balance_b=has[1], deposited=self.state.deposited + amount)
        return self._asked(party, "deposit", {"amount": amount}, after)

    def _force_close(self) -> Operation:
        return self._asked(self.chance.choice(self.parties), "force-close", {}, self.state._replace(status="closing"))

    def _asked(self, party: Party, name: str, body: dict[str, Any], after: State) -> Operation:
        """Something that is asked for by REST."""
        self._keys += 1
        key = f"{self.a.account.id} {self.b.account.id} {self._keys}"
        path = f"/{self.channel['channel_id']}/{name}" if self.channel else ""
        return Operation(name, lambda: party.post(path, body, key), after)

    def _pushed(self, party: Party, event: str, payload: dict[str, Any], after: State) -> Operation:
        """Something that is asked for on the socket."""
        topic = self.topic

        async def send() -> dict[str, Any]:
            reply: dict[str, Any] = await party.socket.push(topic, event, payload)
            if reply["last_transfer"] is not None:
                party.keep(reply["last_transfer"])
            return reply

        return Operation(event, send, after)

    def _propose(self) -> Operation:
        has = (self.state.balance_a, self.state.balance_b)
        payer = self.chance.choice([party for party, held in zip(self.parties, has, strict=True) if held >= SHARE])
        amount = self.chance.randint(1, SHARE)
        asked = paying.proposal(self.channel, payer.account.seed, from_agent_id=payer.account.id, amount=amount)
        return self._pushed(payer, "propose_transfer", asked, self.state._replace(pending=asked["nonce"]))

    def _answer(self) -> Operation:
        proposed = self.channel["pending_proposal"]
        after = self.state._replace(last_nonce=proposed["nonce"], pending=None)
        if self.chance.random() < 0.15:  # Its payer withdraws it, or who would be paid rejects it.
            body = {"reason": self.chance.choice(("", "no")), "nonce": proposed["nonce"]}
            return self._pushed(self.chance.choice(self.parties), "reject_transfer", body, after)
        payee = self.a if proposed["to_agent_id"] == self.a.account.id else self.b
        answer = paying.acknowledgement(self.channel, payee.account.seed, proposed)
        after = after._replace(balance_a=proposed["balance_a"], balance_b=proposed["balance_b"])
        return self._pushed(payee, "acknowledge_transfer", answer, after)

    def _submit(self) -> Operation:
        has, amounts = [self.state.balance_a, self.state.balance_b], list[int]()
        for _ in range(self.chance.randint(1, 4)):
            payer = self.chance.choice([side for side in (0, 1) if has[side] >= SHARE])
            amount = self.chance.randint(1, SHARE) * (-1 if payer else 1)
            amounts.append(amount)
            has = [has[0] - amount, has[1] + amount]
        chain = paying.chain(self.channel, self.a.account.seed, self.b.account.seed, amounts)
        after = self.state._replace(last_nonce=chain[-1]["nonce"], balance_a=has[0], balance_b=has[1])
        pushed = self._pushed(self.chance.choice(self.parties), "submit_transfers", {"transfers": chain}, after)

        async def send() -> dict[str, Any]:
            reply = await pushed.send()
            self.chains |= {transfer["nonce"]: transfer for transfer in chain}
            return reply

        return pushed._replace(send=send)

    def _close(self) -> Operation:
        payload = paying.close(self.channel, self.a.account.seed, self.b.account.seed)
        return self._pushed(self.chance.choice(self.parties), "close", payload, self.state._replace(status="closed"))

    async def _wait(self) -> dict[str, Any]:
        """Wait until the clock has paid out."""
        found: dict[str, Any] = await self.a.socket.join(self.topic)
        if found["status"] == "closed":
            return found
        told = asyncio.create_task(self.a.socket.expect("channel_closed", self.topic))
        gone = asyncio.create_task(self.a.socket.socket.wait_closed())
        try:
            await asyncio.wait((told, gone), return_when=asyncio.FIRST_COMPLETED)
            if not told.done():
                raise ConnectionError("the server is gone")
            channel: dict[str, Any] = told.result()["channel"]
            return channel
        finally:
            told.cancel()
            gone.cancel()
