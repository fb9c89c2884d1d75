"""Pairs of agents that stream and pay over real sockets, which are cut, and what each of them has seen and signed.

A `Line` is one agent's way to the server: a socket that is opened again whenever it is lost, and that keeps all it has
ever heard. A `Deal` is one random schedule: a task that is paid as it streams, whose two agents are honest or not, and
stop when they like. What a deal requires rests on no answer of the server's alone: the client counts the chunks that it
has got on any of its sockets, and the transfers that it has signed.
"""

import asyncio
import base64
import random
from collections import Counter, defaultdict
from contextlib import AsyncExitStack
from typing import Any, Final

import httpx
from websockets.exceptions import WebSocketException

from tests import paying
from tests.system.harness import REPLY_TIMEOUT_S, AgentAccount, Client, MarketProcess, Refused
from tests.system.steady_payers import Served

LOST: Final = (ConnectionError, OSError, WebSocketException, httpx.TransportError)
DEPOSIT: Final = 4_000
AT_WILL: Final = frozenset(
    (
        *("terminal_state", "state_lost", "channel_not_open", "transfer_pending", "nonce_replayed", "nonce_gap"),
        *("stale_state", "no_pending_transfer", "proposal_mismatch", "insufficient_channel_balance", "forbidden_role"),
        *("payment_due", "chunk_too_large", "seq_conflict", "stream_closed", "stream_incomplete", "missing_chunks"),
        *("nothing_delivered", "invalid_signature", "not_held", "not_started", "not_completed", "not_found"),
    )
)
"""How a move of a schedule may be refused."""

Json = dict[str, Any]


class Line:
    """One agent's way to the server.

    Args:
        market: The server, which may be killed and come back at another address.
        served: Says when it is back.
        account: The agent.
    """

    def __init__(self, market: MarketProcess, served: Served, account: AgentAccount) -> None:
        self.market, self.served, self.account = market, served, account
        self.heard: dict[str, list[tuple[str, Any]]] = defaultdict(list)
        """Events of each topic, of all sockets, in the order in which they came."""
        self.cuts = 0
        self._client: Client | None = None
        self._stack = AsyncExitStack()
        self._joined: set[str] = set()
        self._opening = asyncio.Lock()
        self._keys = 0
        self._rest = httpx.AsyncClient(timeout=REPLY_TIMEOUT_S, limits=httpx.Limits(max_keepalive_connections=0))

    async def close(self) -> None:
        """End the socket."""
        self.hear()
        await self._stack.aclose()
        await self._rest.aclose()

    def cut(self) -> None:
        """The network goes away, without a word."""
        if self._client is not None:
            self._client.socket.transport.abort()
            self.cuts += 1

    def hear(self) -> None:
        """Keep what has come. A topic that was ended by the server has to be joined again."""
        if self._client is None:
            return
        for topic, event, payload in self._client.inbox:
            self.heard[topic].append((event, payload))
            if event in {"phx_error", "phx_close"}:
                self._joined.discard(topic)
        self._client.inbox.clear()

    async def push(self, topic: str, event: str, payload: Json) -> Json:
        """Send an event to a topic, which is joined if it is not; the reply.

        Raises:
            ConnectionError, WebSocketException: It may have happened, or not.
        """
        async with self._opening:
            client = await self._connected()
            if topic not in self._joined:
                await client.join(topic, {"output_from": 0})
                self._joined.add(topic)
        reply: Json = await client.push(topic, event, payload)
        return reply

    async def flush(self, topic: str) -> None:
        """Hear all that the server has told of a topic up to now; where that was lost, from the start again."""
        while True:
            try:
                async with self._opening:
                    client = await self._connected()
                    if topic not in self._joined:
                        await client.join(topic, {"output_from": 0})
                        self._joined.add(topic)
                await client.flush()
            except LOST:
                continue
            self.hear()
            if topic in self._joined and client is self._client:
                return

    async def leave(self, topic: str) -> None:
        """Hear no more of a topic; the socket may be lost."""
        try:
            if topic in self._joined and self._client is not None:
                self._joined.discard(topic)
                await self._client.push(topic, "phx_leave")
        except LOST:
            return

    async def call(self, method: str, path: str, body: Json | None = None) -> Json:
        """Ask by REST, with a key, until it is answered; the data.

        Raises:
            Refused: As on the wire.
        """
        self._keys += 1
        headers = {"x-api-key": self.account.api_key}
        if method == "POST":
            headers["idempotency-key"] = f"{self.account.id} {self._keys}"
        while True:
            run = self.served.run
            try:
                url = f"{self.market.url}/api/v1/{path}"
                answer = await self._rest.request(method, url, json=body, headers=headers)
            except httpx.TransportError:
                await self.served.wait_for_next(run)
                continue
            if answer.is_error:
                raise Refused({"reason": answer.json()["error"]["code"], "status": answer.status_code})
            data: Json = answer.json()["data"]
            return data

    async def _connected(self) -> Client:
        """The socket; a new one where the last one is gone."""
        while self._client is None or self._client.close_code is not None or self._client.socket.close_code is not None:
            self.hear()
            await self._stack.aclose()
            self._joined.clear()
            run = self.served.run
            try:
                self._client = await self._stack.enter_async_context(self.market.client(self.account.api_key))
            except LOST:
                await self.served.wait_for_next(run)
        return self._client


