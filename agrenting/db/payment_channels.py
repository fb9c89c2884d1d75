"""Payment channels: what their events are decided on, what is locked in them, and whether their histories add up."""

from collections.abc import Iterable, Sequence
from typing import Any, Final, cast

import msgspec

from agrenting.db import channel_steps, states
from agrenting.db.parties import UNFINISHED
from agrenting.db.transaction import Tx
from channels.channel_steps import ChannelStep, StepKind
from channels.handlers import Context
from channels.payment_opening import AcceptanceFacts
from channels.payment_state import ChannelFacts, PaymentChannel

_UNFINISHED: Final = UNFINISHED["payment"]
STEPS_AT_ONCE: Final = 1_000


def locked_by(tx: Tx, agent_id: str) -> int:
    """An agent's side of all its channels that have not ended, in minor units."""
    row = tx.one(
        "SELECT (SELECT coalesce(sum(json_extract(state, '$.balance_a')), 0) FROM payment_channels"
        f" WHERE agent_a_id = :id AND status IN ({_UNFINISHED}))"
        " + (SELECT coalesce(sum(json_extract(state, '$.balance_b')), 0) FROM payment_channels"
        f" WHERE agent_b_id = :id AND status IN ({_UNFINISHED}))",
        id=agent_id,
    )
    return 0 if row is None else int(row[0])


def count_open(tx: Tx, a_id: str, b_id: str) -> int:
    """The channels of two agents that have not ended, whoever opened them."""
    row = tx.one(
        f"SELECT (SELECT count(*) FROM payment_channels WHERE agent_a_id = :a AND agent_b_id = :b"
        f" AND status IN ({_UNFINISHED})) + (SELECT count(*) FROM payment_channels WHERE agent_a_id = :b"
        f" AND agent_b_id = :a AND status IN ({_UNFINISHED}))",
        a=a_id,
        b=b_id,
    )
    return 0 if row is None else int(row[0])


def undecided(tx: Tx, *, after: str, limit: int) -> list[PaymentChannel]:
    """The channels that wait for an operator: disputed ones, and those that states were lost of; oldest first."""
    rows = tx.all(
        "SELECT state FROM payment_channels WHERE id > :after AND (status = 'disputed' OR (status IN"
        " ('pending', 'open', 'closing') AND json_extract(state, '$.state_lost') IS NOT NULL))"
        " ORDER BY id LIMIT :limit",
        after=after,
        limit=limit,
    )
    return [states.decode("payment", row) for row in rows]


# What events are decided on.


def plain(tx: Tx, topic_id: str, _request: Any, _context: Context) -> ChannelFacts:
    """The channel alone."""
    return ChannelFacts(channel=states.load(tx, "payment", topic_id))


def at_nonce(tx: Tx, topic_id: str, request: Any, _context: Context) -> ChannelFacts:
    """The channel, and what has used up the nonce that the event speaks of."""
    return _with_nonces(tx, topic_id, () if request.nonce is None else (request.nonce,))


def proposing(tx: Tx, topic_id: str, request: Any, context: Context) -> ChannelFacts:
    """The same, and the task that a proposal names."""
    facts = at_nonce(tx, topic_id, request, context)
    if request.task_id is None:
        return facts
    return msgspec.structs.replace(facts, task=states.load(tx, "task", request.task_id))


def acknowledging(tx: Tx, topic_id: str, request: Any, context: Context) -> ChannelFacts:
    """The same as at a nonce, and the task that the pending proposal names."""
    facts = at_nonce(tx, topic_id, request, context)
    proposal = None if facts.channel is None else facts.channel.pending_proposal
    if proposal is None or proposal.task_id is None:
        return facts
    return msgspec.structs.replace(facts, task=states.load(tx, "task", proposal.task_id))


def joining(tx: Tx, topic_id: str, request: Any, context: Context) -> ChannelFacts:
    """The channel, and the steps from the nonce on that the client knows; one more than it is sent."""
    facts = plain(tx, topic_id, request, context)
    known = getattr(request, "known", None)
    if known is None or facts.channel is None:
        return facts
    most = context.market.limits.missing_transfers_max + 2
    return ChannelFacts(
        channel=facts.channel, used=channel_steps.from_nonce(tx, topic_id, max(known.nonce, 1), limit=most)
    )


def handing_in(tx: Tx, topic_id: str, request: Any, context: Context) -> ChannelFacts:
    """The channel, and what has used up the nonces of a chain; of one that is too long, nothing."""
    if len(request.transfers) > context.market.limits.transfers_per_frame_max:
        return plain(tx, topic_id, request, context)
    return _with_nonces(tx, topic_id, (transfer.nonce for transfer in request.transfers))


