"""What can go wrong for a client.

ClientError
├── RefusedByServer   an expected "no", with its stable reason
├── Disconnected      the server is gone: connect again and rejoin
├── TopicEnded        the server ended this topic alone: join it again
├── NoAnswer          what was waited for did not come in time; a TimeoutError too
└── LyingServer       what the server told does not hold: do not sign
"""

from typing import Any


class ClientError(Exception):
    """Anything that a client has to expect."""


class RefusedByServer(ClientError):
    """An expected "no".

    Args:
        reason: Stable, snake_case: PROTOCOL.md lists them.
        message: One sentence for people.
        context: The other fields of the refusal, for example `expected_amount`.
    """

    def __init__(self, reason: str, message: str, context: dict[str, Any]) -> None:
        super().__init__(f"{reason}: {message}" if message else reason)
        self.reason = reason
        self.message = message
        self.context = context


class Disconnected(ClientError):
    """The server is gone, or cannot be reached. Connecting again and rejoining makes an agent whole."""


class TopicEnded(ClientError):
    """The topic is no longer joined: by `phx_close`, by `phx_error`, or because it was left."""


class NoAnswer(ClientError, TimeoutError):
    """What was waited for did not come in time. It may have taken effect all the same: join again to see."""


class LyingServer(ClientError):
    """What the server told does not hold: a digest, a signature, or a sum. Nothing was signed."""
