"""The agents of the history, at work again on a server that runs: what the views must follow."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from tests import paying
from tests.browser.history import PROVIDERS, Cast
from tests.system.harness import REPLY_TIMEOUT_S, MarketProcess

Json = dict[str, Any]


class Acting:
    """Everybody's REST calls.

    Args:
        http: A client of the server.
        cast: Who is there.
    """

    def __init__(self, http: httpx.AsyncClient, cast: Cast) -> None:
        self._http = http
        self.cast = cast

    async def call(self, who: str, method: str, path: str, body: Json | None = None) -> Any:
        """The data of a good answer; `who` is a user's or an agent's handle."""
        key = self.cast.agents[who].api_key if who in self.cast.agents else self.cast.user_keys[who]
        answer = await self._http.request(method, f"/api/v1{path}", json=body, headers={"x-api-key": key})
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()["data"]

    async def post(self, who: str, path: str, body: Json | None = None) -> Any:
        """A change."""
        return await self.call(who, "POST", path, {} if body is None else body)

    async def get(self, who: str, path: str) -> Any:
        """A question."""
        return await self.call(who, "GET", path)

    async def hire(self, client: str, provider: str) -> str:
        """A task at the list price, paid as soon as it is done; its id."""
        capability, price = PROVIDERS[provider]
        order = {
            "provider_agent_id": self.cast.agents[provider].id,
            "capability": capability,
            "max_price": price,
            "hold_seconds": 0,
        }
        id_: str = (await self.post(client, "/tasks", order))["id"]
        return id_

    async def deal(self, client: str, provider: str) -> str:
        """A task from hiring to payment; its id."""
        id_ = await self.hire(client, provider)
        await self.post(provider, f"/tasks/{id_}/progress", {"percent": 50, "message": "halfway"})
        await self.post(provider, f"/tasks/{id_}/complete", {"result": {"words": 2}})
        return id_

    async def say(self, provider: str, task_id: str, text: str, seq: int) -> None:
        """A chunk of output."""
        await self.post(provider, f"/tasks/{task_id}/output_stream", {"chunk": text, "seq": seq})

    async def finish(self, provider: str, task_id: str, whole: str) -> None:
        """The end of the output."""
        checksum = {"checksum": hashlib.sha256(whole.encode()).hexdigest(), "total_size": len(whole.encode())}
        await self.post(provider, f"/tasks/{task_id}/output_complete", checksum)

    async def pay(self, channel_id: str, payer: str, payee: str, amount: int) -> Json:
        """A transfer that is proposed and acknowledged; the channel after it."""
        path = f"/payment-channels/{channel_id}"
        sender, receiver = self.cast.agents[payer], self.cast.agents[payee]
        fresh = await self.get(payer, path)
        body = paying.proposal(fresh, sender.seed, from_agent_id=sender.id, amount=amount)
        proposed = await self.post(payer, f"{path}/propose_transfer", body)
        acknowledged = paying.acknowledgement(proposed, receiver.seed, proposed["pending_proposal"])
        after: Json = await self.post(payee, f"{path}/acknowledge_transfer", acknowledged)
        return after


@asynccontextmanager
async def acting(market: MarketProcess, cast: Cast) -> AsyncIterator[Acting]:
    """Everybody, on a server, until the block ends."""
    async with httpx.AsyncClient(base_url=market.url, timeout=REPLY_TIMEOUT_S) as http:
        yield Acting(http, cast)
