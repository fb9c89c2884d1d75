"""Who may call what: one line for every route. A route that is not in the table fails its test."""

import pytest

from agrenting.api.operation import Callers, Operation
from agrenting.api.rest import OPERATIONS
from channels.identity import AGENT_SCOPES, SCOPES
from tests.agrenting.api.market import Caller, Marketplace, Player

ANYBODY, KNOWN, AGENT, USER, OPERATOR = Callers
EVERY = tuple(AGENT_SCOPES)

TABLE: dict[str, tuple[Callers, tuple[str, ...]]] = {
    "GET /api/v1/meta": (ANYBODY, ()),
    "GET /health/live": (ANYBODY, ()),
    "GET /health/ready": (ANYBODY, ()),
    "GET /metrics": (ANYBODY, ()),
    "GET /schema": (ANYBODY, ()),
    "GET /schema/openapi.json": (ANYBODY, ()),
    "POST /api/v1/auth/authenticate": (KNOWN, ()),
    "DELETE /api/v1/auth/logout": (KNOWN, ()),
    "POST /api/v1/auth/rotate-key": (KNOWN, ()),
    "GET /api/v1/me": (USER, ()),
    "GET /api/v1/agent/me": (AGENT, ()),
    "POST /api/v1/key-challenges": (USER, ()),
    "POST /api/v1/agents": (USER, ()),
    "POST /api/v1/me/agents/register": (USER, ()),
    "GET /api/v1/agents": (USER, ("agents:read",)),
    "GET /api/v1/agents/{id}": (KNOWN, ("agents:read",)),
    "PATCH /api/v1/agents/{id}": (USER, EVERY),
    "DELETE /api/v1/agents/{id}": (USER, EVERY),
    "GET /api/v1/keys": (KNOWN, ()),
    "POST /api/v1/keys": (KNOWN, ()),
    "POST /api/v1/agents/{id}/keys": (KNOWN, ()),
    "DELETE /api/v1/keys/{id}": (KNOWN, ()),
    "GET /api/v1/discover": (AGENT, ("discover",)),
    "POST /api/v1/negotiations": (AGENT, ("negotiate",)),
    "GET /api/v1/negotiations": (AGENT, ("negotiate",)),
    "GET /api/v1/negotiations/{id}": (AGENT, ("negotiate",)),
    "POST /api/v1/negotiations/{id}/offer": (AGENT, ("negotiate",)),
    "POST /api/v1/negotiations/{id}/accept": (AGENT, ("negotiate",)),
    "POST /api/v1/negotiations/{id}/reject": (AGENT, ("negotiate",)),
    "GET /api/v1/negotiations/{id}/receipt": (AGENT, ("negotiate",)),
    "POST /api/v1/tasks": (AGENT, ("tasks",)),
    "GET /api/v1/tasks": (AGENT, ("tasks",)),
    "GET /api/v1/tasks/{id}": (AGENT, ("tasks",)),
    "POST /api/v1/tasks/{id}/input_stream": (AGENT, ("tasks",)),
    "POST /api/v1/tasks/{id}/input_complete": (AGENT, ("tasks",)),
    "POST /api/v1/tasks/{id}/output_stream": (AGENT, ("tasks",)),
    "POST /api/v1/tasks/{id}/output_complete": (AGENT, ("tasks",)),
    "POST /api/v1/tasks/{id}/progress": (AGENT, ("tasks",)),
    "POST /api/v1/tasks/{id}/complete": (AGENT, ("tasks",)),
    "POST /api/v1/tasks/{id}/error": (AGENT, ("tasks",)),
    "POST /api/v1/tasks/{id}/cancel": (AGENT, ("tasks",)),
    "GET /api/v1/tasks/{id}/chunks": (AGENT, ("tasks",)),
    "GET /api/v1/messages": (AGENT, ("messages",)),
    "POST /api/v1/messages/{id}/acknowledge": (AGENT, ("messages",)),
    "GET /api/v1/ledger/balance": (AGENT, ("payments",)),
    "GET /api/v1/ledger/transactions": (AGENT, ("payments",)),
    "POST /api/v1/admin/organisations": (OPERATOR, ()),
    "GET /api/v1/admin/organisations": (OPERATOR, ()),
    "POST /api/v1/admin/users": (OPERATOR, ()),
    "GET /api/v1/admin/users": (OPERATOR, ()),
    "POST /api/v1/admin/deposits": (OPERATOR, ()),
    "POST /api/v1/admin/payouts": (OPERATOR, ()),
    "GET /api/v1/admin/ledger": (OPERATOR, ()),
    "POST /api/v1/admin/agents/{id}/suspend": (OPERATOR, ()),
    "POST /api/v1/admin/agents/{id}/reinstate": (OPERATOR, ()),
    "POST /api/v1/admin/agents/{id}/ban": (OPERATOR, ()),
}

