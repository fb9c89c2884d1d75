"""The ledger's rows: entries and postings are only ever appended, balances follow them in the same transaction."""

from datetime import datetime
from typing import Any, Final

from agrenting.clock import day_of, to_ms
from agrenting.db import payment_channels
from agrenting.db.parties import IS_HELD, UNFINISHED
from agrenting.db.tables import PRICE_IS_HELD
from agrenting.db.transaction import Tx, WriterTx
from agrenting.ids import new_id
from channels.changes import Posted
from channels.errors import Conflict
from channels.ledger import EXTERNAL, FEES, MONEY_MAX, Entry, available
from channels.task_disputes import DELTAS_CENTI

SOUND_ENDS: Final = (
    "pending:held:",
    "in_progress:held:",
    "disputed:held:",
    "completed:held:",
    "completed:released:release",
    "completed:split:split",
    "failed:refunded:refund",
    "cancelled:refunded:refund",
)
"""What goes together of a task that has a price: its status, where that is, and what the ledger has moved of it."""

EXTERNAL_FLOOR = -MONEY_MAX
"""All money is in `external` with its sign turned: no sum of it may pass what a client's number holds exactly."""


def post(tx: WriterTx, entry: Entry, *, now: datetime) -> str:
    """Append an entry and move its balances.

    Raises:
        Conflict: `insufficient_balance`, with what is available, or `money_limit` where a deposit would carry the
            sum of all money over 2^53-1.
    """
    entry_id = new_id()
    tx.run(
        "INSERT INTO ledger_entries (id, kind, task_id, channel_id, memo, created_at)"
        " VALUES (:id, :kind, :task_id, :channel_id, :memo, :created_at)",
        id=entry_id,
        kind=entry.kind,
        task_id=entry.task_id,
        channel_id=entry.channel_id,
        memo=entry.memo,
        created_at=to_ms(now),
    )
    for posting in entry.postings:
        _move(tx, posting.account, posting.amount)
        tx.run(
            "INSERT INTO postings (account, entry_id, amount) VALUES (:account, :entry_id, :amount)",
            account=posting.account,
            entry_id=entry_id,
            amount=posting.amount,
        )
    tx.happened.append(Posted(entry, now))
    return entry_id


def _move(tx: WriterTx, account: str, amount: int) -> None:
    floor = EXTERNAL_FLOOR if account == EXTERNAL else 0
    changed = tx.run(
        "UPDATE accounts SET balance = balance + :amount WHERE name = :account AND balance + :amount >= :floor",
        account=account,
        amount=amount,
        floor=floor,
    )
    if changed == 1:
        return
    present = balance(tx, account)
    if present == 0 and amount >= floor and not _exists(tx, account):
        tx.run("INSERT INTO accounts (name, balance) VALUES (:account, :amount)", account=account, amount=amount)
        return
    if account == EXTERNAL:
        raise Conflict("money_limit", f"All money together may not pass {MONEY_MAX}.", max=MONEY_MAX)
    raise Conflict(
        "insufficient_balance",
        f"{-amount} are needed and {present} are available; deposit the difference first.",
        available=present,
        required=-amount,
    )


def _exists(tx: Tx, account: str) -> bool:
    return tx.one("SELECT 1 FROM accounts WHERE name = :account", account=account) is not None


def balance(tx: Tx, account: str) -> int:
    """An account's balance in minor units; 0 for one that nothing was ever posted to."""
    row = tx.one("SELECT balance FROM accounts WHERE name = :account", account=account)
    return 0 if row is None else int(row[0])


def balances_of_agent(tx: Tx, agent_id: str) -> dict[str, int]:
    """What an agent has: available, held in escrow for its tasks as a client, in channels, and all together."""
    spendable = balance(tx, available(agent_id))
    row = tx.one(
        "SELECT coalesce(sum(accounts.balance), 0) FROM tasks JOIN accounts"
        " ON accounts.name = 'task:' || tasks.id || ':escrow' WHERE client_agent_id = :id"
        f" AND {PRICE_IS_HELD}",
        id=agent_id,
    )
    held = 0 if row is None else int(row[0])
    locked = payment_channels.locked_by(tx, agent_id)
    return {"available": spendable, "escrow": held, "channels": locked, "total": spendable + held + locked}


def transactions(
    tx: Tx,
    account: str,
    *,
    kind: str | None,
    task_id: str | None,
    channel_id: str | None,
    since_ms: int | None,
    until_ms: int | None,
    before: str,
    limit: int,
) -> list[dict[str, Any]]:
    """An account's entries, newest first, before entry id `before`."""
    rows = tx.all(
        "SELECT e.id, e.kind, p.amount, e.task_id, e.channel_id, e.memo, e.created_at FROM postings p"
        " JOIN ledger_entries e ON e.id = p.entry_id WHERE p.account = :account AND p.entry_id < :before"
        " AND (:kind IS NULL OR e.kind = :kind) AND (:task_id IS NULL OR e.task_id = :task_id)"
        " AND (:channel_id IS NULL OR e.channel_id = :channel_id)"
        " AND (:since IS NULL OR e.created_at >= :since) AND (:until IS NULL OR e.created_at < :until)"
        " ORDER BY p.entry_id DESC LIMIT :limit",
        account=account,
        before=before,
        kind=kind,
        task_id=task_id,
        channel_id=channel_id,
        since=since_ms,
        until=until_ms,
        limit=limit,
    )
    names = ("id", "kind", "amount", "task_id", "channel_id", "memo", "created_at_ms")
    return [dict(zip(names, row, strict=True)) for row in rows]


