"""A market's past in SQL: what one row of a plan for each task comes to in the tables of the server.

Values of a row are columns of the plan; everything else is put together from names of this file.
"""

from typing import Final

FEE_BPS: Final = 500
UNIT: Final = 10**6
"""Minor units in a whole one of the currency."""

NEGOTIATED, MESSAGED, PAID = 3, 2, 100
"""One task of so many has a negotiation, a message, and a payment channel."""

TRANSFERS: Final = 10
"""In each channel."""

MADE: Final = """
CREATE TEMP TABLE made (
    n INTEGER PRIMARY KEY, task_id TEXT, client INTEGER, provider INTEGER, capability TEXT, price INTEGER,
    created INTEGER, started INTEGER, ended INTEGER, outcome TEXT
);
CREATE TEMP TABLE who (place INTEGER PRIMARY KEY, id TEXT, owner_id TEXT);
"""
"""The plan: a row a task, by whose place who is who; times in milliseconds since 1970."""


def _sql_id(created: str, kind: int, number: str = "n") -> str:
    """The same id in SQL."""
    stamp = f"printf('%012x', {created})"
    return f"substr({stamp}, 1, 8) || '-' || substr({stamp}, 9) || printf('-7{kind:03x}-8000-%012x', {number})"


def _time(ms: str) -> str:
    return f"strftime('%Y-%m-%dT%H:%M:%fZ', ({ms}) / 1000.0, 'unixepoch')"


def _json(**fields: str) -> str:
    """A JSON object in SQL: each value is SQL."""
    return "json_object(" + ", ".join(f"'{name}', {value}" for name, value in fields.items()) + ")"


_FEE: Final = f"(price * {FEE_BPS} / 10000)"
_IS_PAID: Final = "outcome = 'completed'"
_IS_BACK: Final = "outcome IN ('failed', 'cancelled')"
_PAYS: Final = f"(n % {PAID} = 0 AND created < (SELECT max(created) FROM made) - 60000)"
"""Which tasks come with a channel: those after which there was time to close it."""

_PARTIES: Final = "made JOIN who c ON c.place = made.client JOIN who p ON p.place = made.provider"

_LOCK: Final = f"'channel:' || {_sql_id('created', 7)} || ':lock'"

_TASK_STATE: Final = _json(
    id="task_id",
    client_agent_id="c.id",
    provider_agent_id="p.id",
    client_owner_id="c.owner_id",
    is_countable="json(CASE WHEN c.owner_id = p.owner_id THEN 'false' ELSE 'true' END)",
    capability="capability",
    price="price",
    fee=_FEE,
    fee_bps=str(FEE_BPS),
    escrow_status="CASE outcome WHEN 'completed' THEN 'released' WHEN 'failed' THEN 'refunded'"
    " WHEN 'cancelled' THEN 'refunded' ELSE 'held' END",
    status="outcome",
    result=f"CASE WHEN {_IS_PAID} THEN json('{{\"words\":428}}') END",
    created_at=_time("created"),
    started_at=_time("started"),
    ended_at=_time("ended"),
    deadline=_time("created + 604800000"),
)

DEALS: Final = f"""
INSERT INTO tasks (id, client_agent_id, provider_agent_id, status, version, state, created_at)
SELECT task_id, c.id, p.id, outcome, 3, {_TASK_STATE}, created FROM {_PARTIES} ORDER BY n;
INSERT INTO outcomes (provider_agent_id, client_owner_id, day, task_id, is_completed)
SELECT p.id, c.owner_id, strftime('%Y-%m-%d', ended / 1000, 'unixepoch'), task_id, {_IS_PAID}
FROM {_PARTIES} WHERE started IS NOT NULL AND ended IS NOT NULL AND c.owner_id != p.owner_id
ORDER BY ended, n ON CONFLICT (provider_agent_id, client_owner_id, day) DO NOTHING
"""

