"""`agrenting-client whoami`: which agent the credentials are for, and how it stands."""

import argparse

from ..amounts import format_amount
from ..credentials import Credentials
from ..market import Me, ask_market, ask_me
from ..rest import RestClient
from .running import DONE, as_json, credentials_of, fail


async def whoami(chosen: argparse.Namespace) -> int:
    """Ask the market, and compare the signing key with the registered one."""
    credentials = credentials_of(chosen)
    async with RestClient(credentials.url, credentials.api_key.reveal()) as rest:
        market, me = await ask_market(rest), await ask_me(rest)
        available = int((await rest.get("/ledger/balance"))["available"])
    problem = _problem(credentials, me)
    fields = {
        "handle": me.handle,
        "id": me.id,
        "status": me.status,
        "market": credentials.url,
        "signing_domain": market.signing_domain,
        "public_key": me.public_key,
        "available": available,
    }
    if chosen.json and problem is None:
        print(as_json(fields))
    elif problem is None:
        shown = {**fields, "available": format_amount(available, currency=market.currency, exponent=market.exponent)}
        print("\n".join(f"{name:<15} {'none' if value is None else value}" for name, value in shown.items()))
    return DONE if problem is None else fail(chosen, "wrong_key", problem)


def _problem(credentials: Credentials, me: Me) -> str | None:
    """What is wrong with the signing key."""
    key = credentials.signing_key
    if key is None or key.public_key == me.public_key:
        return None
    registered = me.public_key or "no signing key"
    return f"{me.handle} is registered with {registered}, and these credentials hold {key.public_key}"
