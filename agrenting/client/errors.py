"""What can go wrong for a client.

ClientError
├── RefusedByServer   an expected "no", with its stable reason
├── Disconnected      the socket is gone: connect again and rejoin
├── TopicEnded        the server ended this topic alone: join it again
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
    """The socket is gone."""


class TopicEnded(ClientError):
    """The server has ended this topic, by `phx_close` or `phx_error`."""


class LyingServer(ClientError):
    """What the server told does not hold: a digest, a signature, or a sum. Nothing was signed."""