LEDGER: Final = f"""
INSERT INTO ledger_entries (id, kind, task_id, memo, created_at)
SELECT {_sql_id("created", 2)}, 'hold', task_id, '', created FROM made ORDER BY n;
INSERT INTO ledger_entries (id, kind, task_id, memo, created_at)
SELECT {_sql_id("ended", 3)}, CASE WHEN {_IS_PAID} THEN 'release' ELSE 'refund' END, task_id, '', ended
FROM made WHERE ended IS NOT NULL ORDER BY ended, n;
INSERT INTO ledger_entries (id, kind, memo, created_at)
SELECT {_sql_id("1", 4, "place")}, 'deposit', '', 1 FROM who;

INSERT INTO ledger_entries (id, kind, channel_id, memo, created_at)
SELECT {_sql_id("created", 8)}, 'lock', {_sql_id("created", 7)}, '', created FROM made WHERE {_PAYS} UNION ALL
SELECT {_sql_id("created", 9)}, 'unlock', {_sql_id("created", 7)}, '', created + 60000 FROM made WHERE {_PAYS};

CREATE TEMP TABLE needed AS
SELECT place, 'agent:' || id || ':available' AS account, {UNIT} + coalesce(spent, 0) AS amount
FROM who LEFT JOIN (
    SELECT client, sum(price + CASE WHEN {_PAYS} THEN {UNIT} ELSE 0 END) AS spent FROM made GROUP BY client
) ON client = place;
INSERT INTO postings (account, entry_id, amount)
SELECT account, {_sql_id("1", 4, "place")}, amount FROM needed UNION ALL
SELECT 'external', {_sql_id("1", 4, "place")}, -amount FROM needed UNION ALL
SELECT 'agent:' || c.id || ':available', {_sql_id("created", 2)}, -price FROM {_PARTIES} UNION ALL
SELECT 'task:' || task_id || ':escrow', {_sql_id("created", 2)}, price FROM made UNION ALL
SELECT 'task:' || task_id || ':escrow', {_sql_id("ended", 3)}, -price FROM made WHERE ended IS NOT NULL UNION ALL
SELECT 'agent:' || p.id || ':available', {_sql_id("ended", 3)}, price - {_FEE} FROM {_PARTIES} WHERE {_IS_PAID}
UNION ALL
SELECT 'platform:fees', {_sql_id("ended", 3)}, {_FEE} FROM made WHERE {_IS_PAID} UNION ALL
SELECT 'agent:' || c.id || ':available', {_sql_id("ended", 3)}, price FROM {_PARTIES} WHERE {_IS_BACK}
UNION ALL
SELECT 'agent:' || c.id || ':available', {_sql_id("created", 8)}, -{UNIT} FROM {_PARTIES} WHERE {_PAYS} UNION ALL
SELECT {_LOCK}, {_sql_id("created", 8)}, {UNIT} FROM made WHERE {_PAYS} UNION ALL
SELECT {_LOCK}, {_sql_id("created", 9)}, -{UNIT} FROM made WHERE {_PAYS} UNION ALL
SELECT 'agent:' || p.id || ':available', {_sql_id("created", 9)}, {UNIT} FROM {_PARTIES} WHERE {_PAYS}
ORDER BY 1, 2;
INSERT INTO accounts (name, balance) SELECT account, sum(amount) FROM postings GROUP BY account
"""

