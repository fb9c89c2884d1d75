"""Alerts as rows: raised and resolved in the transaction of what they tell of, found by agent, owner and subject."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from agrenting.clock import to_ms
from agrenting.db import ledger, states
from agrenting.db.transaction import Row, Tx, WriterTx
from agrenting.ids import new_id
from channels.alert_rules import (
    GROWING,
    LEDGER,
    Ends,
    Funds,
    Over,
    Raise,
    Verdict,
    counts,
    grown,
    is_notable,
    merged,
    noted,
    verdict_on,
    verdict_on_funds,
    verdict_on_ledger,
    verdict_on_rate,
)
from channels.alerts import (
    ALERT,
    HOUSE,
    PAST,
    RETENTION,
    SUBSCRIBED_MAX,
    Alert,
    AlertType,
    OpenAlerts,
    OwnThresholds,
    Phase,
    Severity,
    Thresholds,
    kept,
    resolved,
    told_of,
)
from channels.changes import Changed, DropAlert, Happened, Posted, SetThreshold, Timer
from channels.handlers import Context
from channels.ledger import available
from channels.limits import Market
from channels.task_state import Task
from channels.told import Broadcast, Told

THRESHOLDS: Final = "alert_thresholds"
"""What `WriterTx.memory` keeps every threshold under: asked for with each entry of the ledger, and few."""

UNRESOLVED: Final = (Phase.ACTIVE, Phase.ACKNOWLEDGED)
_UNRESOLVED: Final = "('active', 'acknowledged')"
_GOES_FIRST: Final = (f"type IN ({', '.join(repr(str(type_)) for type_ in PAST)})", "severity != 'critical'")
"""Which alerts make room for others, in this order."""

_decode_ends: Final = msgspec.json.Decoder(Ends).decode


# What follows from what a unit has done.


def follow(tx: WriterTx, happened: Sequence[Happened], *, now: datetime, market: Market) -> tuple[Told, ...]:
    """Raise and resolve what follows from it; what is to be told.

    It is called at the end of every unit that has done something, and most have done nothing that a rule is about.
    """
    verdict: list[Raise | Over] = []
    funds: _Funds | None = None
    for one in happened:
        if isinstance(one, Changed):
            if is_notable(one.store, one.before, one.after):
                verdict += _verdict(tx, one, market)
            elif one.store == THRESHOLDS:
                funds = funds or _Funds(tx)
                funds.reset(one.before)
            elif one.store == "alert" and one.after.status is Phase.RESOLVED:
                _forget_oldest(tx, one.after.agent_id, market)
        elif isinstance(one, Posted) and _has_threshold(tx, one):
            funds = funds or _Funds(tx)
            funds.move(one)
    if funds is not None:
        verdict += funds.verdict(tx, market)
    return tuple(_carry_out(tx, merged(tuple(verdict)), now=now, market=market)) if verdict else ()


def follow_check(tx: WriterTx, differences: int, *, now: datetime, market: Market) -> tuple[Told, ...]:
    """Raise or resolve what follows from a look at the ledger; what is to be told."""
    return tuple(_carry_out(tx, verdict_on_ledger(differences), now=now, market=market))


def is_mismatch_open(tx: Tx) -> bool:
    """Whether an alert stands that the ledger does not add up."""
    return bool(_unresolved_of(tx, Over(AlertType.LEDGER_MISMATCH, LEDGER)))


class _Funds:
    """What has moved of the agents that have a threshold, and which thresholds have changed."""

    def __init__(self, tx: WriterTx) -> None:
        self._thresholds = _thresholds(tx)
        self._moved: dict[str, int] = {}
        self._before: dict[str, int | None] = {}

    def move(self, posted: Posted) -> None:
        """Note an entry."""
        for posting in posted.entry.postings:
            if posting.account in self._thresholds:
                agent_id = _agent_of(posting.account)
                self._moved[agent_id] = self._moved.get(agent_id, 0) + posting.amount

    def reset(self, before: Thresholds) -> None:
        """Note that an agent had this threshold before."""
        self._before.setdefault(before.agent_id, before.balance_below)

    def verdict(self, tx: WriterTx, market: Market) -> Verdict:
        """What follows from all of it."""
        return tuple(
            one for agent_id in sorted({*self._moved, *self._before}) for one in self._verdict_on(tx, agent_id, market)
        )

    def _verdict_on(self, tx: WriterTx, agent_id: str, market: Market) -> Verdict:
        account = available(agent_id)
        has, low_below = ledger.balance(tx, account), self._thresholds.get(account)
        before = Funds(available=has - self._moved.get(agent_id, 0), low_below=self._before.get(agent_id, low_below))
        after = Funds(available=has, low_below=low_below)
        return verdict_on_funds(before, after, agent_id=agent_id, name_of=lambda id_: _name_of(tx, id_), market=market)


def _verdict(tx: WriterTx, changed: Changed, market: Market) -> Verdict:
    def name_of(agent_id: str) -> str:
        return _name_of(tx, agent_id)

    verdict = verdict_on(changed.store, changed.before, changed.after, name_of=name_of, market=market)
    if changed.store == "task" and counts(changed.before, changed.after):
        return (*verdict, *_note_end(tx, changed.before, changed.after))
    return verdict


def _note_end(tx: WriterTx, before: Task, after: Task) -> Verdict:
    """Keep a provider's last ends; what follows from them."""
    agent_id = after.provider_agent_id
    row = tx.one("SELECT ends FROM recent_ends WHERE agent_id = :id", id=agent_id)
    ends = () if row is None else _decode_ends(row[0])
    now = noted(ends, before, after)
    if now == ends:
        return ()
    tx.run(
        "INSERT INTO recent_ends (agent_id, ends) VALUES (:id, :ends)"
        " ON CONFLICT (agent_id) DO UPDATE SET ends = excluded.ends",
        id=agent_id,
        ends=msgspec.json.encode(now).decode(),
    )
    return verdict_on_rate(ends, now, agent_id=agent_id, name_of=lambda id_: _name_of(tx, id_))


