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
    "GET /api/v1/me/agents": (USER, ("agents:read",)),
    "DELETE /api/v1/me/agents/{id}": (USER, EVERY),
    "GET /api/v1/me/profile": (USER, ()),
    "PUT /api/v1/me/profile": (USER, EVERY),
    "GET /api/v1/agents": (USER, ("agents:read",)),
    "GET /api/v1/agents/{id}": (KNOWN, ("agents:read",)),
    "PATCH /api/v1/agents/{id}": (USER, EVERY),
    "DELETE /api/v1/agents/{id}": (USER, EVERY),
    "GET /api/v1/keys": (KNOWN, ()),
    "POST /api/v1/keys": (KNOWN, ()),
    "POST /api/v1/agents/{id}/keys": (KNOWN, ()),
    "DELETE /api/v1/keys/{id}": (KNOWN, ()),
    "GET /api/v1/discover": (AGENT, ("discover",)),
    "GET /api/v1/directory": (KNOWN, ("discover",)),
    "GET /api/v1/handles/{handle}": (KNOWN, ("discover",)),
    "POST /api/v1/me/contacts/resolve": (USER, ("contacts",)),
    "GET /api/v1/agent/peers": (AGENT, ("discover",)),
    "GET /api/v1/me/peers": (USER, ("discover",)),
    "GET /api/v1/agent/contacts": (AGENT, ("contacts",)),
    "POST /api/v1/agent/contacts/add": (AGENT, ("contacts",)),
    "POST /api/v1/agent/contacts/remove": (AGENT, ("contacts",)),
    "GET /api/v1/agent/contacts/requests": (AGENT, ("contacts",)),
    "POST /api/v1/agent/contacts/requests/respond": (AGENT, ("contacts",)),
    "GET /api/v1/agent/contacts/blocks": (AGENT, ("contacts",)),
    "POST /api/v1/agent/contacts/block": (AGENT, ("contacts",)),
    "POST /api/v1/agent/contacts/unblock": (AGENT, ("contacts",)),
    "GET /api/v1/me/contacts": (USER, ("contacts",)),
    "POST /api/v1/me/contacts/requests": (USER, ("contacts",)),
    "GET /api/v1/me/contacts/requests": (USER, ("contacts",)),
    "GET /api/v1/me/contacts/requests/sent": (USER, ("contacts",)),
    "POST /api/v1/me/contacts/requests/{id}/approve": (USER, ("contacts",)),
    "POST /api/v1/me/contacts/requests/{id}/reject": (USER, ("contacts",)),
    "DELETE /api/v1/me/contacts/requests/{id}": (USER, ("contacts",)),
    "POST /api/v1/me/contacts/remove": (USER, ("contacts",)),
    "GET /api/v1/me/contacts/blocks": (USER, ("contacts",)),
    "POST /api/v1/me/contacts/block": (USER, ("contacts",)),
    "POST /api/v1/me/contacts/unblock": (USER, ("contacts",)),
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
    "GET /api/v1/tasks/{id}/receipt": (AGENT, ("tasks",)),
    "POST /api/v1/tasks/{id}/input_stream": (AGENT, ("tasks",)),
    "POST /api/v1/tasks/{id}/input_complete": (AGENT, ("tasks",)),
    "POST /api/v1/tasks/{id}/output_stream": (AGENT, ("tasks",)),
    "POST /api/v1/tasks/{id}/output_complete": (AGENT, ("tasks",)),
    "POST /api/v1/tasks/{id}/progress": (AGENT, ("tasks",)),
    "POST /api/v1/tasks/{id}/checkpoint": (AGENT, ("tasks",)),
    "POST /api/v1/tasks/{id}/complete": (AGENT, ("tasks",)),
    "POST /api/v1/tasks/{id}/release": (AGENT, ("tasks",)),
    "POST /api/v1/tasks/{id}/dispute": (AGENT, ("tasks",)),
    "POST /api/v1/tasks/{id}/error": (AGENT, ("tasks",)),
    "POST /api/v1/tasks/{id}/cancel": (AGENT, ("tasks",)),
    "GET /api/v1/tasks/{id}/chunks": (AGENT, ("tasks",)),
    "GET /api/v1/admin/tasks": (OPERATOR, ()),
    "GET /api/v1/admin/tasks/{id}": (OPERATOR, ()),
    "GET /api/v1/admin/tasks/{id}/chunks": (OPERATOR, ()),
    "POST /api/v1/admin/tasks/{id}/decide": (OPERATOR, ()),
    "POST /api/v1/payment-channels": (AGENT, ("payments",)),
    "GET /api/v1/payment-channels": (AGENT, ("payments",)),
    "GET /api/v1/payment-channels/{id}": (AGENT, ("payments",)),
    "POST /api/v1/payment-channels/{id}/accept": (AGENT, ("payments",)),
    "POST /api/v1/payment-channels/{id}/decline": (AGENT, ("payments",)),
    "POST /api/v1/payment-channels/{id}/cancel": (AGENT, ("payments",)),
    "POST /api/v1/payment-channels/{id}/deposit": (AGENT, ("payments",)),
    "POST /api/v1/payment-channels/{id}/force-close": (AGENT, ("payments",)),
    "GET /api/v1/payment-channels/{id}/transfers": (AGENT, ("payments",)),
    "GET /api/v1/payment-channels/{id}/history": (AGENT, ("payments",)),
    "GET /api/v1/payment-channels/{id}/receipt": (AGENT, ("payments",)),
    "POST /api/v1/payment-channels/{id}/propose_transfer": (AGENT, ("payments",)),
    "POST /api/v1/payment-channels/{id}/acknowledge_transfer": (AGENT, ("payments",)),
    "POST /api/v1/payment-channels/{id}/reject_transfer": (AGENT, ("payments",)),
    "POST /api/v1/payment-channels/{id}/close": (AGENT, ("payments",)),
    "POST /api/v1/payment-channels/{id}/close_request": (AGENT, ("payments",)),
    "POST /api/v1/payment-channels/{id}/dispute": (AGENT, ("payments",)),
    "POST /api/v1/payment-channels/{id}/withdraw_dispute": (AGENT, ("payments",)),
    "POST /api/v1/payment-channels/{id}/submit_transfers": (AGENT, ("payments",)),
    "POST /api/v1/messages": (KNOWN, ("messages",)),
    "POST /api/v1/private-channels": (AGENT, ("rooms",)),
    "GET /api/v1/private-channels": (KNOWN, ("rooms",)),
    "GET /api/v1/private-channels/{id}": (KNOWN, ("rooms",)),
    "DELETE /api/v1/private-channels/{id}": (KNOWN, ("rooms",)),
    "POST /api/v1/private-channels/{id}/invitations": (KNOWN, ("rooms",)),
    "DELETE /api/v1/private-channels/{id}/invitations/{invitation}": (KNOWN, ("rooms",)),
    "GET /api/v1/messages": (AGENT, ("messages",)),
    "GET /api/v1/messages/sent": (AGENT, ("messages",)),
    "GET /api/v1/messages/{id}": (AGENT, ("messages",)),
    "POST /api/v1/messages/{id}/acknowledge": (AGENT, ("messages",)),
    "POST /api/v1/messages/{id}/reject": (AGENT, ("messages",)),
    "GET /api/v1/agent/chats": (AGENT, ("rooms",)),
    "POST /api/v1/agent/chats": (AGENT, ("rooms",)),
    "GET /api/v1/agent/chats/{id}": (AGENT, ("rooms",)),
    "PATCH /api/v1/agent/chats/{id}": (AGENT, ("rooms",)),
    "GET /api/v1/agent/chats/{id}/participants": (AGENT, ("rooms",)),
    "POST /api/v1/agent/chats/{id}/participants": (AGENT, ("rooms",)),
    "DELETE /api/v1/agent/chats/{id}/participants/{participant}": (AGENT, ("rooms",)),
    "GET /api/v1/agent/chats/{id}/messages": (AGENT, ("rooms",)),
    "POST /api/v1/agent/chats/{id}/messages": (AGENT, ("rooms",)),
    "GET /api/v1/agent/chats/{id}/messages/next": (AGENT, ("rooms",)),
    "POST /api/v1/agent/chats/{id}/messages/{message}/processing": (AGENT, ("rooms",)),
    "POST /api/v1/agent/chats/{id}/messages/{message}/processed": (AGENT, ("rooms",)),
    "POST /api/v1/agent/chats/{id}/messages/{message}/failed": (AGENT, ("rooms",)),
    "POST /api/v1/agent/chats/{id}/events": (AGENT, ("rooms",)),
    "GET /api/v1/agent/chats/{id}/context": (AGENT, ("rooms",)),
    "POST /api/v1/agent/chats/{id}/activity": (AGENT, ("rooms",)),
    "GET /api/v1/me/chats": (USER, ("rooms",)),
    "POST /api/v1/me/chats": (USER, ("rooms",)),
    "GET /api/v1/me/chats/{id}": (USER, ("rooms",)),
    "PATCH /api/v1/me/chats/{id}": (USER, ("rooms",)),
    "DELETE /api/v1/me/chats/{id}": (USER, ("rooms",)),
    "GET /api/v1/me/chats/{id}/messages": (USER, ("rooms",)),
    "POST /api/v1/me/chats/{id}/messages": (USER, ("rooms",)),
    "GET /api/v1/me/chats/{id}/participants": (USER, ("rooms",)),
    "POST /api/v1/me/chats/{id}/participants": (USER, ("rooms",)),
    "DELETE /api/v1/me/chats/{id}/participants/{participant}": (USER, ("rooms",)),
    "GET /api/v1/ledger/balance": (AGENT, ("payments",)),
    "GET /api/v1/ledger/transactions": (AGENT, ("payments",)),
    "GET /api/v1/analytics/metrics": (KNOWN, ("analytics",)),
    "GET /api/v1/analytics/time-series": (KNOWN, ("analytics",)),
    "GET /api/v1/analytics/revenue": (KNOWN, ("analytics",)),
    "GET /api/v1/analytics/heatmap": (KNOWN, ("analytics",)),
    "GET /api/v1/analytics/stats": (KNOWN, ("analytics",)),
    "GET /api/v1/alerts": (KNOWN, ("analytics",)),
    "GET /api/v1/alerts/{id}": (KNOWN, ("analytics",)),
    "POST /api/v1/alerts/{id}/acknowledge": (KNOWN, ("analytics",)),
    "POST /api/v1/alerts/{id}/resolve": (KNOWN, ("analytics",)),
    "GET /api/v1/agents/{id}/alert-thresholds": (KNOWN, ("analytics",)),
    "PUT /api/v1/agents/{id}/alert-thresholds": (KNOWN, ("analytics",)),
    "GET /api/v1/admin/alerts": (OPERATOR, ("analytics",)),
    "POST /api/v1/admin/organisations": (OPERATOR, ()),
    "GET /api/v1/admin/organisations": (OPERATOR, ()),
    "POST /api/v1/admin/users": (OPERATOR, ()),
    "POST /api/v1/admin/users/{id}/organisation": (OPERATOR, ()),
    "GET /api/v1/admin/users": (OPERATOR, ()),
    "POST /api/v1/admin/deposits": (OPERATOR, ()),
    "POST /api/v1/admin/payouts": (OPERATOR, ()),
    "GET /api/v1/admin/ledger": (OPERATOR, ()),
    "POST /api/v1/admin/agents/{id}/suspend": (OPERATOR, ()),
    "POST /api/v1/admin/agents/{id}/reinstate": (OPERATOR, ()),
    "POST /api/v1/admin/agents/{id}/ban": (OPERATOR, ()),
    "GET /api/v1/admin/payment-channels": (OPERATOR, ()),
    "GET /api/v1/admin/payment-channels/{id}": (OPERATOR, ()),
    "GET /api/v1/admin/payment-channels/{id}/history": (OPERATOR, ()),
    "POST /api/v1/admin/payment-channels/{id}/decide": (OPERATOR, ()),
}

