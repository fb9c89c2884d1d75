"""What operators do: organisations, users, money in and out."""

from typing import Any

import msgspec

from agrenting import registry
from agrenting.api.answers import LedgerSummary, Movement, NewUser, UserAnswer
from agrenting.api.bodies import MovementBody, NewOrganisationBody, NewUserBody, OrganisationBody
from agrenting.api.call import Call, Outcome
from agrenting.api.operation import CREATED, Callers, Noun
from agrenting.api.paging import FIRST, PageQuery, decode_cursor, page_of
from agrenting.db import ledger, people, states
from agrenting.db.people import Organisation
from agrenting.db.transaction import Tx, WriterTx
from agrenting.membership import join_organisation, leave_organisation
from agrenting.rails import MANUAL
from channels.agents import Agent
from channels.errors import Invalid, not_found
from channels.fields import parse_text
from channels.registration import parse_money

NOUN = Noun("admin", "For operators: organisations, users, money in and out.")
MEMO_CHARS_MAX = 200


@NOUN.post(
    "/admin/organisations",
    answer=Organisation,
    status=CREATED,
    callers=Callers.OPERATOR,
    errors={409: "name_taken"},
)
async def create_organisation(call: Call, body: NewOrganisationBody) -> object:
    """Make an organisation, whose members see each other's shared agents."""
    return await call.change(lambda tx: Outcome(answer=registry.create_organisation(tx, body.name, now=call.now)))


@NOUN.get("/admin/organisations", answer=Organisation, callers=Callers.OPERATOR)
async def list_organisations(call: Call, query: PageQuery) -> object:
    """List the organisations, oldest first."""
    after = decode_cursor(query.cursor, name="organisations", start=FIRST)
    rows = await call.read(lambda tx: people.organisations(tx, after=after, limit=query.limit + 1))
    return page_of(rows, query=query, key=lambda row: row.id, name="organisations")


@NOUN.post(
    "/admin/users",
    answer=NewUser,
    status=CREATED,
    callers=Callers.OPERATOR,
    secrets=("api_key",),
    errors={404: "not_found", 409: "handle_taken", 422: "invalid_handle reserved_handle profane_handle"},
)
async def create_user(call: Call, body: NewUserBody) -> object:
    """Make a user, and its first key, which is shown this once."""

    def create(tx: WriterTx) -> Outcome:
        user, api_key, told = registry.create_user(
            tx,
            body.handle,
            organisation=body.organisation,
            is_operator=body.is_operator,
            now=call.now,
            market=call.market,
        )
        return Outcome(answer={**msgspec.structs.asdict(user), "api_key": api_key}, broadcasts=told)

    return await call.change(create)


@NOUN.post(
    "/admin/users/{id}/organisation",
    answer=UserAnswer,
    callers=Callers.OPERATOR,
    errors={404: "not_found", 409: "already_member other_organisation no_organisation"},
)
async def move_user(call: Call, body: OrganisationBody) -> object:
    """Make a user a member of an organisation; null: of none any more.

    All members are contacts of each other; leaving ends the contacts that joining has made, and the user's agents are
    shared with the others no more. Sockets of the user and its agents are disconnected, so that they come back as what
    they are now.
    """

    def move(tx: WriterTx) -> Outcome:
        user = people.user_by_id(tx, call.id)
        if user is None:
            raise not_found("user")
        if body.organisation is None:
            after, moved = leave_organisation(tx, user, now=call.now, market=call.market)
        else:
            organisation = registry.require_organisation(tx, body.organisation)
            after, moved = join_organisation(tx, user, organisation, now=call.now, market=call.market)
        return Outcome(answer=after, broadcasts=moved.told, disconnects=moved.disconnects)

    return await call.change(move)


@NOUN.get("/admin/users", answer=UserAnswer, callers=Callers.OPERATOR)
async def list_users(call: Call, query: PageQuery) -> object:
    """List the users, oldest first."""
    after = decode_cursor(query.cursor, name="users", start=FIRST)
    rows = await call.read(lambda tx: people.users(tx, after=after, limit=query.limit + 1))
    return page_of(rows, query=query, key=lambda row: row.id, name="users")


@NOUN.post(
    "/admin/deposits",
    answer=Movement,
    status=CREATED,
    callers=Callers.OPERATOR,
    needs_key=True,
    errors={404: "not_found", 409: "money_limit", 422: "invalid_amount"},
)
async def create_deposit(call: Call, body: MovementBody) -> object:
    """Put money in for an agent, once per idempotency key."""

    def deposit(tx: WriterTx) -> Outcome:
        agent, amount, memo = _movement(call, tx, body)
        left = MANUAL.deposit(tx, agent, amount, memo=memo, now=call.now)
        return Outcome(answer=_moved(agent, amount, left))

    return await call.change(deposit)


@NOUN.post(
    "/admin/payouts",
    answer=Movement,
    status=CREATED,
    callers=Callers.OPERATOR,
    needs_key=True,
    errors={404: "not_found", 409: "insufficient_balance spend_cap_exceeded", 422: "invalid_amount"},
)
async def create_payout(call: Call, body: MovementBody) -> object:
    """Take money out for an agent, once per idempotency key. It counts against the caps of the operator's key."""

    def payout(tx: WriterTx) -> Outcome:
        agent, amount, memo = _movement(call, tx, body)
        ledger.count_spending(tx, key_id=call.caller.key_id, amount=amount, now=call.now)
        left = MANUAL.payout(tx, agent, amount, memo=memo, now=call.now)
        return Outcome(answer=_moved(agent, amount, left))

    return await call.change(payout)


@NOUN.get("/admin/ledger", answer=LedgerSummary, callers=Callers.OPERATOR)
async def read_ledger(call: Call) -> object:
    """All money, by where it is."""
    amounts = await call.read(ledger.summary)
    return LedgerSummary(**amounts, currency=call.market.currency, exponent=call.market.exponent)


def _movement(call: Call, tx: Tx, body: MovementBody) -> tuple[Agent, int, str]:
    """The agent, the amount in minor units, and the memo.

    Raises:
        Invalid: `invalid_payload`, `invalid_amount`.
        NotFound: `not_found`.
    """
    amount = registry.require_positive(parse_money(body.amount, exponent=call.market.exponent))
    memo = parse_text(body.memo, field="memo", chars_max=MEMO_CHARS_MAX) if body.memo.strip() else ""
    return _agent(tx, body), amount, memo


def _agent(tx: Tx, body: MovementBody) -> Agent:
    if body.handle is not None and body.agent_id is None:
        return registry.require_agent(tx, body.handle)
    if body.agent_id is None or body.handle is not None:
        raise Invalid("invalid_payload", "Name the agent by agent_id or by handle, one of the two.", field="agent_id")
    agent: Agent | None = states.load(tx, "agent", body.agent_id)
    if agent is None:
        raise not_found("agent")
    return agent


def _moved(agent: Agent, amount: int, left: int) -> dict[str, Any]:
    return {
        "agent_id": agent.id,
        "handle": agent.handle,
        "amount": amount,
        "available": left,
        "rail": MANUAL.name,
    }