CALLED = {f"{operation.method} {operation.full_path}": operation for operation in OPERATIONS}
GUARDED = [operation for operation in OPERATIONS if operation.callers is not ANYBODY]


def named(operation: Operation) -> str:
    return f"{operation.method} {operation.full_path}"


async def refused(caller: Caller, operation: Operation) -> tuple[int, str]:
    """How a caller is refused at the guard: before a body or an id is looked at."""
    path = operation.full_path.removeprefix("/api/v1").replace("{id}", "nothing")
    return (await caller.refused(operation.method, path)).why


def test_the_table_has_every_route_and_what_it_demands() -> None:
    declared = {name: (operation.callers, operation.scopes) for name, operation in CALLED.items()}

    assert declared == TABLE


@pytest.mark.parametrize("operation", GUARDED, ids=named)
async def test_nobody_calls_without_a_credential(market: Marketplace, operation: Operation) -> None:
    assert await refused(market.anybody, operation) == (401, "missing_credential")


@pytest.mark.parametrize("operation", [one for one in GUARDED if one.callers is AGENT], ids=named)
async def test_people_are_refused_where_agents_call(olga: Caller, operation: Operation) -> None:
    assert await refused(olga, operation) == (403, "agent_required")


@pytest.mark.parametrize("operation", [one for one in GUARDED if one.callers in {USER, OPERATOR}], ids=named)
async def test_agents_are_refused_where_people_call(mallory: Player, operation: Operation) -> None:
    assert await refused(mallory, operation) == (403, "user_required")


@pytest.mark.parametrize("operation", [one for one in GUARDED if one.callers is OPERATOR], ids=named)
async def test_users_are_refused_where_operators_call(market: Marketplace, operation: Operation) -> None:
    carol = await market.user("carol")

    assert await refused(carol, operation) == (403, "operator_required")


@pytest.mark.parametrize("operation", [one for one in GUARDED if one.scopes], ids=named)
async def test_a_key_without_the_scope_is_refused(market: Marketplace, operation: Operation) -> None:
    carol = await market.user("carol")
    caller: Caller = carol if operation.callers is USER else await market.agent("carol", "Bot")
    others = sorted({*AGENT_SCOPES} - {operation.scopes[0]})
    key = (await caller.post("/keys", {"name": "narrow", "scopes": others}))["api_key"]

    assert await refused(market.with_key(key), operation) == (403, "missing_scope")


async def test_an_operators_key_without_admin_is_no_operators(market: Marketplace, olga: Caller) -> None:
    key = (await olga.post("/keys", {"name": "plain"}))["api_key"]

    refusal = await market.with_key(key).refused("GET", "/admin/users")

    assert refusal.why == (403, "operator_required")


async def test_an_operator_who_acts_as_an_agent_is_no_operator(market: Marketplace, olga: Caller) -> None:
    bot = await olga.post("/agents", {"name": "Bot", "description": "A bot"})

    refusal = await olga.refused("GET", "/admin/users", headers={"x-agent-id": bot["id"]})

    assert refusal.why == (403, "user_required")


def test_every_scope_of_the_table_exists() -> None:
    assert {scope for _, scopes in TABLE.values() for scope in scopes} <= {*SCOPES}
