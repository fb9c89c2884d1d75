"""What can go wrong for a client.

ClientError
├── RefusedByServer   an expected "no", with its stable reason
├── Disconnected      the server is gone: connect again and rejoin
├── TopicEnded        the server ended this topic alone: join it again
├── NoAnswer          what was waited for did not come in time; a TimeoutError too
├── StreamRewritten   chunks that were handed on have other bytes now: forget them, they come anew
├── StreamBroken      the task has ended before its stream was complete
├── NotPaid           a transfer was rejected or withdrawn
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
    """The topic is no longer joined: by `phx_close`, by `phx_error`, or because it was left.

    Args:
        message: One sentence for people.
        reason: The server's with `phx_error`, such as `relay_void`: chunks that were relayed were not stored after all.
    """

    def __init__(self, message: str, reason: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason


class NoAnswer(ClientError, TimeoutError):
    """What was waited for did not come in time. It may have taken effect all the same: join again to see."""


class StreamRewritten(ClientError):
    """Chunks were relayed and handed on, then lost before they were stored, and sent again with other bytes.

    Args:
        seq: The first chunk that the application has to forget: it comes again, and all after it.
        size: Bytes of the chunks before it, which stay.
    """

    def __init__(self, *, seq: int, size: int) -> None:
        super().__init__(
            f"the stream was rewritten from chunk {seq} on: its first {size} bytes stay, the rest comes anew"
        )
        self.seq = seq
        self.size = size


class StreamBroken(ClientError):
    """The task has ended before its stream was complete: no more will come.

    Args:
        status: The task's.
    """

    def __init__(self, status: str) -> None:
        super().__init__(f"the task was {status} before its stream was complete")
        self.status = status


class NotPaid(ClientError):
    """A transfer was rejected by the other party, or withdrawn: its nonce is used, and nothing was paid with it.

    Args:
        nonce: The one in question.
    """

    def __init__(self, nonce: int) -> None:
        super().__init__(f"the transfer with nonce {nonce} was not acknowledged")
        self.nonce = nonce


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
