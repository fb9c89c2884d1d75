"""Topics that belong to one agent or one user, and only tell: who may join them, and the join that just listens."""

from channels.errors import Forbidden
from channels.handlers import Context, Decision, Empty
from channels.identity import Identity


def own_agent(sender: Identity, topic_id: str) -> None:
    """Only the agent itself.

    Raises:
        Forbidden: `unauthorized`.
    """
    if sender.agent_id != topic_id:
        raise Forbidden("unauthorized", "This topic is its agent's own: join it with a connection of that agent.")


def own_user(sender: Identity, topic_id: str) -> None:
    """Only the user itself, not as one of its agents.

    Raises:
        Forbidden: `unauthorized`.
    """
    if sender.kind != "user" or sender.user_id != topic_id:
        raise Forbidden("unauthorized", "This topic is its user's own: join it with a connection of that user.")


def listen(_nothing: None, request: Empty, context: Context) -> Decision:
    """Hear what is told from now on; what was before is read by REST."""
    del request, context
    return Decision()
