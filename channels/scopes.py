"""Scopes of analytics: whose numbers are asked for, and who may see them.

    agent:{id}   that agent, the agents of its owner, and the owner
    user:{id}    that user, and its agents
    global       everybody who is known

A topic is `analytics:` and a scope. Whoever may not see a scope learns nothing of it, not even whether it is there.
"""

from typing import Final, NoReturn

from channels.errors import Forbidden
from channels.handlers import Context
from channels.identity import Identity

GLOBAL: Final = "global"
_AGENT, _USER = "agent:", "user:"


def agent_of(scope: str) -> str | None:
    """The agent whose scope it is."""
    return scope.removeprefix(_AGENT) if scope.startswith(_AGENT) else None


def user_of(scope: str) -> str | None:
    """The user whose scope it is."""
    return scope.removeprefix(_USER) if scope.startswith(_USER) else None


def topic_of(scope: str) -> str:
    """The topic of a scope."""
    return f"analytics:{scope}"


def scope_of(context: Context) -> str:
    """The scope of the topic that an event came on."""
    return context.topic.partition(":")[2]


def own_scope(sender: Identity) -> str:
    """The scope of whoever acts."""
    return f"{_USER}{sender.user_id}" if sender.agent_id is None else f"{_AGENT}{sender.agent_id}"


def access(sender: Identity, scope: str) -> None:
    """Refuse a scope that there cannot be, and another user's. Whose an agent is has to be looked up.

    Raises:
        Forbidden: `unauthorized`.
    """
    if scope != GLOBAL and agent_of(scope) is None and user_of(scope) != sender.user_id:
        unauthorized()


def require_may_see(owner_id: str | None, context: Context) -> str:
    """The scope of the topic, if the sender may see it.

    Args:
        owner_id: Whose agent it is, for the scope of an agent; None for one that never was, and for other scopes.
        context: Who asks, on which topic.

    Raises:
        Forbidden: `unauthorized`.
    """
    scope = scope_of(context)
    access(context.sender, scope)
    if agent_of(scope) is not None and owner_id != context.sender.user_id:
        unauthorized()
    return scope


def require_operator(scope: str, context: Context) -> None:
    """Refuse, of the whole market, what operators alone see.

    Raises:
        Forbidden: `unauthorized`.
    """
    if scope == GLOBAL and not context.sender.is_operator:
        unauthorized()


def unauthorized() -> NoReturn:
    """Refuse, without a word on what there is.

    Raises:
        Forbidden: `unauthorized`.
    """
    raise Forbidden("unauthorized", "There is no such topic, or what it tells is not yours to see.")