class Pair:
    """A client and a provider, with their lines and their channels."""

    def __init__(self, client: Line, provider: Line) -> None:
        self.client, self.provider = client, provider
        self.lines = (client, provider)
        self.channel_ids: list[str] = []
        self._opening = asyncio.Lock()

    async def channel_id(self, chance: random.Random) -> str:
        """A channel that is open, one of three at most; opened by either."""
        async with self._opening:
            for channel_id in chance.sample(self.channel_ids, len(self.channel_ids)):
                channel = await self.client.call("GET", f"payment-channels/{channel_id}")
                if channel["status"] == "open" and chance.random() < 0.9:
                    return channel_id
            opener, other = chance.sample(self.lines, 2)
            body = {"counterparty_agent_id": other.account.id, "deposit": DEPOSIT, "window_s": 1}
            channel = await opener.call("POST", "payment-channels", body)
            await other.call("POST", f"payment-channels/{channel['id']}/accept", {"deposit": DEPOSIT})
            self.channel_ids = [*self.channel_ids[-2:], channel["id"]]
            return str(channel["id"])


class Deal:
    """One task that is paid as it streams.

    Args:
        pair: Whose it is.
        seed: Of every choice.
    """

    def __init__(self, pair: Pair, seed: int) -> None:
        self.pair, self.seed = pair, seed
        self.chance = random.Random(seed)
        self.client, self.provider = pair.client, pair.provider
        pick = self.chance.choice
        self.is_client_honest = pick((True, True, False))
        self.is_provider_honest = pick((True, True, False))
        self.price: Json = {"amount": pick((1, 3, 10)), "per": pick(("chunk", "bytes")), "credit": pick((1, 1, 2, 5))}
        if self.price["per"] == "bytes":
            self.price["unit_bytes"] = pick((4, 8, 64))
        self.amount: int = self.price["amount"]
        self.signed: dict[tuple[str, int], set[int]] = defaultdict(set)
        """What the client has signed for this task, by channel and nonce, of which one at most is executed."""
        self.unanswered: list[int] = []
        """Chunks that the provider does not know to be stored."""
        self.next_seq = 0
        self.answers: Counter[str] = Counter()
        self._paying = asyncio.Lock()

    async def run(self) -> None:
        """Open it, play it, and require what neither side may lose."""
        try:
            self.channel_id = await self.pair.channel_id(self.chance)
            body: Json = {
                "provider_agent_id": self.provider.account.id,
                "capability": "translate",
                "channel_id": self.channel_id,
                "stream_price": self.price,
            }
            while (opened := await self._asked("tasks", body)) is None:  # Another deal has closed it meanwhile.
                self.channel_id = body["channel_id"] = await self.pair.channel_id(self.chance)
            self.task_id = opened["id"]
            self.topic, self.pay_topic = f"task:{self.task_id}", f"payment:{self.channel_id}"
            await self.client.flush(self.topic)
            for _ in range(self.chance.randint(3, 7)):
                await self.move()
            await self.settle()
        except BaseException as error:
            error.add_note(f"Deal({self.seed})")
            raise

    # What they do.

    async def move(self) -> None:
        """One move, or several at once."""
        often = (self.send, self.send, self.pay, self.answer)
        chosen = [self.chance.choice(often) for _ in range(self.chance.randint(1, 3))]
        if self.chance.random() < 0.15:
            chosen.append(self.cut)
        if self.chance.random() < 0.05:
            chosen.append(self.end)
        await asyncio.gather(*(act() for act in chosen))
        await self.client.flush(self.topic)
        self.require_bounds()

    async def send(self) -> None:
        """The provider sends what was not answered, and then some more, out of order and without waiting."""
        again, self.unanswered = self.unanswered, []
        if again:
            await asyncio.gather(*(self._send(seq) for seq in again))
            return
        seqs = [self.next_seq + number for number in range(self.chance.randint(1, 4))]
        self.next_seq = seqs[-1] + 1
        self.chance.shuffle(seqs)
        await asyncio.gather(*(self._send(seq) for seq in seqs))

    async def pay(self) -> None:
        """The client pays, one thing after the other: else it would pay twice what it owes once."""
        async with self._paying:
            await self._pay()

    async def _pay(self) -> None:
        """It proposes to pay what it owes, or what it likes."""
        channel = await self._channel(self.client)
        await self.client.flush(self.topic)
        owed = self.units_of(self.seen()) * self.amount - self.signed_at_most()
        amount = self.chance.choice((owed, owed, self.chance.randint(1, max(1, owed)))) if owed > 0 else 0
        if not self.is_client_honest:
            amount = self.chance.choice((1, self.amount, 2 * self.amount + 1, self.amount * self.price["credit"]))
        me, nonce = self.client.account, channel["last_nonce"] + 1
        if not 0 < amount <= channel["balance_a" if channel["agent_a_id"] == me.id else "balance_b"]:
            return
        payload = paying.proposal(channel, me.seed, from_agent_id=me.id, amount=amount, task_id=self.task_id)
        before = set(self.signed[self.channel_id, nonce])
        self.signed[self.channel_id, nonce].add(amount)
        answer = await self._push(self.client, self.pay_topic, "propose_transfer", payload)
        if answer not in {"ok", "lost", "duplicate"}:
            self.signed[self.channel_id, nonce] = before  # Nobody else has seen what was refused.

    async def answer(self) -> None:
        """The provider acknowledges what is proposed, or rejects it, or says nothing."""
        channel = await self._channel(self.provider)
        proposed = channel["pending_proposal"]
        if proposed is None or proposed["from_agent_id"] != self.client.account.id:
            return
        what = "acknowledge" if self.is_provider_honest else self.chance.choice(("acknowledge", "reject", "nothing"))
        if what == "acknowledge":
            payload = paying.acknowledgement(channel, self.provider.account.seed, proposed)
            await self._push(self.provider, self.pay_topic, "acknowledge_transfer", payload)
        elif what == "reject":
            await self._push(self.provider, self.pay_topic, "reject_transfer", {"nonce": proposed["nonce"]})

    async def cut(self) -> None:
        """A connection goes away."""
        self.chance.choice(self.pair.lines).cut()

    async def end(self) -> None:
        """Either stops, or closes the channel."""
        line, event, payload = self.chance.choice(
            (
                (self.client, "cancel", {"reason": "enough"}),
                (self.provider, "cancel", {"reason": "enough"}),
                (self.provider, "error", {"type": "broken"}),
                (self.provider, "complete", {"result": "done"}),
                (self.client, "force-close", {}),
            )
        )
        if event != "force-close":
            await self._push(line, self.topic, event, payload)
            return
        await self._asked(f"payment-channels/{self.channel_id}/force-close", {})

    async def _send(self, seq: int) -> None:
        chunk = self.chunk(seq)
        answer = await self._push(self.provider, self.topic, "output_stream", {"chunk": chunk.decode(), "seq": seq})
        if answer in {"lost", "payment_due"}:
            self.unanswered.append(seq)

    async def _channel(self, line: Line) -> Json:
        return await line.call("GET", f"payment-channels/{self.channel_id}")

    async def _asked(self, path: str, body: Json) -> Json | None:
        """What the client has asked for by REST; None where the channel is not open any more."""
        try:
            return await self.client.call("POST", path, body)
        except Refused as refused:
            if refused.reason not in {"channel_not_open", "terminal_state"}:
                raise
            return None

    async def _push(self, line: Line, topic: str, event: str, payload: Json) -> str:
        """`ok`, `duplicate`, `lost`, or why it was refused."""
        try:
            reply = await line.push(topic, event, payload)
            answer = "duplicate" if reply.get("duplicate") else "ok"
        except LOST:
            answer = "lost"
        except Refused as refused:
            answer = refused.reason
            if answer not in AT_WILL:
                raise
        self.answers[answer] += 1
        return answer

    # What they know for themselves.

    def chunk(self, seq: int) -> bytes:
        """What the provider has to send there: the same however often."""
        chance = random.Random(f"{self.seed} {seq}")
        return bytes(chance.choices(b"abcdef", k=chance.randint(1, self.price.get("unit_bytes", 16))))

    def seen(self) -> dict[int, bytes]:
        """The chunks that the client has got on any of its sockets."""
        self.client.hear()
        seen: dict[int, bytes] = {}
        for event, told in self.client.heard[self.topic]:
            if event == "output_stream":
                text = told["chunk"]
                data = text.encode() if told["encoding"] == "utf8" else base64.b64decode(text)
                assert seen.setdefault(told["seq"], data) == data == self.chunk(told["seq"])
        return seen

    def units_of(self, chunks: dict[int, bytes]) -> int:
        """How many units those are."""
        if self.price["per"] == "chunk":
            return len(chunks)
        return -(-sum(map(len, chunks.values())) // int(self.price["unit_bytes"]))  # Rounds up.

    def signed_at_most(self) -> int:
        """What the client may have paid by what it has signed."""
        return sum(max(amounts, default=0) for amounts in self.signed.values())

    def require_bounds(self) -> None:
        """While it goes on: by what the client has got, and by what it has signed."""
        units = self.units_of(self.seen())
        assert units <= self.signed_at_most() // self.amount + self.price["credit"], "got more than the credit allows"
        if self.is_client_honest:
            assert self.signed_at_most() <= units * self.amount, "paid for more than it has got"

    async def settle(self) -> None:
        """At the end: what was paid is what both have signed, and neither side has lost more than it may."""
        task, transfers = await self._stand()
        assert all(one["amount"] in self.signed[self.channel_id, one["nonce"]] for one in transfers)
        paid = sum(one["amount"] for one in transfers)
        for _ in range(200):  # What was stored last may be on its way still.
            if task["units"] <= self.units_of(self.seen()):
                break
            await asyncio.sleep(0.01)
        units = self.units_of(self.seen())
        assert (task["paid"], task["paid_up_to"]) == (paid, paid // self.amount)
        assert task["units"] <= units, "what is stored has come to the client"
        assert units * self.amount - paid <= self.price["credit"] * self.amount, "the provider's loss"
        if self.is_client_honest:
            assert paid <= units * self.amount, "the client's loss"
        for line in self.pair.lines:
            await line.leave(self.topic)

    async def _stand(self) -> tuple[Json, list[Json]]:
        """The task, and the transfers that pay for it, at one moment: what was sent before a cut may still come in."""
        path = f"tasks/{self.task_id}"
        while True:
            task = await self.client.call("GET", path)
            found: Any = await self.client.call("GET", f"payment-channels/{self.channel_id}/transfers?limit=100")
            await self.client.flush(self.topic)
            other = await self.provider.call("GET", path)
            other.pop("checkpoint", None)  # The provider alone is shown it.
            if task == other:
                asked = (self.task_id, self.client.account.id)
                return task, [one for one in found if (one["task_id"], one["from_agent_id"]) == asked]
