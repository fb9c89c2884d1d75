"""How the demo's agents pay each other for small follow-ups: over a payment channel, in transfers that both sign.

A follow-up is a word to look up: a task that costs nothing, whose result says what is owed for it. Who asks pays that
over the channel, naming the task. Once nothing is owed any more, who was paid offers to close. Several words are looked
up in one task that is paid as it streams: each word once it is here, and the next one comes once it is paid.
"""

from collections.abc import Sequence
from typing import Any, Final, Self

import msgspec

from agrenting.client import ChannelKeeper, ClientError, StreamedTask, StreamPayer, Topic, pay
from agrenting.demo.agent import TURN_TIMEOUT_S, Agent, Payment, Receipt, Told, tell
from agrenting.demo.words import translate

LOOK_UP: Final = "look_up"
FOLLOW_UPS: Final = ("water", "bread")
"""What the client asks for after a deal, one by one."""

STREAMED: Final = ("apples", "honey", "candles", "stars", "friends")
"""What it asks for in one stream."""

CREDIT: Final = 1
"""How many words of a stream come before they are paid."""

DEPOSIT_LOOK_UPS: Final = 4
"""What a stranger locks at the opening, who has words looked up one by one."""

JSON_LINES: Final = "application/jsonl"


class Payer:
    """A payment channel, for who opens it and pays.

    Args:
        agent: Who pays.
        payee: The other agent, as discovery tells it.
        topic: The channel's.
        keeper: What signs.
    """

    def __init__(self, agent: Agent, payee: dict[str, Any], topic: Topic, keeper: ChannelKeeper) -> None:
        self.keeper = keeper
        self.topic = topic
        self.id: str = keeper.channel["channel_id"]
        self._agent = agent
        self._payee = payee

    @classmethod
    async def open(cls, agent: Agent, payee: dict[str, Any], deposit: int) -> Self:
        """Lock a deposit, in minor units, and wait until the other one accepts."""
        opening = {"counterparty_agent_id": payee["id"], "deposit": deposit}
        opened = await agent.rest.post("/payment-channels", opening)
        tell(Told(step=f"opens a payment channel with {payee['handle']} and locks {agent.money(deposit)} in it"))
        keeper = keeper_of(agent, opened["id"])
        topic = await agent.socket.join(f"payment:{opened['id']}", {"known": keeper.known()})
        keeper.take(topic.state)
        while keeper.channel["status"] == "pending":
            keeper.hear(*await topic.next_event(TURN_TIMEOUT_S))
        return cls(agent, payee, topic, keeper)

    @property
    def payment(self) -> Payment:
        """What was paid."""
        return Payment(channel_id=self.id, amount=self.keeper.channel["balance_b"])

    async def look_up(self, word: str) -> dict[str, Any]:
        """Ask for a word, in a task that costs nothing; the task with its result."""
        asked = {"provider_agent_id": self._payee["id"], "capability": LOOK_UP, "input": {"word": word}, "max_price": 0}
        opened = await self._agent.rest.post("/tasks", asked)
        topic = await self._agent.socket.join(f"task:{opened['task_id']}")
        task: dict[str, Any] = topic.state
        if task["ended_at"] is None:
            task = (await topic.expect("task_completed", TURN_TIMEOUT_S))["task"]
        await topic.leave()
        german, owed = task["result"]["text"], self._agent.money(task["result"]["owed"])
        tell(Told(step=f"has asked {self._payee['handle']} for {word}, hears {german}, and owes {owed}"))
        return task

    async def pay(self, task: dict[str, Any]) -> None:
        """Pay what is owed for a task: sign it, and wait until the other one has signed the same.

        Raises:
            ClientError: More is asked than was said, or the payment is not acknowledged.
        """
        amount = task["result"]["owed"]
        if amount > self._agent.configuration.look_up_price:
            raise ClientError("a word was to cost less")
        memo = f"{LOOK_UP}: {task['input']['word']}"
        nonce = await pay(self.keeper, self.topic, amount, task_id=task["task_id"], memo=memo, timeout_s=TURN_TIMEOUT_S)
        paid, left = self._agent.money(amount), self._agent.money(self.keeper.channel["balance_a"])
        tell(Told(step=f"has paid {paid} (nonce {nonce}, signed by both), and has {left} left there"))

    async def look_up_stream(self, words: Sequence[str]) -> None:
        """Ask for several words in one task, and pay for each once it is here.

        Raises:
            ClientError: One of them is not what an own look-up says.
        """
        agent, money = self._agent, self._agent.money
        price = agent.configuration.word_price
        asked = {"provider_agent_id": self._payee["id"], "capability": LOOK_UP, "channel_id": self.id}
        opened = await agent.rest.post(
            "/tasks", asked | {"stream_price": {"amount": price, "per": "chunk", "credit": CREDIT}}
        )
        each = f"{money(price)} a word, {CREDIT} on credit, nothing held"
        tell(Told(step=f"asks {self._payee['handle']} for {len(words)} words, to be paid as they stream: {each}"))
        task = StreamedTask(opened["task_id"], role="client", timeout_s=TURN_TIMEOUT_S)
        await task.join(agent.socket)
        payer = StreamPayer(self.keeper, self.topic, task, TURN_TIMEOUT_S)
        first = self.keeper.channel["last_nonce"] + 1
        for word in words:
            await task.send(word.encode())
        await task.close()
        heard: list[str] = []
        while (chunk := await task.next_chunk()) is not None:
            heard.append(chunk.decode())
            await payer.pay_for(task.incoming.position)
        end = await task.end()
        await task.leave()
        if (end["status"], heard) != ("completed", [translate(word) for word in words]):
            raise ClientError("the words are not those of an own look-up")
        figures = f"units {end['units']}, paid_up_to {end['paid_up_to']}, {money(end['paid'])}"
        nonces = f"nonces {first} to {self.keeper.channel['last_nonce']}"
        tell(Told(step=f"has {', '.join(heard)}, each paid once it was here: {figures}, {nonces}"))

    async def offer(self) -> dict[str, Any]:
        """The close that the other one offers, once it does."""
        while True:
            for request in self.keeper.channel["close_requests"]:
                if request["agent_id"] == self._payee["id"]:
                    offered: dict[str, Any] = request
                    return offered
            self.keeper.hear(*await self.topic.next_event(TURN_TIMEOUT_S))

    async def close(self, offered: dict[str, Any]) -> None:
        """Agree to a close that pays out the balances, and keep the proofs."""
        channel = await self.topic.push("close", self.keeper.close(offered))
        self.keeper.take(channel)
        own, others = self._agent.money(channel["final_balance_a"]), self._agent.money(channel["final_balance_b"])
        tell(Told(step=f"closes it with both signatures: {own} come back, {self._payee['handle']} has {others}"))
        await self.topic.leave()
        await keep_proofs(self._agent, self.id)