def _carry_out(tx: WriterTx, verdict: Verdict, *, now: datetime, market: Market) -> list[Broadcast]:
    told: list[Broadcast] = []
    for one in verdict:
        if isinstance(one, Raise):
            told += _raise(tx, one, now=now, market=market)
        else:
            told += _resolve_all(tx, _unresolved_of(tx, one), now=now, market=market)
    return told


def _raise(tx: WriterTx, due: Raise, *, now: datetime, market: Market) -> list[Broadcast]:
    owner = None if due.agent_id is None else _owner_of(tx, due.agent_id)
    if due.agent_id is not None and owner is None:
        return []
    standing = _standing(tx, due)
    if standing is not None:
        return _grow(tx, standing, due, now=now) if due.type in GROWING else []
    alert = Alert(
        id=new_id(),
        severity=due.severity,
        type=due.type,
        message=due.message,
        agent_id=due.agent_id,
        owner_id=owner,
        data=due.data,
        subject=due.subject,
        inserted_at=now,
        updated_at=now,
    )
    states.insert(tx, "alert", alert.id, alert)
    return [*told_of(alert), *_make_room(tx, due.agent_id, now=now, market=market)]


def _make_room(tx: WriterTx, agent_id: str | None, *, now: datetime, market: Market) -> list[Broadcast]:
    """Resolve the oldest alerts of an agent that has too many: those of what is past before those of what lasts.

    Critical ones stay. So nobody hides a dispute behind a thousand failures.
    """
    if agent_id is None:
        return []
    row = tx.one(
        f"SELECT count(*) FROM alerts WHERE agent_id = :agent_id AND status IN {_UNRESOLVED}", agent_id=agent_id
    )
    assert row is not None, "an aggregate has one row"
    too_many = int(row[0]) - market.limits.alerts_per_agent_max
    told: list[Broadcast] = []
    for which in _GOES_FIRST:
        if too_many > 0:
            ids = _oldest(tx, agent_id, which, limit=too_many)
            told += _resolve_all(tx, ids, now=now, market=market)
            too_many -= len(ids)
    return told


def _oldest(tx: Tx, agent_id: str, which: str, *, limit: int) -> list[str]:
    """The oldest unresolved alerts of an agent of which that is true."""
    parts = " UNION ALL ".join(
        "SELECT id FROM (SELECT id FROM alerts WHERE agent_id = :agent_id"
        f" AND status = '{status}' AND {which} ORDER BY id LIMIT :limit)"
        for status in UNRESOLVED
    )
    rows = tx.all(f"SELECT id FROM ({parts}) ORDER BY id LIMIT :limit", agent_id=agent_id, limit=limit)
    return [row[0] for row in rows]


def _resolve_all(tx: WriterTx, ids: list[str], *, now: datetime, market: Market) -> list[Broadcast]:
    told: list[Broadcast] = []
    for id_ in ids:
        alert: Alert = resolved(states.load(tx, "alert", id_), by=HOUSE, now=now)
        states.save(tx, "alert", id_, alert)
        _arm(tx, kept(alert, market))
        _forget_oldest(tx, alert.agent_id, market)
        told += told_of(alert)
    return told


