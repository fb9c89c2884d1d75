"""The sums of analytics, as revision 0006 makes them of what there is: with the rules of its time, in SQL alone.

What happened is gathered first, agent by agent and moment by moment; then it is summed up for every agent, its owner
and the market, in hours, days and all time, and in minutes for the last two hours in which something happened.
"""

from typing import Final

import sqlalchemy as sa

NAMES: Final = (
    "tasks_total",
    "tasks_started",
    "tasks_completed",
    "tasks_failed",
    "tasks_cancelled",
    "execution_ms",
    "executions",
    "revenue_gross",
    "revenue_streamed",
    "fees",
    "spend",
    "tasks_hired",
    "negotiations_started",
    "negotiations_completed",
    "transfers_in",
    "transfers_out",
    "transfers_in_amount",
    "transfers_out_amount",
    "messages_in",
)
MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
SPANS: Final = (
    (60, f"at - at % {MINUTE_MS}", "at >= (SELECT at FROM minutes_since)"),
    (3_600, f"at - at % {HOUR_MS}", "at < (SELECT at FROM minutes_since)"),
    (86_400, f"at - at % {DAY_MS}", "at < (SELECT at FROM minutes_since)"),
    (0, "0", "at < (SELECT at FROM minutes_since)"),
)
"""Each span in seconds, where its buckets begin, and what is told in them."""

SCOPES: Final = (
    ("'agent:' || agent_id", "agent_id IS NOT NULL", "agent_id IS NOT NULL"),
    ("'user:' || owner_id", "owner_id IS NOT NULL", "owner_id IS NOT NULL AND is_owners"),
    ("'global'", "agent_id IS NOT NULL", "is_markets"),
)
"""Each scope, whether it counts what an agent has done, and whether also where it may have been counted before."""

EXACT_MS, SHIFTS = 32, 40


def _ms(field: str, state: str = "state") -> str:
    """A time in a state, in milliseconds since 1970."""
    return f"CAST(round((julianday(json_extract({state}, '$.{field}')) - 2440587.5) * {DAY_MS}) AS INTEGER)"


def _bucket() -> str:
    """The bucket of the histogram for `took`: 16 for each power of two, and one for each of the first milliseconds."""
    parts = " ".join(
        f"WHEN took < {EXACT_MS << shift} THEN {shift << 4} + (took >> {shift})" for shift in range(1, SHIFTS)
    )
    return f"CASE WHEN took < {EXACT_MS} THEN took {parts} END"


PREPARED: Final = (
    # Whose the agents were that have been deleted: contacts are kept. What they were called is not.
    """
    INSERT INTO former_agents (agent_id, owner_id, handle)
    SELECT id, min(owner_id), id FROM (
        SELECT json_extract(state, '$.requester.id') AS id, json_extract(state, '$.requester.user_id') AS owner_id
        FROM contacts WHERE json_extract(state, '$.requester.type') = 'Agent'
        UNION SELECT json_extract(state, '$.recipient.id'), json_extract(state, '$.recipient.user_id')
        FROM contacts WHERE json_extract(state, '$.recipient.type') = 'Agent'
    ) WHERE id NOT IN (SELECT id FROM agents) GROUP BY id
    """,
    "CREATE TEMP TABLE owners (agent_id TEXT PRIMARY KEY, owner_id TEXT NOT NULL) WITHOUT ROWID",
    "INSERT INTO owners SELECT id, owner_id FROM agents UNION SELECT agent_id, owner_id FROM former_agents",
    f"""
    CREATE TEMP TABLE lives AS SELECT id, client_agent_id AS client, provider_agent_id AS provider, status,
        json_extract(state, '$.capability') AS capability, json_extract(state, '$.channel_id') AS channel_id,
        created_at, {_ms("started_at")} AS started_at, {_ms("ended_at")} AS ended_at,
        coalesce(json_extract(state, '$.is_countable'), 0) AS is_countable,
        json_extract(state, '$.settlement.decision') AS decision,
        json_extract(state, '$.settlement.decided_by') AS decided_by, {_ms("settlement.settled_at")} AS settled_at
    FROM tasks
    """,
    "CREATE UNIQUE INDEX temp.ix_lives ON lives (id)",
    """
    CREATE TEMP TABLE earnings AS
    SELECT l.provider AS agent_id, o.owner_id, l.client, l.capability, e.created_at AS at, sum(p.amount) AS gross,
        sum(CASE WHEN p.account = 'platform:fees' THEN p.amount ELSE 0 END) AS fees, 0 AS streamed
    FROM ledger_entries e JOIN lives l ON l.id = e.task_id JOIN postings p ON p.entry_id = e.id
        AND p.account IN ('platform:fees', 'agent:' || l.provider || ':available')
    LEFT JOIN owners o ON o.agent_id = l.provider
    WHERE e.kind IN ('release', 'split') GROUP BY e.id
    """,
    """
    CREATE TEMP TABLE transfers AS
    SELECT channel_id, created_at AS at, json_extract(state, '$.details.amount') AS amount,
        json_extract(state, '$.details.from_agent_id') AS payer, json_extract(state, '$.details.to_agent_id') AS payee,
        json_extract(state, '$.details.task_id') AS task_id
    FROM channel_steps WHERE kind = 'transfer'
    """,
    """
    INSERT INTO earnings
    SELECT l.provider, o.owner_id, l.client, l.capability, t.at, t.amount, 0, t.amount
    FROM transfers t JOIN lives l ON l.id = t.task_id AND l.channel_id = t.channel_id AND l.client = t.payer
    LEFT JOIN owners o ON o.agent_id = l.provider
    """,
    """
    CREATE TEMP TABLE ends AS
    SELECT l.provider AS agent_id, o.owner_id, l.capability, l.status, l.ended_at AS at,
        CASE WHEN l.status = 'completed' THEN max(0, l.ended_at - l.started_at) END AS took
    FROM lives l LEFT JOIN owners o ON o.agent_id = l.provider
    WHERE l.status IN ('completed', 'failed', 'cancelled') AND l.ended_at IS NOT NULL
    """,
    """
    CREATE TEMP TABLE happenings (
        agent_id TEXT, owner_id TEXT, at INTEGER, name TEXT, amount INTEGER, is_owners INTEGER, is_markets INTEGER
    )
    """,
)
"""What there is, read once."""