def count_spending(tx: WriterTx, *, key_id: str, amount: int, now: datetime) -> None:
    """Count what leaves `available` against a key's caps and those of every key that it descends from.

    Raises:
        Conflict: `spend_cap_exceeded`, with the cap that was met. Nothing is counted then.
    """
    day = day_of(now)
    next_id: str | None = key_id
    while next_id is not None:
        row = tx.one("SELECT parent_id, max_amount, max_amount_per_day FROM api_keys WHERE id = :id", id=next_id)
        if row is None:
            return
        parent_id, max_amount, max_amount_per_day = row
        if max_amount is not None and amount > max_amount:
            raise Conflict(
                "spend_cap_exceeded",
                f"This key may spend at most {max_amount} in one operation.",
                max_amount=max_amount,
            )
        tx.run(
            "INSERT INTO spending (key_id, day, amount) VALUES (:key_id, :day, :amount)"
            " ON CONFLICT (key_id, day) DO UPDATE SET amount = amount + excluded.amount",
            key_id=next_id,
            day=day,
            amount=amount,
        )
        spent = tx.one("SELECT amount FROM spending WHERE key_id = :key_id AND day = :day", key_id=next_id, day=day)
        if max_amount_per_day is not None and spent is not None and spent[0] > max_amount_per_day:
            raise Conflict(
                "spend_cap_exceeded",
                f"This key may spend at most {max_amount_per_day} in one UTC day.",
                max_amount_per_day=max_amount_per_day,
                spent=spent[0] - amount,
            )
        next_id = parent_id


def doctor(tx: Tx) -> list[str]:
    """Every difference between what the postings and records say and what is stored; none in a sound database."""
    differences = [
        f"entry {entry_id} is out of balance by {amount}"
        for entry_id, amount in tx.all(
            "SELECT e.id, coalesce(sum(p.amount), 0) FROM ledger_entries e LEFT JOIN postings p ON p.entry_id = e.id"
            " GROUP BY e.id HAVING coalesce(sum(p.amount), 0) != 0 OR count(p.entry_id) < 2"
        )
    ]
    differences += [
        f"posting to {account} belongs to no entry"
        for (account,) in tx.all("SELECT account FROM postings WHERE entry_id NOT IN (SELECT id FROM ledger_entries)")
    ]
    differences += [
        f"account {name} holds {held}, its postings sum to {posted}"
        for name, held, posted in tx.all(
            "SELECT name, sum(held), sum(posted) FROM (SELECT name, balance AS held, 0 AS posted FROM accounts"
            " UNION ALL SELECT account, 0, amount FROM postings) GROUP BY name"
            " HAVING sum(held) != sum(posted)"
        )
    ]
    differences += [
        f"account {name} is below zero: {held}"
        for name, held in tx.all(
            "SELECT name, balance FROM accounts WHERE balance < 0 AND name != :external", external=EXTERNAL
        )
    ]
    total = tx.one("SELECT coalesce(sum(balance), 0) FROM accounts")
    if total is not None and total[0] != 0:
        differences.append(f"all accounts together hold {total[0]}, not 0")
    return differences + _doctor_tasks(tx) + payment_channels.doctor(tx) + _doctor_reputation(tx)


def _doctor_tasks(tx: Tx) -> list[str]:
    """A task's escrow holds its price until that is paid, given back or divided, and each of these once."""
    rows = tx.all(
        "SELECT t.id, t.status, json_extract(t.state, '$.price'), coalesce(a.balance, 0) FROM tasks t"
        " LEFT JOIN accounts a ON a.name = 'task:' || t.id || ':escrow'"
        f" WHERE coalesce(a.balance, 0) != CASE WHEN t.status IN ({UNFINISHED['task']}) OR ({IS_HELD})"
        " THEN json_extract(t.state, '$.price') ELSE 0 END"
    )
    differences = [f"task {id_} is {status} at {price}, its escrow holds {held}" for id_, status, price, held in rows]
    rows = tx.all(
        "SELECT id, status, escrow, kinds FROM (SELECT t.id, t.status, json_extract(t.state, '$.price') AS price,"
        " json_extract(t.state, '$.escrow_status') AS escrow, coalesce((SELECT group_concat(kind) FROM ledger_entries"
        " WHERE task_id = t.id AND kind != 'hold'), '') AS kinds FROM tasks t) WHERE price > 0 AND"
        f" status || ':' || escrow || ':' || kinds NOT IN ({', '.join(map(repr, SOUND_ENDS))})"
    )
    differences += [
        f"task {id_} is {status} with escrow {escrow}, the ledger says {kinds}" for id_, status, escrow, kinds in rows
    ]
    return differences + _doctor_settlements(tx)


