"""Who takes part in the demo, and what they ask."""

from typing import Final

import msgspec

from agrenting.demo.desk import Account, Desk
from agrenting.demo.payments import LOOK_UP
from crypto import format_public_key, public_key_of

LIST_PRICE, RIVALS_PRICE = 10, 9
"""In whole units of the currency: what the provider asks, and the rival."""

FREE: Final = {"name": LOOK_UP, "price": 0}
"""As a task it costs nothing: it is paid over a channel."""


class Cast(msgspec.Struct, frozen=True, kw_only=True):
    """Who takes part: each agent has another owner, and all are strangers.

    Args:
        client: Looks for a translator.
        provider: Leaves it to its owner who may hire it. It gets the job.
        rival: Is cheaper, and lets others hire it by a policy that is too narrow for the job.
        stranger: Whom the provider's owner does not want. It goes to the rival, and tries to cheat it.
    """

    client: Account
    provider: Account
    rival: Account
    stranger: Account


def enrol(desk: Desk, suffix: str) -> Cast:
    """Make four owners with one agent each; the suffix goes behind the owners' names."""
    prices = {"provider": LIST_PRICE * desk.unit, "rival": RIVALS_PRICE * desk.unit}
    offered = {
        role: {"capabilities": [{"name": "translate", "price": price}, FREE], "tags": ["language"]}
        for role, price in prices.items()
    }
    return Cast(
        client=desk.enrol(f"alice{suffix}", "Reader"),
        provider=desk.enrol(f"bob{suffix}", "Translator", **offered["provider"]),
        rival=desk.enrol(f"carol{suffix}", "Linguist", **offered["rival"]),
        stranger=desk.enrol(f"mallory{suffix}", "Stranger"),
    )


def public_keys(desk: Desk, **parties: Account) -> dict[str, str]:
    """The keys that something has to be signed with, by who has which part in it."""
    keys = {party: format_public_key(public_key_of(account.seed)) for party, account in parties.items()}
    return {"platform": desk.meta["platform"]["public_key"], **keys}