EVERYWHERE: Final = {
    "tasks_total": "SELECT provider, created_at, 1 FROM lives",
    "tasks_hired": "SELECT client, created_at, 1 FROM lives",
    "tasks_started": "SELECT provider, started_at, 1 FROM lives WHERE started_at IS NOT NULL",
    "tasks_completed": "SELECT agent_id, at, 1 FROM ends WHERE status = 'completed'",
    "tasks_failed": "SELECT agent_id, at, 1 FROM ends WHERE status = 'failed'",
    "tasks_cancelled": "SELECT agent_id, at, 1 FROM ends WHERE status = 'cancelled'",
    "execution_ms": "SELECT agent_id, at, took FROM ends WHERE took IS NOT NULL",
    "executions": "SELECT agent_id, at, 1 FROM ends WHERE took IS NOT NULL",
    "revenue_gross": "SELECT agent_id, at, gross FROM earnings",
    "revenue_streamed": "SELECT agent_id, at, streamed FROM earnings",
    "fees": "SELECT agent_id, at, fees FROM earnings",
    "spend": "SELECT client, at, gross FROM earnings",
    "transfers_in": "SELECT payee, at, 1 FROM transfers",
    "transfers_out": "SELECT payer, at, 1 FROM transfers",
    "transfers_in_amount": "SELECT payee, at, amount FROM transfers",
    "transfers_out_amount": "SELECT payer, at, amount FROM transfers",
    "messages_in": "SELECT to_agent_id, created_at, 1 FROM messages",
}
"""What counts for an agent, its owner and the market alike: agent, moment and amount."""

SESSIONS: Final = {
    "negotiations_started": ("created_at", "1"),
    "negotiations_completed": (_ms("ended_at"), "status = 'agreed'"),
}
"""What counts for both sides: once for the market, and once for an owner of both."""

AGREED_BY: Final = """
INSERT INTO happenings
SELECT n.client_agent_id, c.owner_id, {at}, '{name}', 1, 1, 1 FROM negotiations n
LEFT JOIN owners c ON c.agent_id = n.client_agent_id WHERE {condition}
UNION ALL
SELECT n.provider_agent_id, p.owner_id, {at}, '{name}', 1, p.owner_id IS NOT c.owner_id, 0 FROM negotiations n
LEFT JOIN owners c ON c.agent_id = n.client_agent_id LEFT JOIN owners p ON p.agent_id = n.provider_agent_id
WHERE {condition}
"""

MOVES: Final = (
    """
    CREATE TEMP TABLE moves AS
    SELECT id AS agent_id, created_at AS at, 0 AS completed, 0 AS failed, 0 AS delta FROM agents
    """,
    # The end of a task, as it stood then: one that was settled otherwise later had been completed.
    """
    INSERT INTO moves SELECT provider, ended_at, completed, 1 - completed, 0 FROM (
        SELECT l.provider, l.ended_at, l.status NOT IN ('failed', 'cancelled') OR (coalesce(decided_by, 'automatic')
            != 'automatic' AND l.ended_at < l.settled_at) AS completed
        FROM outcomes o JOIN lives l ON l.id = o.task_id
        WHERE l.ended_at IS NOT NULL AND o.provider_agent_id IN (SELECT id FROM agents)
    )
    """,
    # Its correction.
    """
    INSERT INTO moves SELECT l.provider, l.settled_at, -1, 1, 0 FROM outcomes o JOIN lives l ON l.id = o.task_id
    WHERE l.status = 'failed' AND l.decided_by != 'automatic' AND l.ended_at < l.settled_at
        AND o.provider_agent_id IN (SELECT id FROM agents)
    """,
    # What an operator's decision adds besides.
    """
    INSERT INTO moves SELECT provider, settled_at, 0, 0, CASE decision WHEN 'provider' THEN 10 WHEN 'client' THEN -15
        ELSE -5 END FROM lives WHERE decided_by = 'operator' AND is_countable AND provider IN (SELECT id FROM agents)
    """,
    """
    CREATE TEMP TABLE reputations AS
    SELECT agent_id, at, max(0, min(500, (10 * (100 * completed + 350) + counted + 5) / (2 * (counted + 5)) + delta))
        AS centi
    FROM (
        SELECT agent_id, at, sum(completed) OVER up_to AS completed, sum(completed + failed) OVER up_to AS counted,
            sum(delta) OVER up_to AS delta
        FROM moves WINDOW up_to AS (PARTITION BY agent_id ORDER BY at RANGE UNBOUNDED PRECEDING)
    )
    """,
)
"""How each agent's reputation came about: every moment in which it changed, and what it was from then on."""

