"""API keys: made, listed and revoked. No key makes or revokes one with more rights than its own."""

from collections.abc import Collection

from msgspec import UNSET, UnsetType

from agrenting import auth
from agrenting.api.answers import KeyAnswer, NewKey
from agrenting.api.bodies import NewKeyBody
from agrenting.api.call import Call, Outcome
from agrenting.api.money import Money
from agrenting.api.operation import CREATED, Noun
from agrenting.api.paging import FIRST, PageQuery, decode_cursor, page_of
from agrenting.api.sessions import shown_key
from agrenting.db import people, states
from agrenting.db.people import ApiKey
from agrenting.db.transaction import WriterTx
from channels.agents import Agent
from channels.errors import Forbidden, not_found
from channels.registration import Caps, parse_money, parse_name, require_key_scopes

NOUN = Noun("keys", "API keys with scopes and spending caps.")
NAME = "keys"
CREATES = {403: "scope_exceeded", 409: "spend_cap_exceeded", 422: "invalid_amount"}


@NOUN.get("/keys", answer=KeyAnswer)
async def list_keys(call: Call, query: PageQuery) -> object:
    """List the caller's keys, oldest first: an agent's own; a user's own and those of its agents."""
    after = decode_cursor(query.cursor, name=NAME, start=FIRST)
    caller = call.caller
    rows = await call.read(
        lambda tx: people.keys_of(
            tx, user_id=caller.user_id, agent_id=caller.agent_id, after=after, limit=query.limit + 1
        )
    )
    return page_of(rows, query=query, key=lambda row: row.id, name=NAME)


@NOUN.post("/keys", answer=NewKey, status=CREATED, secrets=("api_key",), errors=CREATES)
async def create_key(call: Call, body: NewKeyBody) -> object:
    """Make another key for the caller. What it spends counts against the key that made it too."""
    return await call.change(lambda tx: _create(call, tx, body, agent_id=call.caller.agent_id))


@NOUN.post(
    "/agents/{id}/keys", answer=NewKey, status=CREATED, secrets=("api_key",), errors={**CREATES, 404: "not_found"}
)
async def create_agent_key(call: Call, body: NewKeyBody) -> object:
    """Make another key for an agent: by its owner, or by itself."""

    def create(tx: WriterTx) -> Outcome:
        agent: Agent | None = states.load(tx, "agent", call.id)
        is_own = agent is not None and call.caller.agent_id in {None, agent.id}
        if agent is None or agent.owner_id != call.caller.user_id or not is_own:
            raise not_found("agent")
        return _create(call, tx, body, agent_id=agent.id)

    return await call.change(create)


@NOUN.delete("/keys/{id}", answer=KeyAnswer, errors={403: "scope_exceeded", 404: "not_found"})
async def revoke_key(call: Call) -> object:
    """Revoke a key. Its sessions die at once, and the sockets that they opened are disconnected.

    Keys that it has made stay. A second time changes nothing.
    """

    def revoke(tx: WriterTx) -> Outcome:
        key = people.key_by_id(tx, call.id)
        caller = call.caller
        if key is None or key.user_id != caller.user_id or caller.agent_id not in {None, key.agent_id}:
            raise not_found("key")
        _require_no_more(own=_own_key(call, tx).scopes, others=key.scopes)
        people.revoke_key(tx, key_id=key.id, now=call.now)
        return Outcome(answer=people.key_by_id(tx, key.id), dead_keys=(key.id,))

    return await call.change(revoke)


def _create(call: Call, tx: WriterTx, body: NewKeyBody, *, agent_id: str | None) -> Outcome:
    own, caller = _own_key(call, tx), call.caller
    own_scopes = caller.scopes - ({"admin"} if agent_id is not None else set())
    own_caps = Caps(max_amount=own.max_amount, max_amount_per_day=own.max_amount_per_day)
    caps = Caps(
        max_amount=_cap(call, body.max_amount, own=own.max_amount, field="max_amount"),
        max_amount_per_day=_cap(call, body.max_amount_per_day, own=own.max_amount_per_day, field="max_amount_per_day"),
    )
    scopes = caller.scopes - {"admin"} if body.scopes is UNSET else frozenset(body.scopes)
    name = parse_name(body.name, field="name")
    require_key_scopes(own_scopes=own_scopes, own_caps=own_caps, scopes=scopes, caps=caps)
    secret, key = auth.make_key(
        tx,
        user_id=caller.user_id,
        agent_id=agent_id,
        parent_id=own.id,
        name=name,
        scopes=scopes,
        is_operator=caller.is_operator,
        now=call.now,
        max_amount=caps.max_amount,
        max_amount_per_day=caps.max_amount_per_day,
    )
    return Outcome(answer={**shown_key(key), "api_key": secret})


def _own_key(call: Call, tx: WriterTx) -> ApiKey:
    key = people.key_by_id(tx, call.caller.key_id)
    assert key is not None, "the caller's key is live"
    return key


def _cap(call: Call, asked: Money | UnsetType | None, *, own: int | None, field: str) -> int | None:
    """A cap in minor units: the own one where none is named."""
    if isinstance(asked, UnsetType):
        return own
    return None if asked is None else parse_money(asked, exponent=call.market.exponent, field=field)


def _require_no_more(*, own: Collection[str], others: Collection[str]) -> None:
    """Refuse to revoke a key with more rights than the own one.

    Raises:
        Forbidden: `scope_exceeded`, with the scopes that are too many.
    """
    exceeded = sorted({*others} - {*own})
    if exceeded:
        raise Forbidden(
            "scope_exceeded", "This key cannot revoke one that has more scopes than it has itself.", scopes=exceeded
        )