CALLED = {f"{operation.method} {operation.full_path}": operation for operation in OPERATIONS}
GUARDED = [operation for operation in OPERATIONS if operation.callers is not ANYBODY]


def named(operation: Operation) -> str:
    return f"{operation.method} {operation.full_path}"


def called_by(*callers: Callers) -> list[Operation]:
    return [operation for operation in GUARDED if operation.callers in callers]


async def refusals(caller: Caller, operations: list[Operation]) -> dict[str, tuple[int, str]]:
    """How a caller is refused at the guard of each operation: before a body or an id is looked at."""
    return {
        named(operation): (await caller.refused(operation.method, path_of(operation))).why for operation in operations
    }


def path_of(operation: Operation) -> str:
    return operation.full_path.removeprefix("/api/v1").replace("{id}", "nothing")


def everywhere(operations: list[Operation], why: tuple[int, str]) -> dict[str, tuple[int, str]]:
    return {named(operation): why for operation in operations}


def test_the_table_has_every_route_and_what_it_demands() -> None:
    declared = {name: (operation.callers, operation.scopes) for name, operation in CALLED.items()}

    assert declared == TABLE


async def test_nobody_calls_without_a_credential(market: Marketplace) -> None:
    assert await refusals(market.anybody, GUARDED) == everywhere(GUARDED, (401, "missing_credential"))


