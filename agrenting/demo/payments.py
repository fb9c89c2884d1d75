"""How the demo's agents pay each other for small follow-ups: over a payment channel, in transfers that both sign.

A follow-up is a word to look up: a task that costs nothing, whose result says what is owed for it. Who asks pays that
over the channel, naming the task. Once nothing is owed any more, who was paid offers to close.
"""

from pathlib import Path
from typing import Any, Final, Self

import msgspec

from agrenting.client import ChannelKeeper, ClientError, Topic
from agrenting.demo.agent import TURN_TIMEOUT_S, Agent, Payment, Receipt, Told, tell
from agrenting.demo.words import translate

LOOK_UP: Final = "look_up"
FOLLOW_UPS: Final = ("water", "bread", "garden")
"""What the client asks for after a deal."""

DEPOSIT_LOOK_UPS: Final = 4
"""What is locked at the opening: a little more than three words cost."""

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
    async def open(cls, agent: Agent, payee: dict[str, Any]) -> Self:
        """Lock a deposit, and wait until the other one accepts."""
        deposit = DEPOSIT_LOOK_UPS * agent.configuration.look_up_price
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
        proposal = self.keeper.propose(amount, task_id=task["task_id"], memo=f"{LOOK_UP}: {task['input']['word']}")
        self.keeper.take(await self.topic.push("propose_transfer", proposal))
        nonce = proposal["nonce"]
        while self.keeper.channel["last_nonce"] < nonce:
            self.keeper.hear(*await self.topic.next_event(TURN_TIMEOUT_S))
        done = self.keeper.channel["last_transfer"]
        if done is None or done["nonce"] != nonce:
            raise ClientError("the payment was not acknowledged")
        paid, left = self._agent.money(amount), self._agent.money(self.keeper.channel["balance_a"])
        tell(Told(step=f"has paid {paid} (nonce {nonce}, signed by both), and has {left} left there"))

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
    payer = await Payer.open(agent, payee)
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

    async def look_up(self, topic: Topic, task: dict[str, Any]) -> None:
        """Look a word up, and complete its task with what is owed for it."""
        word, price = task["input"]["word"], self._agent.configuration.look_up_price
        self._owed.setdefault(task["client_agent_id"], {})[task["task_id"]] = price
        await topic.push("complete", {"result": {"text": translate(word), "owed": price}})
        await topic.leave()

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
    path = _file_of(agent, channel_id, "channel")
    return ChannelKeeper(agent.signer, agent_id=agent.id, path=path)


async def keep_proofs(agent: Agent, channel_id: str) -> None:
    """Fetch the receipt and the history of a closed channel, and keep them as files."""
    receipt, history = _file_of(agent, channel_id, "json"), _file_of(agent, channel_id, "jsonl")
    receipt.write_bytes(msgspec.json.encode(await agent.rest.get(f"/payment-channels/{channel_id}/receipt")))
    history.write_bytes(await agent.rest.file(f"/payment-channels/{channel_id}/history", JSON_LINES))
    tell(
        Told(
            step="keeps its receipt of the payment channel, and its history",
            receipt=Receipt(of=channel_id, paths=(str(receipt), str(history))),
        )
    )


def _file_of(agent: Agent, channel_id: str, suffix: str) -> Path:
    return Path(agent.configuration.receipts) / f"{agent.configuration.role}-{channel_id}.{suffix}"
