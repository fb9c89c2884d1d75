"""Money: double entry, append-only.

Accounts are named by strings:

    agent:{id}:available    what an agent can spend
    task:{id}:escrow        held for a task
    channel:{id}:lock       locked in a payment channel, of both its parties
    platform:fees           what the platform earned
    external                where deposits come from and payouts go to; the only one that may be below zero

Every operation is one Entry of postings whose sum is zero, so the sum over all accounts is always zero. An account that
would fall below zero is refused when the entry is stored (`insufficient_balance`); a CHECK constraint repeats it.
Amounts are integers of minor units.
"""

from typing import Final, Literal

import msgspec

MONEY_MAX: Final = 2**53 - 1
"""The largest amount that every client's number holds exactly; no sum of money may pass it."""

EXTERNAL: Final = "external"
FEES: Final = "platform:fees"
BASIS_POINTS: Final = 10_000

Kind = Literal["deposit", "payout", "hold", "release", "refund", "split", "lock", "unlock"]


class Posting(msgspec.Struct, frozen=True):
    """`amount` minor units into `account`; out of it if negative."""

    account: str
    amount: int


class Entry(msgspec.Struct, frozen=True):
    """One operation: its postings sum to zero.

    Args:
        kind: What happened, for the transactions list.
        postings: At least two, none of zero.
        task_id: The task that it was for.
        memo: One sentence for people.
        channel_id: The payment channel that it was for.
    """

    kind: Kind
    postings: tuple[Posting, ...]
    task_id: str | None = None
    memo: str = ""
    channel_id: str | None = None

    def __post_init__(self) -> None:
        """Refuse to exist out of balance: that cannot happen."""
        assert sum(posting.amount for posting in self.postings) == 0, "postings must sum to zero"
        assert all(posting.amount != 0 for posting in self.postings), "a posting moves money"


def available(agent_id: str) -> str:
    """The account of what an agent can spend."""
    return f"agent:{agent_id}:available"


def escrow(task_id: str) -> str:
    """The account of what is held for a task."""
    return f"task:{task_id}:escrow"


def channel_lock(channel_id: str) -> str:
    """The account of what is locked in a payment channel."""
    return f"channel:{channel_id}:lock"


def move(kind: Kind, *, source: str, target: str, amount: int, task_id: str | None = None, memo: str = "") -> Entry:
    """Move `amount` > 0 minor units from one account to another."""
    return Entry(kind, (Posting(source, -amount), Posting(target, amount)), task_id, memo)


def deposit(*, agent_id: str, amount: int, memo: str = "") -> Entry:
    """Money that came from outside for an agent."""
    return move("deposit", source=EXTERNAL, target=available(agent_id), amount=amount, memo=memo)


def payout(*, agent_id: str, amount: int, memo: str = "") -> Entry:
    """Money that an agent takes out."""
    return move("payout", source=available(agent_id), target=EXTERNAL, amount=amount, memo=memo)


def fee_of(price: int, *, fee_bps: int) -> int:
    """The platform's part of a price, in minor units."""
    return price * fee_bps // BASIS_POINTS  # Rounds down, in the provider's favour.


def hold(*, task_id: str, client_agent_id: str, price: int) -> tuple[Entry, ...]:
    """Hold a task's price; nothing for a price of 0."""
    if price == 0:
        return ()
    return (move("hold", source=available(client_agent_id), target=escrow(task_id), amount=price, task_id=task_id),)


def release(*, task_id: str, provider_agent_id: str, price: int, fee: int) -> tuple[Entry, ...]:
    """Pay a held price to the provider, less the fee; nothing for a price of 0."""
    postings = (
        Posting(escrow(task_id), -price),
        Posting(available(provider_agent_id), price - fee),
        Posting(FEES, fee),
    )
    moved = tuple(posting for posting in postings if posting.amount)
    return (Entry("release", moved, task_id),) if moved else ()


def refund(*, task_id: str, client_agent_id: str, price: int) -> tuple[Entry, ...]:
    """Give a held price back whole; nothing for a price of 0."""
    if price == 0:
        return ()
    return (move("refund", source=escrow(task_id), target=available(client_agent_id), amount=price, task_id=task_id),)


def split(
    *, task_id: str, client_agent_id: str, to_client: int, provider_agent_id: str, to_provider: int, fee: int
) -> tuple[Entry, ...]:
    """Divide a held price between the client and the provider.

    Args:
        task_id: The task.
        client_agent_id: Who has paid.
        to_client: Its part, in minor units.
        provider_agent_id: Who has worked.
        to_provider: Its part, in minor units, before the fee.
        fee: The platform's part of that, in minor units.
    """
    postings = (
        Posting(escrow(task_id), -(to_client + to_provider)),
        Posting(available(client_agent_id), to_client),
        Posting(available(provider_agent_id), to_provider - fee),
        Posting(FEES, fee),
    )
    moved = tuple(posting for posting in postings if posting.amount)
    return (Entry("split", moved, task_id),)


def lock(*, channel_id: str, agent_id: str, amount: int) -> tuple[Entry, ...]:
    """Lock an agent's deposit in a payment channel; nothing for a deposit of 0."""
    if amount == 0:
        return ()
    postings = (Posting(available(agent_id), -amount), Posting(channel_lock(channel_id), amount))
    return (Entry("lock", postings, channel_id=channel_id),)


def unlock(*, channel_id: str, agent_a_id: str, final_a: int, agent_b_id: str, final_b: int) -> tuple[Entry, ...]:
    """Pay out all that is locked in a payment channel; nothing where nothing is."""
    postings = (
        Posting(channel_lock(channel_id), -(final_a + final_b)),
        Posting(available(agent_a_id), final_a),
        Posting(available(agent_b_id), final_b),
    )
    moved = tuple(posting for posting in postings if posting.amount)
    return (Entry("unlock", moved, channel_id=channel_id),) if moved else ()