async def follow_up(agent: Agent, payee: dict[str, Any]) -> Payment:
    """Ask for some words, pay each of them over a new channel, and close it; what was paid."""
    # A little more than all of it costs, so that something is left to come back.
    look_ups = (len(FOLLOW_UPS) + 1) * agent.configuration.look_up_price
    payer = await Payer.open(agent, payee, look_ups + len(STREAMED) * agent.configuration.word_price)
    await payer.look_up_stream(STREAMED)
    asked = [await payer.look_up(word) for word in FOLLOW_UPS]
    for task in asked:
        await payer.pay(task)
    await payer.close(await payer.offer())
    return payer.payment


class Payee:
    """What an agent looks up for others, and is paid for over their channels.

    Args:
        agent: Who looks up.
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._owed: dict[str, dict[str, int]] = {}
        """By who owes and the task: minor units."""
        self._streams: set[str] = set()
        """Tasks that are paid as they stream."""

    async def look_up(self, topic: Topic, task: dict[str, Any]) -> None:
        """Look a word up, and complete its task with what is owed for it."""
        word, price = task["input"]["word"], self._agent.configuration.look_up_price
        self._owed.setdefault(task["client_agent_id"], {})[task["task_id"]] = price
        await topic.push("complete", {"result": {"text": translate(word), "owed": price}})
        await topic.leave()

    async def look_up_stream(self, task_id: str) -> None:
        """Look up each word of a task's input; the next one goes out as far as the others are paid."""
        task = StreamedTask(task_id, role="provider", timeout_s=TURN_TIMEOUT_S)
        await task.join(self._agent.socket)
        self._streams.add(task_id)
        unpaid = 0
        while (word := await task.next_chunk()) is not None:
            await task.send(translate(word.decode()).encode())
            await task.flush()
            unpaid = max(unpaid, task.outgoing.position.seq - task.paid_up_to)
        await task.until_paid()
        self._streams.discard(task_id)
        await task.close()
        await task.push("complete")
        await task.leave()
        units = task.outgoing.position.seq
        figures = f"units {units}, paid_up_to {task.paid_up_to}"
        tell(Told(step=f"has looked up {units} words, at most {unpaid} ahead of its payment: {figures}"))

    async def be_paid(self, announced: dict[str, Any]) -> None:
        """Accept a channel that somebody has opened, and confirm what is paid for look-ups, until it is closed."""
        agent, channel_id = self._agent, announced["channel_id"]
        keeper = keeper_of(agent, channel_id)
        topic = await agent.socket.join(announced["topic"], {"known": keeper.known()})
        keeper.take(topic.state)
        keeper.take(await agent.rest.post(f"/payment-channels/{channel_id}/accept", {}))
        locked = agent.money(keeper.channel["balance_a"])
        tell(Told(step=f"accepts the payment channel of {announced['agent_a_handle']}, with {locked} in it"))
        while keeper.channel["status"] != "closed":
            event, payload = await topic.next_event(TURN_TIMEOUT_S)
            keeper.hear(event, payload)
            if event == "propose_transfer":
                await self._answer(topic, keeper, payload)
        final = agent.money(keeper.channel["final_balance_b"])
        tell(Told(step=f"sees the payment channel closed, and is paid {final}"))
        await topic.leave()
        await keep_proofs(agent, channel_id)

    async def _answer(self, topic: Topic, keeper: ChannelKeeper, proposed: dict[str, Any]) -> None:
        """Confirm what is owed, and offer to close when that was all; refuse what is not owed."""
        owed = self._owed.get(proposed["from_agent_id"], {})
        if proposed["task_id"] in self._streams:
            keeper.take(await topic.push("acknowledge_transfer", keeper.acknowledge(proposed)))
            return
        if owed.get(proposed["task_id"]) != proposed["amount"]:
            await topic.push("reject_transfer", {"nonce": proposed["nonce"], "reason": "this is not what is owed"})
            return
        keeper.take(await topic.push("acknowledge_transfer", keeper.acknowledge(proposed)))
        del owed[proposed["task_id"]]
        money, nonce = self._agent.money, proposed["nonce"]
        has = money(keeper.channel["balance_b"])
        paid = f"{money(proposed['amount'])} for {proposed['memo']} (nonce {nonce}, signed by both)"
        tell(Told(step=f"acknowledges {paid}, and has {has} there"))
        if not owed:
            keeper.take(await topic.push("close_request", keeper.close_request()))
            tell(Told(step=f"is owed nothing more, and offers to close (nonce {nonce}, signed)"))


def keeper_of(agent: Agent, channel_id: str) -> ChannelKeeper:
    """The keeper of one of an agent's channels, with its record beside the receipts."""
    return ChannelKeeper(agent.signer, agent_id=agent.id, path=agent.path_of(channel_id, "channel"))


async def keep_proofs(agent: Agent, channel_id: str) -> None:
    """Fetch the receipt and the history of a closed channel, and keep them as files."""
    receipt, history = agent.path_of(channel_id, "json"), agent.path_of(channel_id, "jsonl")
    receipt.write_bytes(msgspec.json.encode(await agent.rest.get(f"/payment-channels/{channel_id}/receipt")))
    history.write_bytes(await agent.rest.file(f"/payment-channels/{channel_id}/history", JSON_LINES))
    tell(
        Told(
            step="keeps its receipt of the payment channel, and its history",
            receipt=Receipt(of=channel_id, paths=(str(receipt), str(history))),
        )
    )