TEMPORARY: Final = (
    "reputations", "moves", "minutes_since", "happenings", "ends", "transfers", "earnings", "lives", "owners",
)  # fmt: skip


def make_first_sums(bind: sa.Connection) -> None:
    """Fill the tables of sums, which are empty, from all that there is."""
    for statement in (*PREPARED, *MOVES):
        bind.exec_driver_sql(statement)
    _gather(bind)
    # Minutes for two hours at most, so that whatever comes next finds what the last hour was.
    bind.exec_driver_sql(
        f"CREATE TEMP TABLE minutes_since AS SELECT coalesce(max(at) - max(at) % {HOUR_MS} - {HOUR_MS}, 0) AS at"
        " FROM (SELECT max(at) AS at FROM happenings UNION ALL SELECT max(at) FROM reputations)"
    )
    for span, start, when in SPANS:
        for scope, whom, once in SCOPES:
            _sum_up(bind, span, start, scope, f"{when} AND {once}")
            _sum_up_parts(bind, span, start, scope, f"{when} AND {whom}")
        bind.exec_driver_sql(
            "INSERT INTO rollups (scope, span, start, reputation_centi)"
            f" SELECT scope, {span}, start, centi FROM (SELECT 'agent:' || agent_id AS scope, {start} AS start,"
            f" max(at), centi FROM reputations WHERE {when} GROUP BY 1, 2) WHERE 1"
            " ON CONFLICT DO UPDATE SET reputation_centi = excluded.reputation_centi"
        )
    bind.exec_driver_sql(
        "INSERT INTO capability_totals SELECT capability, agent_id, coalesce(owner_id, ''), sum(status = 'completed'),"
        " sum(status = 'failed'), coalesce(sum(took), 0), count(took) FROM ends WHERE status != 'cancelled'"
        " GROUP BY capability, agent_id"
    )
    for table in TEMPORARY:
        bind.exec_driver_sql(f"DROP TABLE temp.{table}")


def _gather(bind: sa.Connection) -> None:
    for name, question in EVERYWHERE.items():
        bind.exec_driver_sql(
            f"INSERT INTO happenings SELECT q.agent_id, o.owner_id, q.at, '{name}', q.amount, 1, 1 FROM"
            f" (SELECT NULL AS agent_id, NULL AS at, NULL AS amount WHERE 0 UNION ALL {question}) q"
            " LEFT JOIN owners o ON o.agent_id = q.agent_id"
        )
    for name, (at, condition) in SESSIONS.items():
        bind.exec_driver_sql(AGREED_BY.format(name=name, at=at, condition=condition))


def _sum_up(bind: sa.Connection, span: int, start: str, scope: str, condition: str) -> None:
    sums = ", ".join(f"coalesce(sum(amount) FILTER (WHERE name = '{name}'), 0)" for name in NAMES)
    bind.exec_driver_sql(
        f"INSERT INTO rollups (scope, span, start, {', '.join(NAMES)})"
        f" SELECT {scope}, {span}, {start}, {sums} FROM happenings WHERE {condition} GROUP BY 1, 3"
    )


def _sum_up_parts(bind: sa.Connection, span: int, start: str, scope: str, condition: str) -> None:
    bind.exec_driver_sql(
        f"INSERT INTO rollup_latencies (scope, span, start, bucket, count) SELECT {scope}, {span}, {start},"
        f" {_bucket()}, count(*) FROM ends WHERE took IS NOT NULL AND {condition} GROUP BY 1, 3, 4"
    )
    if scope == "'global'":
        return
    for kind, name in (("capability", "capability"), ("counterparty", "client")):
        bind.exec_driver_sql(
            "INSERT INTO rollup_revenue (scope, span, kind, start, name, gross, fees)"
            f" SELECT {scope}, {span}, '{kind}', {start}, {name}, sum(gross), sum(fees) FROM earnings"
            f" WHERE {condition} GROUP BY 1, 4, 5"
        )