_SESSION_AT: Final = "(created - 60000)"
_SESSION_STATE: Final = _json(
    id=_sql_id(_SESSION_AT, 5),
    client_agent_id="c.id",
    provider_agent_id="p.id",
    client_public_key="''",
    provider_public_key="''",
    capability="capability",
    base_max="price",
    max_offer="2 * price",
    max_rounds="10",
    terms="NULL",
    session_digest="''",
    status="session_status",
    created_at=_time(_SESSION_AT),
    expires_at=_time("created + 1740000"),
    ended_at=_time("created - 30000"),
)
_MESSAGE_STATE: Final = _json(
    id=_sql_id("created", 6),
    to_agent_id="p.id",
    type="'status_update'",
    payload='json(\'{"text":"Are you there at noon?"}\')',
    from_agent_id="c.id",
    from_owner_id="c.owner_id",
    is_from_market="json('false')",
    inserted_at=_time("created"),
    expires_at=_time("created + 604800000"),
    status="'acknowledged'",
    delivered_at=_time("created + 20"),
    ended_at=_time("created + 30"),
)
_CHANNEL_STATE: Final = _json(
    id=_sql_id("created", 7),
    mode="'online'",
    window_s="86400",
    agent_a_id="c.id",
    agent_b_id="p.id",
    public_key_a="''",
    public_key_b="''",
    status="'closed'",
    deposit_a=str(UNIT),
    deposited_since_a="0",
    balance_a="0",
    balance_b=str(UNIT),
    last_nonce=str(TRANSFERS),
    created_at=_time("created"),
    expires_at=_time("created + 86400000"),
    accepted_at=_time("created"),
    closed_at=_time("created + 60000"),
    cause="'joint_close'",
    final_balance_a="0",
    final_balance_b=str(UNIT),
    steps=str(TRANSFERS + 3),
)
_STEP_AT: Final = "(created + 1000 * number)"
_STEP_STATE: Final = _json(
    number="number",
    kind="kind",
    at=_time(_STEP_AT),
    agent_id="p.id",
    balance_a=f"{UNIT} - nonce * {UNIT // TRANSFERS}",
    balance_b=f"nonce * {UNIT // TRANSFERS}",
    last_nonce="nonce",
    details="CASE kind WHEN 'transfer' THEN "
    + _json(nonce="nonce", amount=str(UNIT // TRANSFERS), from_agent_id="c.id", to_agent_id="p.id")
    + f" WHEN 'closed' THEN json('{{\"final_balance_a\":0,\"final_balance_b\":{UNIT}}}')"
    + " ELSE json_object('deposit', CASE kind WHEN 'opened' THEN "
    + f"{UNIT} ELSE 0 END) END",
)
BESIDE: Final = f"""
INSERT INTO negotiations (id, client_agent_id, provider_agent_id, status, version, state, created_at)
SELECT {_sql_id(_SESSION_AT, 5)}, c.id, p.id, session_status, 5, {_SESSION_STATE}, {_SESSION_AT}
FROM (SELECT *, CASE WHEN n % 10 < 7 THEN 'agreed' ELSE 'rejected' END AS session_status FROM made
      WHERE n % {NEGOTIATED} = 0) AS made JOIN who c ON c.place = made.client JOIN who p ON p.place = made.provider;
INSERT INTO messages (id, to_agent_id, from_agent_id, from_owner_id, status, version, state, created_at, expires_at)
SELECT {_sql_id("created", 6)}, p.id, c.id, c.owner_id, 'acknowledged', 3, {_MESSAGE_STATE}, created,
       created + 604800000 FROM {_PARTIES} WHERE n % {MESSAGED} = 0;
INSERT INTO payment_channels (id, agent_a_id, agent_b_id, status, version, state, created_at)
SELECT {_sql_id("created", 7)}, c.id, p.id, 'closed', 20, {_CHANNEL_STATE}, created
FROM {_PARTIES} WHERE {_PAYS};
CREATE TEMP TABLE steps AS
WITH RECURSIVE counted(number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM counted WHERE number < {TRANSFERS + 3})
SELECT number, CASE number WHEN 1 THEN 'opened' WHEN 2 THEN 'accepted' WHEN {TRANSFERS + 3} THEN 'closed'
       ELSE 'transfer' END AS kind, max(0, min(number - 2, {TRANSFERS})) AS nonce FROM counted;
INSERT INTO channel_steps (channel_id, number, kind, nonce, state, created_at)
SELECT {_sql_id("created", 7)}, number, kind, CASE kind WHEN 'transfer' THEN nonce END, {_STEP_STATE}, {_STEP_AT}
FROM {_PARTIES} JOIN steps WHERE {_PAYS} ORDER BY n, number;
INSERT INTO timers (topic, kind, due_at)
SELECT 'messages:' || to_agent_id, 'mailbox', min(expires_at) FROM messages GROUP BY to_agent_id
"""
