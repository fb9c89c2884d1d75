"""The demo's Mallory: it finds somebody who lets it in, pays over a channel, and tries to have some of it back.

`python -m agrenting.demo.stranger`, with its configuration on standard input.
"""

import asyncio
import math
from typing import Any, Final

from agrenting.demo.agent import TURN_TIMEOUT_S, Agent, Told, main, tell
from agrenting.demo.consent import ask, refused
from agrenting.demo.payments import DEPOSIT_LOOK_UPS, Payer
from crypto import close_message, transfer_message

WORDS: Final = ("coffee", "house")


async def work(agent: Agent) -> None:
    """Pay twice, try both tricks, and then close as everybody does."""
    market = await agent.socket.join("agents:discovery")
    await market.expect("presence_state", TURN_TIMEOUT_S)
    contacts = await agent.socket.join(f"agent_contacts:{agent.id}")
    found = await market.push("discover", {"capability": "translate", "filters": {"status": "online"}})
    victim = min(found["agents"], key=lambda hit: hit["price"])
    await ask(agent, contacts, market, victim["handle"])
    payer = await Payer.open(agent, victim, DEPOSIT_LOOK_UPS * agent.configuration.look_up_price)
    offers: list[dict[str, Any]] = []
    for word in WORDS:
        await payer.pay(await payer.look_up(word))
        offers.append(await payer.offer())
    await close_with_older_state(agent, payer, offers[0])
    await use_nonce_again(agent, payer, nonce=offers[0]["nonce"])
    await payer.close(offers[-1])
    tell(Told(payment=payer.payment))
    await agent.unless_stopped(asyncio.sleep(math.inf))


async def close_with_older_state(agent: Agent, payer: Payer, offered: dict[str, Any]) -> None:
    """Try to close as both have signed before the latest payment: it has moved the nonce."""
    finals = {name: offered[name] for name in ("final_balance_a", "final_balance_b")}
    message = close_message(
        signing_domain=agent.signer.signing_domain, channel_id=payer.id, nonce=offered["nonce"], **finals
    )
    signatures = {"signature_a": agent.signer.signature(message), "signature_b": offered["signature"]}
    back = agent.money(finals["final_balance_a"])
    refusal = await refused(payer.topic.push("close", {**finals, **signatures}), "stale_state")
    step = f"tries to close with what both signed at nonce {offered['nonce']}, to have {back} back"
    tell(Told(step=f"{step}, and is refused: {refusal.reason}"))


async def use_nonce_again(agent: Agent, payer: Payer, *, nonce: int) -> None:
    """Try to put another transfer into the place of one that was executed."""
    channel = payer.keeper.channel
    balances = {"balance_a": channel["balance_a"] - 1, "balance_b": channel["balance_b"] + 1}
    message = transfer_message(
        signing_domain=agent.signer.signing_domain,
        channel_id=payer.id,
        nonce=nonce,
        payer_agent_id=agent.id,
        amount=1,
        task_id=None,
        **balances,
    )
    replay = {"amount": 1, "nonce": nonce, "signature": agent.signer.signature(message)}
    refusal = await refused(payer.topic.push("propose_transfer", replay), "nonce_replayed")
    expected = refusal.context["expected_nonce"]
    step = f"tries to put a smaller payment at nonce {nonce}"
    tell(Told(step=f"{step}, and is refused: {refusal.reason}, {expected} is next"))


if __name__ == "__main__":
    raise SystemExit(main(work))