def _standing(tx: Tx, due: Raise) -> str | None:
    """The id of the unresolved alert that there is of it already."""
    row = tx.one(
        "SELECT id FROM alerts WHERE subject = :subject AND type = :type AND agent_id IS :agent_id"
        f" AND status IN {_UNRESOLVED}",
        subject=due.subject,
        type=due.type,
        agent_id=due.agent_id,
    )
    return None if row is None else str(row[0])


def _grow(tx: WriterTx, id_: str, due: Raise, *, now: datetime) -> list[Broadcast]:
    alert = grown(states.load(tx, "alert", id_), due, now=now)
    states.save(tx, "alert", id_, alert)
    return [*told_of(alert)]


def _forget_oldest(tx: WriterTx, agent_id: str | None, market: Market) -> None:
    """Delete the oldest resolved alerts of an agent that has too many of them: a condition can come and go for ever."""
    rows = tx.all(
        "SELECT id FROM alerts WHERE agent_id IS :agent_id AND status = 'resolved' ORDER BY id DESC"
        " LIMIT -1 OFFSET :kept",
        agent_id=agent_id,
        kept=market.limits.alerts_per_agent_max,
    )
    for (id_,) in rows:
        drop(tx, DropAlert(id_))
        tx.run("DELETE FROM timers WHERE topic = :topic AND kind = :kind", topic=f"{ALERT}:{id_}", kind=RETENTION)


def _unresolved_of(tx: Tx, over: Over) -> list[str]:
    rows = tx.all(
        f"SELECT id FROM alerts WHERE subject = :subject AND type = :type AND status IN {_UNRESOLVED} ORDER BY id",
        subject=over.subject,
        type=over.type,
    )
    return [row[0] for row in rows]


def _arm(tx: WriterTx, timer: Timer) -> None:
    assert timer.due_at is not None, "a resolved alert is deleted some day"
    tx.run(
        "INSERT INTO timers (topic, kind, due_at) VALUES (:topic, :kind, :due_at)"
        " ON CONFLICT (topic, kind) DO UPDATE SET due_at = excluded.due_at",
        topic=timer.topic,
        kind=timer.kind,
        due_at=to_ms(timer.due_at),
    )


def _owner_of(tx: Tx, agent_id: str) -> str | None:
    row = _agent_row(tx, agent_id)
    return None if row is None else str(row[0])


def _name_of(tx: Tx, agent_id: str) -> str:
    row = _agent_row(tx, agent_id)
    return agent_id if row is None else str(row[1])


def _agent_row(tx: Tx, agent_id: str) -> Row | None:
    """The owner and the handle of an agent, also of one that was deleted."""
    return tx.one(
        "SELECT owner_id, handle FROM agents WHERE id = :id"
        " UNION ALL SELECT owner_id, handle FROM former_agents WHERE agent_id = :id LIMIT 1",
        id=agent_id,
    )


# Changes that are decided on.


def drop(tx: WriterTx, change: DropAlert) -> None:
    """Delete an alert."""
    tx.run("DELETE FROM alerts WHERE id = :id", id=change.alert_id)


def set_threshold(tx: WriterTx, change: SetThreshold) -> None:
    """Store an agent's threshold, or that it has none. What follows, `follow` finds."""
    agent_id, thresholds, account = change.agent_id, _thresholds(tx), available(change.agent_id)
    before = thresholds.get(account)
    if change.balance_below is None:
        tx.run("DELETE FROM alert_thresholds WHERE agent_id = :id", id=agent_id)
    else:
        tx.run(
            "INSERT INTO alert_thresholds (agent_id, balance_below) VALUES (:id, :below)"
            " ON CONFLICT (agent_id) DO UPDATE SET balance_below = excluded.balance_below",
            id=agent_id,
            below=change.balance_below,
        )
    tx.on_rollback(lambda: _put(thresholds, account, before))
    _put(thresholds, account, change.balance_below)
    old, new = (Thresholds(agent_id=agent_id, balance_below=below) for below in (before, change.balance_below))
    tx.happened.append(Changed(THRESHOLDS, old, new))


