"""Sessions and the caller itself: log in with a key, log out, rotate the key, ask who one is."""

from agrenting import auth
from agrenting.api.answers import AgentProfile, Done, FeatureFlags, NewKey, SessionAnswer, UserAnswer
from agrenting.api.call import Call, Outcome
from agrenting.api.operation import CREATED, Callers, Noun
from agrenting.db import people, states
from agrenting.db.transaction import ReaderTx, WriterTx
from channels.agents import Agent
from channels.errors import Forbidden, not_found
from channels.identity import Identity

NOUN = Noun("sessions", "Short-lived tokens from keys, and who one is.")


@NOUN.post(
    "/auth/authenticate",
    answer=SessionAnswer,
    status=CREATED,
    secrets=("session_token", "token"),
    errors={403: "key_required"},
)
async def authenticate(call: Call) -> object:
    """Open a session.

    It has the scopes and caps of the key, and with `X-Agent-Id` it is that agent's. It needs the key itself: a session
    does not prolong itself.
    """
    caller = require_key(call.caller)

    def open_session(tx: WriterTx) -> Outcome:
        token, expires_at = auth.open_session(tx, caller, now=call.now, ttl_s=call.server.settings.session_ttl_s)
        answer = {
            "session_token": token,
            "token": token,
            "expires_at": expires_at,
            "agent_id": caller.agent_id,
            "user_id": caller.user_id,
            "handle": caller.handle,
            "scopes": sorted(caller.scopes),
        }
        return Outcome(answer=answer)

    return await call.change(open_session)


@NOUN.delete("/auth/logout", answer=Done, errors={403: "session_required"})
async def logout(call: Call) -> object:
    """End this session, and disconnect the sockets of its agent or user."""
    kind, _, token_hash = call.caller.credential.partition(":")
    if kind != "session":
        raise Forbidden("session_required", "This ends the session that it is sent with; send its token as Bearer.")

    def end_session(tx: WriterTx) -> Outcome:
        people.delete_session(tx, token_hash)
        return Outcome(answer=Done("logged_out"), disconnects=(call.caller.socket_id,))

    return await call.change(end_session)


@NOUN.post("/auth/rotate-key", answer=NewKey, secrets=("api_key",), errors={403: "key_required"})
async def rotate_key(call: Call) -> object:
    """Put a new secret behind this key.

    The old one and its sessions die at once, and the sockets that they opened are disconnected. Scopes, caps and what
    was spent stay. It needs the key itself.
    """
    caller = require_key(call.caller)

    def rotate(tx: WriterTx) -> Outcome:
        secret = auth.rotate_key(tx, caller.key_id)
        key = people.key_by_id(tx, caller.key_id)
        assert key is not None, "the caller's key is live"
        return Outcome(
            answer={**shown_key(key), "api_key": secret}, disconnects=(caller.socket_id,), dead_keys=(caller.key_id,)
        )

    return await call.change(rotate)


@NOUN.get("/me", answer=UserAnswer, callers=Callers.USER)
async def read_me(call: Call) -> object:
    """The user that the key stands for."""
    return await call.read(lambda tx: people.user_by_id(tx, call.caller.user_id))


@NOUN.get("/agent/me", answer=AgentProfile, callers=Callers.AGENT, errors={404: "not_found"})
async def read_agent_me(call: Call) -> object:
    """The agent that the key stands for."""
    return await call.read(lambda tx: _profile(tx, call.agent_id))


def require_key(caller: Identity) -> Identity:
    """Who asks, if it is with a key and not with a session.

    Raises:
        Forbidden: `key_required`.
    """
    if not caller.credential.startswith("key:"):
        raise Forbidden("key_required", "This needs the API key itself, not a session.")
    return caller


def shown_key(key: people.ApiKey) -> dict[str, object]:
    """A key as its owner sees it."""
    return {name: getattr(key, name) for name in key.__struct_fields__}


def _profile(tx: ReaderTx, agent_id: str) -> AgentProfile:
    agent: Agent | None = states.load(tx, "agent", agent_id)
    if agent is None:
        raise not_found("agent")
    return AgentProfile(
        id=agent.id,
        name=agent.name,
        handle=agent.handle,
        owner_uuid=agent.owner_id,
        feature_flags=FeatureFlags(),
        description=agent.description,
        tags=agent.tags,
        listed_in_directory=agent.is_listed,
        inserted_at=agent.created_at,
        updated_at=agent.updated_at,
    )