def _doctor_settlements(tx: Tx) -> list[str]:
    """What a dispute has paid to whom is what the task says."""
    rows = tx.all(
        "SELECT s.id, s.to_client, s.to_provider, s.fee, coalesce(b.client, 0), coalesce(b.provider, 0),"
        " coalesce(b.fee, 0) FROM (SELECT id, client_agent_id, provider_agent_id,"
        " json_extract(state, '$.settlement.to_client') AS to_client,"
        " json_extract(state, '$.settlement.to_provider') AS to_provider,"
        " json_extract(state, '$.settlement.fee') AS fee FROM tasks"
        " WHERE json_extract(state, '$.settlement') IS NOT NULL) s LEFT JOIN (SELECT e.task_id AS id,"
        " sum(CASE WHEN p.account = 'agent:' || t.client_agent_id || ':available' THEN p.amount ELSE 0 END) AS client,"
        " sum(CASE WHEN p.account = 'agent:' || t.provider_agent_id || ':available' THEN p.amount ELSE 0 END)"
        " AS provider, sum(CASE WHEN p.account = :fees THEN p.amount ELSE 0 END) AS fee FROM ledger_entries e"
        " JOIN postings p ON p.entry_id = e.id JOIN tasks t ON t.id = e.task_id WHERE e.kind != 'hold'"
        " GROUP BY e.task_id) b ON b.id = s.id WHERE s.to_client != coalesce(b.client, 0)"
        " OR s.to_provider - s.fee != coalesce(b.provider, 0) OR s.fee != coalesce(b.fee, 0)",
        fees=FEES,
    )
    return [
        f"task {row[0]} was settled with {row[1]} for the client, {row[2]} for the provider and a fee of {row[3]};"
        f" the ledger says {row[4]}, {row[5]} after the fee, and {row[6]}"
        for row in rows
    ]


def _doctor_reputation(tx: Tx) -> list[str]:
    """What an agent counts is what its outcomes say, and what operators' decisions added is what its tasks say."""
    deltas = " ".join(f"WHEN '{decision}' THEN {delta}" for decision, delta in DELTAS_CENTI.items())
    rows = tx.all(
        "SELECT a.handle, json_extract(a.state, '$.tasks_completed'), json_extract(a.state, '$.tasks_failed'),"
        " coalesce(o.completed, 0), coalesce(o.failed, 0) FROM agents a LEFT JOIN (SELECT provider_agent_id AS id,"
        " sum(is_completed) AS completed, sum(1 - is_completed) AS failed FROM outcomes GROUP BY provider_agent_id) o"
        " ON o.id = a.id WHERE json_extract(a.state, '$.tasks_completed') != coalesce(o.completed, 0)"
        " OR json_extract(a.state, '$.tasks_failed') != coalesce(o.failed, 0)"
    )
    differences = [
        f"agent {row[0]} counts {row[1]} completed, {row[2]} failed; its outcomes {row[3]}, {row[4]}" for row in rows
    ]
    rows = tx.all(
        "SELECT handle, delta, said FROM (SELECT a.handle,"
        " coalesce(json_extract(a.state, '$.dispute_delta_centi'), 0) AS delta, coalesce(d.delta, 0) AS said"
        " FROM agents a LEFT JOIN (SELECT provider_agent_id AS id,"
        f" sum(CASE json_extract(state, '$.settlement.decision') {deltas} END) AS delta FROM tasks"
        " WHERE json_extract(state, '$.settlement.decided_by') = 'operator' AND json_extract(state, '$.is_countable')"
        " GROUP BY provider_agent_id) d ON d.id = a.id) WHERE delta != said"
    )
    return differences + [
        f"agent {handle} has {delta} hundredths from disputes; its tasks say {said}" for handle, delta, said in rows
    ]


def summary(tx: Tx) -> dict[str, int]:
    """All money by where it is: with agents, in escrow, in channels, as fees, and outside with its sign turned."""
    row = tx.one(
        "SELECT coalesce(sum(CASE WHEN name LIKE 'agent:%' THEN balance END), 0),"
        " coalesce(sum(CASE WHEN name LIKE 'task:%' THEN balance END), 0),"
        " coalesce(sum(CASE WHEN name LIKE 'channel:%' THEN balance END), 0),"
        " coalesce(sum(CASE WHEN name = :fees THEN balance END), 0),"
        " coalesce(sum(CASE WHEN name = :external THEN balance END), 0), coalesce(sum(balance), 0) FROM accounts",
        fees=FEES,
        external=EXTERNAL,
    )
    assert row is not None, "an aggregate has one row"
    return dict(zip(("agents", "escrow", "channels", "fees", "external", "sum"), row, strict=True))