async def test_people_are_refused_where_agents_call(olga: Caller) -> None:
    operations = called_by(AGENT)

    assert await refusals(olga, operations) == everywhere(operations, (403, "agent_required"))


async def test_agents_are_refused_where_people_call(mallory: Player) -> None:
    operations = called_by(USER, OPERATOR)

    assert await refusals(mallory, operations) == everywhere(operations, (403, "user_required"))


async def test_users_are_refused_where_operators_call(market: Marketplace) -> None:
    operations = called_by(OPERATOR)
    carol = await market.user("carol")

    assert await refusals(carol, operations) == everywhere(operations, (403, "operator_required"))


@pytest.mark.parametrize("scope", AGENT_SCOPES)
async def test_a_key_without_the_scope_is_refused(market: Marketplace, scope: str) -> None:
    carol = await market.user("carol")
    bot = await market.agent("carol", "Bot")
    others = sorted({*AGENT_SCOPES} - {scope})
    for callers, caller in (((USER,), carol), ((AGENT, KNOWN), bot)):
        operations = [one for one in called_by(*callers) if scope in one.scopes]
        key = (await caller.post("/keys", {"name": "narrow", "scopes": others}))["api_key"]

        assert await refusals(market.with_key(key), operations) == everywhere(operations, (403, "missing_scope"))


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
