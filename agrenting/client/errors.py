"""What can go wrong for a client.

ClientError
├── RefusedByServer   an expected "no", with its stable reason
├── Disconnected      the server is gone: connect again and rejoin
├── TopicEnded        the server ended this topic alone: join it again
├── NoAnswer          what was waited for did not come in time; a TimeoutError too
├── LyingServer       what the server told does not hold: do not sign
├── CannotSign        a payment channel does not stand so that this could be signed
│   └── AlreadySigned     another message was signed with that nonce
└── BrokenRecord      the file of what was signed is not what was written
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


class CannotSign(ClientError):
    """A payment channel does not stand so that this could be signed, as far as it was told. Nothing was signed."""


class AlreadySigned(CannotSign):
    """Another message was signed with this nonce. Nothing was signed.

    The very same message can be had again. For another one the nonce has to be used up first: by sending what was
    signed, and withdrawing it if need be, or by a proposal of the other party: to reject it takes no signature.

    Args:
        nonce: The one in question.
    """

    def __init__(self, nonce: int) -> None:
        super().__init__(f"another message was signed with nonce {nonce}: only that one can be had again")
        self.nonce = nonce


class BrokenRecord(ClientError):
    """The file of what was signed is not what was written, or is another channel's. Nothing is signed without it.

    Put the newest backup of the file in its place, or move it away: then what the server tells is where it goes on.
    """
