"""Every expected "no" of the marketplace, as one tree.

A refusal has a stable snake_case `reason`, a sentence that says what to do next, and typed context fields. It is told
to the one who asked (`{"status": "error", "response": {"reason", "message", …context}}` on a socket, an HTTP error
body by REST) and leaves every state as it was. Anything that is not a refusal is a bug.

    Refusal
    ├── Invalid             what is wrong in itself, whatever the state       (REST 422)
    ├── Unauthorized        no credential, or not a good one                  (REST 401)
    ├── Forbidden           who asks may not                                  (REST 403)
    ├── NotFound            unknown, or invisible to who asks                 (REST 404)
    ├── Conflict            another state would allow it                      (REST 409)
    ├── Expired             it came after its due time                        (REST 410)
    ├── TooLarge            larger than a limit                               (REST 413)
    └── RateLimited         too often                                         (REST 429)

Topic modules raise these with a reason of their own: `raise Conflict("not_your_turn", "…", turn=…)`. PROTOCOL.md lists
every reason; a test compares the two.
"""

from typing import Any, ClassVar


class Refusal(Exception):
    """An expected "no" with a stable reason.

    Args:
        reason: snake_case, stable: scripts and clients compare it.
        message: One sentence for people: what was expected, what was offered, what to do next.
        context: JSON-able fields beside `reason` and `message`, for example `expected_amount`.
    """

    kind: ClassVar[str] = "refused"

    def __init__(self, reason: str, message: str, **context: Any) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.context = context

    def response(self) -> dict[str, Any]:
        """The error as it stands in a reply: reason, message and context."""
        return {"reason": self.reason, "message": self.message, **self.context}


class Invalid(Refusal):
    """What was sent is wrong in itself: no state would allow it."""

    kind = "invalid"


class Unauthorized(Refusal):
    """There is no credential, or it is not a good one. Before a socket's upgrade this is HTTP 403."""

    kind = "unauthorized"


class Forbidden(Refusal):
    """Who asks may not do this."""

    kind = "forbidden"


class NotFound(Refusal):
    """Unknown, or invisible to who asks: the two are never told apart."""

    kind = "not_found"


class Conflict(Refusal):
    """The present state does not allow it; another one would."""

    kind = "conflict"


class Expired(Refusal):
    """It came after its due time. The clock decides, also before the timer has run."""

    kind = "expired"


class TooLarge(Refusal):
    """Larger than a limit of this server."""

    kind = "too_large"


class RateLimited(Refusal):
    """Too often; `retry_after` says in how many seconds to try again."""

    kind = "rate_limited"


def not_found(what: str) -> NotFound:
    """The one answer for what does not exist and for what the asker may not know of."""
    return NotFound("not_found", f"There is no such {what}, or you may not see it.")