def disputing(tx: Tx, topic_id: str, request: Any, context: Context) -> ChannelFacts:
    """The channel, and what has used up the nonces of the transfers that are evidence; of too many, nothing."""
    evidence = request.evidence
    transfers: Any = cast("dict[str, Any]", evidence).get("transfers") if isinstance(evidence, dict) else None
    if not isinstance(transfers, list):
        return plain(tx, topic_id, request, context)
    chain = cast("Sequence[Any]", transfers)
    if len(chain) > context.market.limits.transfers_per_frame_max:
        return plain(tx, topic_id, request, context)
    nonces = (cast("dict[str, Any]", one).get("nonce") for one in chain if isinstance(one, dict))
    return _with_nonces(tx, topic_id, (nonce for nonce in nonces if isinstance(nonce, int)))


def accepting(tx: Tx, topic_id: str, _request: Any, _context: Context) -> AcceptanceFacts:
    """The channel and its two agents."""
    channel: PaymentChannel | None = states.load(tx, "payment", topic_id)
    if channel is None:
        return AcceptanceFacts(channel=None)
    agents = (states.load(tx, "agent", channel.agent_a_id), states.load(tx, "agent", channel.agent_b_id))
    return AcceptanceFacts(channel=channel, agents=tuple(agent for agent in agents if agent is not None))


def _with_nonces(tx: Tx, channel_id: str, nonces: Iterable[int]) -> ChannelFacts:
    channel: PaymentChannel | None = states.load(tx, "payment", channel_id)
    if channel is None:
        return ChannelFacts(channel=None)
    used = [nonce for nonce in nonces if 0 < nonce <= channel.last_nonce]
    return ChannelFacts(channel=channel, used=channel_steps.at_nonces(tx, channel_id, used) if used else ())


# Whether it all adds up.


def doctor(tx: Tx) -> list[str]:
    """Every difference between channels, their money and their histories; none is good."""
    differences = _doctor_rows(tx) + _doctor_money(tx)
    for (channel_id,) in tx.all("SELECT id FROM payment_channels ORDER BY id"):
        channel: PaymentChannel = states.load(tx, "payment", channel_id)
        differences += [f"channel {channel_id}: {flaw}" for flaw in _flaws(tx, channel)]
    return differences


def _doctor_rows(tx: Tx) -> list[str]:
    """What is looked up by columns is what the states beside them say, and nothing belongs to no channel."""
    differences = [
        f"channel {id_} is not looked up as it says: its status or a party"
        for (id_,) in tx.all(
            "SELECT id FROM payment_channels WHERE id != json_extract(state, '$.id') OR status !="
            " json_extract(state, '$.status') OR agent_a_id != json_extract(state, '$.agent_a_id') OR agent_b_id !="
            " json_extract(state, '$.agent_b_id') ORDER BY id"
        )
    ]
    differences += [
        f"step {number} of channel {id_} is not looked up as it says: its number, kind or nonce"
        for id_, number in tx.all(
            "SELECT channel_id, number FROM channel_steps WHERE number != json_extract(state, '$.number') OR kind !="
            " json_extract(state, '$.kind') OR nonce IS NOT CASE WHEN kind IN ('transfer', 'voided') THEN"
            " json_extract(state, '$.last_nonce') END ORDER BY channel_id, number"
        )
    ]
    return differences + [
        f"there are steps of channel {id_}, but no such channel"
        for (id_,) in tx.all(
            "SELECT DISTINCT channel_id FROM channel_steps WHERE channel_id NOT IN (SELECT id FROM payment_channels)"
        )
    ]


def _doctor_money(tx: Tx) -> list[str]:
    """A lock holds what its channel says, and each party has put in and been paid what the channel says."""
    differences = [
        f"channel {id_} is {status} with {total} in it, its lock holds {held}"
        for id_, status, total, held in tx.all(
            "SELECT c.id, c.status, c.total, coalesce(a.balance, 0) FROM (SELECT id, status, CASE WHEN status IN"
            f" ({_UNFINISHED}) THEN json_extract(state, '$.balance_a') + json_extract(state, '$.balance_b') ELSE 0 END"
            " AS total FROM payment_channels) c LEFT JOIN accounts a ON a.name = 'channel:' || c.id || ':lock'"
            " WHERE c.total != coalesce(a.balance, 0)"
        )
    ]
    differences += [
        f"{name} holds {held}, but there is no such channel"
        for name, held in tx.all(
            "SELECT name, balance FROM accounts WHERE name LIKE 'channel:%' AND balance != 0 AND name NOT IN"
            " (SELECT 'channel:' || id || ':lock' FROM payment_channels)"
        )
    ]
    rows = tx.all(
        "WITH sides AS (SELECT id, agent_a_id AS agent_id, json_extract(state, '$.deposit_a') AS deposit,"
        " coalesce(json_extract(state, '$.final_balance_a'), 0) AS final FROM payment_channels UNION ALL"
        " SELECT id, agent_b_id, json_extract(state, '$.deposit_b'),"
        " coalesce(json_extract(state, '$.final_balance_b'), 0) FROM payment_channels),"
        " booked AS (SELECT e.channel_id AS id, p.account, sum(CASE e.kind WHEN 'lock' THEN -p.amount ELSE 0 END)"
        " AS locked, sum(CASE e.kind WHEN 'unlock' THEN p.amount ELSE 0 END) AS unlocked FROM ledger_entries e"
        " JOIN postings p ON p.entry_id = e.id WHERE e.channel_id IS NOT NULL GROUP BY e.channel_id, p.account)"
        " SELECT s.id, s.agent_id, s.deposit, s.final, coalesce(b.locked, 0), coalesce(b.unlocked, 0) FROM sides s"
        " LEFT JOIN booked b ON b.id = s.id AND b.account = 'agent:' || s.agent_id || ':available'"
        " WHERE s.deposit != coalesce(b.locked, 0) OR s.final != coalesce(b.unlocked, 0)"
    )
    differences += _doctor_paid(tx)
    return differences + [
        f"channel {row[0]} got {row[2]} from agent {row[1]} and paid it {row[3]}; the ledger says {row[4]}, {row[5]}"
        for row in rows
    ]