def forget_agent(tx: WriterTx, agent_id: str, *, now: datetime, market: Market) -> tuple[Told, ...]:
    """No condition of an agent lasts once it is deleted; what it was alerted of before stays its owner's."""
    set_threshold(tx, SetThreshold(agent_id, balance_below=None))
    tx.run("DELETE FROM recent_ends WHERE agent_id = :id", id=agent_id)
    over = Over(AlertType.SUCCESS_RATE_LOW, f"agent:{agent_id}")
    return tuple(_carry_out(tx, (over,), now=now, market=market))


def _thresholds(tx: WriterTx) -> dict[str, int]:
    """The threshold of each agent that has one, by its account. Only who serves a database sets them: asked once."""
    known: dict[str, int] | None = tx.memory.get(THRESHOLDS)
    if known is None:
        rows = tx.all("SELECT agent_id, balance_below FROM alert_thresholds")
        known = tx.memory[THRESHOLDS] = {available(row[0]): row[1] for row in rows}
    return known


def _has_threshold(tx: WriterTx, posted: Posted) -> bool:
    """Whether an entry moves money of an agent that has a threshold."""
    known = _thresholds(tx)
    return bool(known) and any(posting.account in known for posting in posted.entry.postings)


def _agent_of(account: str) -> str:
    """The agent whose available money an account is."""
    return account.split(":")[1]


def _put(thresholds: dict[str, int], account: str, below: int | None) -> None:
    if below is None:
        thresholds.pop(account, None)
    else:
        thresholds[account] = below


# What is decided on.


def own_thresholds(tx: Tx, topic_id: str, _request: Any, _context: Context) -> OwnThresholds | None:
    """The thresholds of the agent of that id; None where there is none such."""
    agent = tx.one("SELECT owner_id FROM agents WHERE id = :id", id=topic_id)
    if agent is None:
        return None
    row = tx.one("SELECT balance_below FROM alert_thresholds WHERE agent_id = :id", id=topic_id)
    return OwnThresholds(Thresholds(agent_id=topic_id, balance_below=None if row is None else row[0]), agent[0])


def open_alerts(tx: Tx, topic_id: str, _request: Any, _context: Context) -> OpenAlerts:
    """The newest active alerts of `agent:{id}`, `user:{id}` or `global`."""
    kind, _, id_ = topic_id.partition(":")
    whose = {"agent": "agent_id = :id", "user": "owner_id = :id", "global": "owner_id IS NULL AND :id = ''"}[kind]
    rows = tx.all(
        f"SELECT state FROM alerts WHERE {whose} AND status = 'active' ORDER BY id DESC LIMIT :limit",
        id=id_,
        limit=SUBSCRIBED_MAX + 1,
    )
    found = tuple(states.decode("alert", row) for row in rows)
    owner = _owner_of(tx, id_) if kind == "agent" else None
    return OpenAlerts(found[:SUBSCRIBED_MAX], len(found) > SUBSCRIBED_MAX, owner)


LOADERS: Final = {"open_alerts": open_alerts, "alert_thresholds": own_thresholds}


# What is read.


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which alerts are listed.

    Args:
        owner_id: Only that owner's; None for everybody's.
        agent_id: Only that agent's.
        is_global: Only the whole market's.
        status: Only those that stand so.
        severity: Only those that matter so much.
        type: Only those of this type.
    """

    owner_id: str | None = None
    agent_id: str | None = None
    is_global: bool = False
    status: Phase | None = None
    severity: Severity | None = None
    type: AlertType | None = None


def listed(tx: Tx, wanted: Wanted, *, before: str, limit: int) -> list[Alert]:
    """Alerts, newest first, whose id is less than `before`."""
    asked = {
        name: value
        for name in ("owner_id", "agent_id", "severity", "type")
        if (value := getattr(wanted, name)) is not None
    }
    # Who names an agent has its alerts found by the agent's index, not among all of the owner's.
    unindexed = "+" if wanted.agent_id is not None else ""
    conditions = "".join(f" AND {unindexed * (name == 'owner_id')}{name} = :{name}" for name in asked)
    if wanted.is_global:
        conditions += " AND owner_id IS NULL"
    statuses = tuple(Phase) if wanted.status is None else (wanted.status,)
    # One walk along an index for each status, none of which is longer than the page where nothing else is asked for.
    parts = " UNION ALL ".join(
        f"SELECT * FROM (SELECT id, state FROM alerts WHERE status = '{status}' AND id < :before{conditions}"
        " ORDER BY id DESC LIMIT :limit)"
        for status in statuses
    )
    rows = tx.all(f"SELECT state FROM ({parts}) ORDER BY id DESC LIMIT :limit", before=before, limit=limit, **asked)
    return [states.decode("alert", row) for row in rows]
