"""Negotiations in this process: offers through the engine, durable, without sockets."""

import asyncio
import tempfile
import time
from functools import partial
from pathlib import Path

from agrenting.config import Settings
from agrenting.db import states
from agrenting.db.transaction import ReaderTx
from agrenting.deciding import Command
from agrenting.server import Server
from benchmarks.servers import Account, command, make_agent
from channels import discovery, negotiation
from channels.identity import Identity
from channels.limits import Limits
from channels.negotiation import MakeOffer, NegotiationSession, OpenNegotiation
from crypto import offer_message, sign

PAIRS = 64
PRICE = 10**9


async def offers(*, seconds: float) -> float:
    """Offers a second: PAIRS negotiations at once, each side's offer following the other's."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        command(data, "user", "create", "alice")
        client = make_agent(data, "alice", "Client")
        provider = make_agent(data, "alice", "Provider", "--capability", f"work={PRICE}")
        async with Server(Settings(data_dir=folder, limits=_many())) as server:
            until = time.perf_counter() + seconds
            started = time.perf_counter()
            made = await asyncio.gather(*(_bargain(server, client, provider, until) for _ in range(PAIRS)))
            return sum(made) / (time.perf_counter() - started)


def _many() -> Limits:
    return Limits(negotiations_open_max=10**9, messages_per_sender_max=10**9)


def identity(account: Account) -> Identity:
    """Who acts, without a credential that would have to be looked up."""
    return Identity(kind="agent", user_id="", handle="", key_id="", agent_id=account.id)


async def _bargain(server: Server, client: Account, provider: Account, until: float) -> int:
    """Open negotiations and make all their offers until the time is over; how many offers."""
    made = 0
    while time.perf_counter() < until:
        opened = await server.engine.execute(
            Command(
                handler=discovery.HANDLERS["open_negotiation"],
                topic=discovery.TOPIC,
                request=OpenNegotiation(provider_agent_id=provider.id, capability="work"),
                sender=identity(client),
            )
        )
        session_id = opened.reply["id"]
        session = await server.engine.read(partial(_load, session_id=session_id))
        for number in range(2 * session.max_rounds):
            account = (client, provider)[number % 2]
            session = await _offer(server, session, account, amount=number + 1 + (number % 2) * PRICE // 2)
            made += 1
    return made


def _load(tx: ReaderTx, *, session_id: str) -> NegotiationSession:
    session: NegotiationSession = states.load(tx, "negotiation", session_id)
    return session


async def _offer(server: Server, session: NegotiationSession, account: Account, *, amount: int) -> NegotiationSession:
    round_number = len(session.offers) + 1
    message = offer_message(
        signing_domain=server.engine.market.signing_domain,
        session_id=session.id,
        agent_id=account.id,
        round_number=round_number,
        amount=amount,
        answered_digest=session.answered_digest(round_number),
    )
    decision = await server.engine.execute(
        Command(
            handler=negotiation.HANDLERS["offer"],
            topic=f"negotiation:{session.id}",
            request=MakeOffer(amount=amount, signature=sign(account.seed, message)),
            sender=identity(account),
        )
    )
    state: NegotiationSession = decision.state
    return state