def _doctor_paid(tx: Tx) -> list[str]:
    """What a task says that it was paid as it streamed is what its client's transfers on its channel say."""
    rows = tx.all(
        "WITH paid AS (SELECT channel_id, json_extract(state, '$.details.task_id') AS task_id,"
        " json_extract(state, '$.details.from_agent_id') AS payer_id, sum(json_extract(state, '$.details.amount'))"
        " AS amount FROM channel_steps WHERE kind = 'transfer' GROUP BY 1, 2, 3)"
        " SELECT t.id, coalesce(json_extract(t.state, '$.paid'), 0), coalesce(p.amount, 0) FROM tasks t"
        " LEFT JOIN paid p ON p.task_id = t.id AND p.channel_id = json_extract(t.state, '$.channel_id')"
        " AND p.payer_id = t.client_agent_id"
        " WHERE coalesce(json_extract(t.state, '$.paid'), 0) != coalesce(p.amount, 0) ORDER BY t.id"
    )
    return [f"task {id_} is paid {paid} as it streams, the steps of its channel say {sent}" for id_, paid, sent in rows]


def _flaws(tx: Tx, channel: PaymentChannel) -> list[str]:
    """What of a channel does not follow from its history; the first flaw of that, because all else rests on it."""
    number = nonce = balance_a = balance_b = 0
    while steps := channel_steps.history(tx, channel.id, after=number, limit=STEPS_AT_ONCE):
        for step in steps:
            number += 1
            try:
                nonce = _last_nonce(step, nonce)
                balance_a, balance_b = _after(step, channel, balance_a, balance_b)
            except (KeyError, TypeError, ValueError):
                return [f"step {step.number} is not what a step of its kind is"]
            if (step.number, step.last_nonce) != (number, nonce):
                return [f"step {step.number} at nonce {step.last_nonce} stands as step {number} at {nonce}"]
            if (step.balance_a, step.balance_b) != (balance_a, balance_b):
                return [f"step {step.number} does not leave {step.balance_a} and {step.balance_b}"]
    has = (channel.steps, channel.last_nonce, channel.balance_a, channel.balance_b)
    if has != (number, nonce, balance_a, balance_b):
        return [f"it stands at {has}, its history at {(number, nonce, balance_a, balance_b)}"]
    return []


def _last_nonce(step: ChannelStep, nonce: int) -> int:
    """The last nonce that is used up after a step; a lost state uses up all to its own."""
    if step.kind is StepKind.STATE_LOST:
        return max(nonce, int(step.details["nonce"]))
    return nonce if step.nonce is None else nonce + 1


def _after(step: ChannelStep, channel: PaymentChannel, balance_a: int, balance_b: int) -> tuple[int, int]:
    """The balances that a step makes of those before it.

    Raises:
        KeyError, TypeError, ValueError: It is no step of its kind, or is by nobody of the two.
    """
    details = step.details
    is_of_a = {channel.agent_a_id: True, channel.agent_b_id: False}
    match step.kind:
        case StepKind.OPENED:
            return details["deposit"], 0
        case StepKind.ACCEPTED:
            return balance_a, details["deposit"]
        case StepKind.DEPOSIT:
            is_a = is_of_a[step.agent_id or ""]
            return balance_a + details["amount"] * is_a, balance_b + details["amount"] * (not is_a)
        case StepKind.TRANSFER:
            moved = -details["amount"] if is_of_a[details["from_agent_id"]] else details["amount"]
            return balance_a + moved, balance_b - moved
        case _:
            return balance_a, balance_b


LOADERS: Final = {
    "payment": plain,
    "payment_at_nonce": at_nonce,
    "payment_proposing": proposing,
    "payment_acknowledging": acknowledging,
    "payment_join": joining,
    "payment_handing_in": handing_in,
    "payment_disputing": disputing,
    "payment_accepting": accepting,
}
"""Loader name → loader, of all that is decided on a channel."""
