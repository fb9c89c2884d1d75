"""Alice and Bob, who pay each other over real sockets, and what they open between them."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from tests import paying
from tests.system.harness import REPLY_TIMEOUT_S, AgentAccount, Client, MarketProcess, Refused

PURSE = 1_000_000
Snapshot = dict[str, Any]


class Payers:
    """Two agents with money on a running server, each with an HTTP client, and sockets as they are asked for.

    Args:
        market: The server.
        nodes: Other servers on the same data folder.
        suffix: Of their owners' handles, where others of their names are there already.
    """

    def __init__(self, market: MarketProcess, *nodes: MarketProcess, suffix: str = "") -> None:
        self.market = market
        self.nodes = (market, *nodes)
        self.owners = (f"alice{suffix}", f"bob{suffix}")
        for owner in self.owners:
            market.user(owner)
        self.alice = market.agent(self.owners[0], "Client", deposit=PURSE)
        self.bob = market.agent(
            self.owners[1], "Translator", "--capability", "translate=1000", "--global", deposit=PURSE
        )

    async def __aenter__(self) -> Self:
        self._open = AsyncExitStack()
        self._rest: dict[tuple[str, int], httpx.AsyncClient] = {}
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    # Doors.

    async def socket(self, who: AgentAccount, *topics: str, node: int = 0) -> Client:
        """An open socket, joined to the topics."""
        client = await self._open.enter_async_context(self.nodes[node].client(who.api_key))
        for topic in topics:
            await client.join(topic)
        return client

    async def call(self, who: AgentAccount, method: str, path: str, body: Any = None, *, node: int = 0) -> Any:
        """The data of a REST answer; an error is `Refused`, as on the wire."""
        rest = self._rest.get((who.id, node))
        if rest is None:
            rest = self._rest[who.id, node] = await self._open.enter_async_context(
                httpx.AsyncClient(
                    base_url=f"{self.nodes[node].url}/api/v1/",
                    headers={"x-api-key": who.api_key},
                    timeout=REPLY_TIMEOUT_S,
                )
            )
        answer = await rest.request(method, path, json=body)
        if answer.is_error:
            error = answer.json()["error"]
            raise Refused({"reason": error["code"], "status": answer.status_code, **error.get("details", {})})
        return answer.json()["data"]

    async def post(self, who: AgentAccount, channel: Snapshot, what: str, body: Any = None, *, node: int = 0) -> Any:
        """A call about a channel."""
        return await self.call(who, "POST", f"payment-channels/{channel['id']}/{what}", body, node=node)

    async def see(self, channel: Snapshot, *, node: int = 0) -> Snapshot:
        """The channel as it stands; both see the same."""
        path = f"payment-channels/{channel['id']}"
        seen, other = [await self.call(who, "GET", path, node=node) for who in (self.alice, self.bob)]
        assert seen == other
        return dict(seen)

    async def purses(self) -> tuple[int, int]:
        """What each has in all, on both sides of its channels."""
        alice, bob = [await self.call(who, "GET", "ledger/balance") for who in (self.alice, self.bob)]
        return alice["total"], bob["total"]

    # What they do.

    async def open_channel(self, deposit: int = 10_000, counter: int | None = 10_000, **fields: Any) -> Snapshot:
        """A channel that Alice has opened, and Bob accepted unless he puts None in."""
        body = {"counterparty_agent_id": self.bob.id, "deposit": deposit, **fields}
        channel: Snapshot = await self.call(self.alice, "POST", "payment-channels", body)
        if counter is not None:
            channel = await self.post(self.bob, channel, "accept", {"deposit": counter})
        return channel

    def proposal(self, channel: Snapshot, who: AgentAccount, amount: int, **fields: Any) -> Snapshot:
        """What `who` proposes to pay next."""
        return paying.proposal(channel, who.seed, from_agent_id=who.id, amount=amount, **fields)

    def answer(self, channel: Snapshot, who: AgentAccount) -> Snapshot:
        """What `who` acknowledges the pending proposal with."""
        return paying.acknowledgement(channel, who.seed, channel["pending_proposal"])

    def closing(self, channel: Snapshot, finals: tuple[int, int] | None = None) -> Snapshot:
        """A close that both have signed."""
        return paying.close(channel, self.alice.seed, self.bob.seed, finals)

    def chain(self, channel: Snapshot, amounts: list[int], **fields: Any) -> list[Snapshot]:
        """Transfers that both have signed elsewhere; who pays is told by the sign."""
        return paying.chain(channel, self.alice.seed, self.bob.seed, amounts, **fields)


def topic_of(channel: Snapshot) -> str:
    """Where a channel is spoken of."""
    return f"payment:{channel['id']}"


async def outcomes(*acts: Any) -> list[Snapshot | Refused]:
    """Do it all at once; each answer, or how it was refused. Anything else is raised."""
    answers = await asyncio.gather(*acts, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, Refused):
            raise answer
    return [answer for answer in answers if isinstance(answer, dict | Refused)]


def reason_of(answer: Snapshot | Refused) -> str:
    """What an answer says in one word: `ok`, `duplicate`, or why it was refused."""
    if isinstance(answer, Refused):
        return answer.reason
    return "duplicate" if answer.get("duplicate") else "ok"


async def refused(act: Any, reason: str, **fields: Any) -> None:
    """The answer is that refusal, with these fields."""
    with pytest.raises(Refused) as no:
        await act
    assert (no.value.reason, {name: no.value.response.get(name) for name in fields}) == (reason, fields)


def files_of(pair: Payers, channel: Snapshot, folder: Path) -> tuple[Path, Path]:
    """The receipt and the history of a channel, as `curl -o` would keep them."""
    kept = []
    for what, media_type in (("receipt", "application/agrenting-receipt+json"), ("history", "application/jsonl")):
        with pair.market.rest(pair.bob.api_key) as rest:
            answer = rest.get(f"/api/v1/payment-channels/{channel['id']}/{what}", headers={"accept": media_type})
        assert answer.headers["content-type"].partition(";")[0] == media_type
        kept.append(folder / f"{what}.json")
        kept[-1].write_bytes(answer.content)
    return kept[0], kept[1]
