"""What can go wrong for a client.

ClientError
├── RefusedByServer   an expected "no", with its stable reason
├── Disconnected      the server is gone: connect again and rejoin
├── TopicEnded        the server ended this topic alone: join it again
├── NoAnswer          what was waited for did not come in time; a TimeoutError too
├── StreamRewritten   chunks that were handed on have other bytes now: forget them, they come anew
├── StreamBroken      the task has ended before its stream was complete
├── NotPaid           a transfer was rejected or withdrawn
├── ChannelNotOpened  the other party has not accepted a payment channel
├── CloseNotAnswered  the other party has not agreed to close a payment channel; a TimeoutError too
├── NotApproved       a contact request has ended, and not with a yes
├── NotAgreed         a negotiation has ended without an agreement
├── BeyondLimit       a strategy has made a move beyond its own limit: it was not signed
├── NobodyFound       nobody who could be hired for something is online
├── TaskNotDone       a task that was hired has failed, or was cancelled
├── CheckFailed       what was delivered did not pass the client's own check: nothing was released
├── NoSigningKey      the agent was given no signing key, and something has to be signed
├── MissingKey        a key is not where it should be read from
├── MalformedKey      what should be a key, an address or credentials has another form; a ValueError too
├── UnsafeKeyFile     others may read the file of a key: it was not read
├── WrongKey          the signing key is not the one that the agent is registered with
├── LyingServer       what the server told does not hold: nothing was signed, nothing was kept
│   ├── MalformedAnswer   it has not the shape that it has to have
│   ├── WrongAnswer       it is about something else than was asked for
│   ├── WrongMarket       another deployment: its signing domain, or the platform's key
│   ├── WrongSession      a negotiation's digest does not fit its parties, capability, price and terms
│   ├── ForgedOffer       an offer is out of turn, or its maker has not signed it
│   ├── WrongMidpoint     the midpoint is not that of the two standing offers
│   ├── WrongAgreement    the agreement does not follow from the offers, or nobody has signed it
│   ├── WrongPrice        a task costs something else than was agreed
│   ├── WrongPayout       what was paid out does not follow from what was held
│   ├── AlteredChunk      a stream's bytes do not have the digest or checksum that is told
│   ├── LostChunks        chunks that were stored are missing
│   ├── WrongChannel      a payment channel has other parties or keys than at its opening
│   ├── ForgedTransfer    a transfer or a close of a payment channel is not signed as told
│   ├── WrongBalance      balances, deposits or nonces do not add up
│   ├── RolledBack        a payment channel, a negotiation or a task is behind what was told of it before
│   ├── WrongReceipt      a receipt or a history does not verify
│   └── ReplayedReceipt   a receipt is good, and is about something else
├── CannotSign        a payment channel does not stand so that this could be signed
│   └── AlreadySigned     another message was signed with that nonce
│       └── UnfinishedPayment a payment was signed, and it is not known yet whether it was made
├── BrokenRecord      the file of what was signed is not what was written
└── FolderInUse       another program serves or pays with the agent's folder
"""

import shlex
from collections.abc import Generator
from contextlib import contextmanager
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
    """The server is gone, or cannot be reached. Connecting again and rejoining makes an agent whole.

    Args:
        message: One sentence for people.
        code: What the socket was closed with; None where it was none, or was not there.
    """

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


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
        reason: Why its nonce is void, as the server says: `rejected`, `withdrawn`, `expired`, `dispute`, `force_close`,
            `contact_revoked`, `banned` or `state_lost`; None: it is not known.
        text: What who rejected it has said.
    """

    def __init__(self, nonce: int, *, reason: str | None = None, text: str | None = None) -> None:
        why = "" if reason is None else f": {reason}" + (f", {text!r}" if text else "")
        super().__init__(f"the transfer with nonce {nonce} was not acknowledged{why}")
        self.nonce = nonce
        self.reason = reason
        self.text = text


class ChannelNotOpened(ClientError):
    """The other party has not accepted a payment channel: what was deposited is back.

    Args:
        channel_id: The channel's.
        status: `declined` or `expired`.
        cause: `declined`, `cancelled` (taken back, because nobody answered in time), `expired`, `contact_revoked`,
            `banned`.
        reason: What who declined it has said.
    """

    def __init__(self, channel_id: str, *, status: str, cause: str | None, reason: str | None) -> None:
        why = f", {reason!r}" if reason else ""
        super().__init__(f"the payment channel was not accepted: {cause or status}{why}")
        self.channel_id = channel_id
        self.status = status
        self.cause = cause
        self.reason = reason


class CloseNotAnswered(ClientError, TimeoutError):
    """The other party has not agreed to close a payment channel in time.

    The offer stands until something is paid, and the other party may still agree to it: wait for `closed()`. Or get the
    money out without it by `force_close()`, which pays the balances once the channel's window has passed.

    Args:
        channel_id: The channel's.
        window_s: How long a force-close takes, in seconds.
    """

    def __init__(self, channel_id: str, *, window_s: int) -> None:
        super().__init__(
            f"the close of payment channel {channel_id} is offered, and was not agreed to yet: wait for closed(), or "
            f"use force_close(), which pays after {window_s} s"
        )
        self.channel_id = channel_id
        self.window_s = window_s


class NotApproved(ClientError):
    """A contact request has ended, and not with a yes.

    Args:
        handle: Who was asked.
        status: `rejected`, `cancelled`, `expired`; or `removed`, where the contact has ended again already.
    """

    def __init__(self, handle: str, status: str) -> None:
        super().__init__(f"{handle} is no contact: the request was {status}")
        self.handle = handle
        self.status = status


class NotAgreed(ClientError):
    """A negotiation has ended without an agreement.

    Args:
        session_id: The negotiation's.
        status: `rejected`, `expired` or `cancelled`.
        reason: What was given as the reason.
    """

    def __init__(self, session_id: str, status: str, reason: str | None = None) -> None:
        super().__init__(f"the negotiation ended without an agreement: {status}{f', {reason}' if reason else ''}")
        self.session_id = session_id
        self.status = status
        self.reason = reason


class BeyondLimit(ClientError):
    """A strategy has made a move that its maker could be held to beyond the strategy's own limit. It was not signed.

    Args:
        limit: The strategy's, in minor units.
        exposed: The price that the move could have been agreed at, in minor units.
    """

    def __init__(self, *, limit: int, exposed: int) -> None:
        super().__init__(f"the strategy's limit is {limit}, and its move could be agreed at {exposed}")
        self.limit = limit
        self.exposed = exposed


class NobodyFound(ClientError):
    """Nobody is online who could be hired for a capability at the price, or nobody goes by a handle.

    The sentence says what there is instead, where there is something.
    """


class TaskNotDone(ClientError):
    """A task has failed, or was cancelled; its price has gone back, or was decided on.

    Args:
        task_id: The task's.
        status: `failed` or `cancelled`.
        error: Of a failed task: `type` and `details`; the type is `deadline` where time ran out.
        reason: Of a cancelled one.
    """

    def __init__(
        self, task_id: str, status: str, *, error: dict[str, Any] | None = None, reason: str | None = None
    ) -> None:
        why = error.get("type") if error else reason
        ended = f"the task has {status}" if status == "failed" else f"the task was {status}"
        super().__init__(f"{ended}: {why}" if why else ended)
        self.task_id = task_id
        self.status = status
        self.error = error
        self.reason = reason


class CheckFailed(ClientError):
    """What was delivered did not pass the client's own check. Its price is held still: `dispute` it, or `release` it.

    Args:
        task_id: The task's.
        why: What the check said.
    """

    def __init__(self, task_id: str, why: str) -> None:
        super().__init__(f"what was delivered did not pass the check: {why}")
        self.task_id = task_id
        self.why = why


class NoSigningKey(ClientError):
    """Something has to be signed, and the agent was given no signing key."""

    def __init__(self) -> None:
        super().__init__(
            "this has to be signed: give Agent its signing_key, as SigningKey.from_file(…) or from the environment"
        )


class WrongKey(ClientError):
    """The signing key is not the one that the agent is registered with: whatever it signed would be refused.

    Args:
        handle: The agent's.
        registered: Its public key at the market; None: it has none.
        given: The public key of what was given.
    """

    def __init__(self, handle: str, *, registered: str | None, given: str) -> None:
        what = "no signing key" if registered is None else f"the signing key {registered}"
        super().__init__(f"{handle} is registered with {what}, and was given the secret of {given}")
        self.registered = registered
        self.given = given


class MissingKey(ClientError):
    """A key is not where it should be read from: the variable is not set, or the keyring has none."""


class MalformedKey(ClientError, ValueError):
    """What should be a key, a market's address or a file of credentials has another form. The sentence repeats none."""


class UnsafeKeyFile(ClientError):
    """Others than its owner may read a file of keys, or write it. It was not read.

    Args:
        path: The file's.
    """

    def __init__(self, path: str) -> None:
        super().__init__(f"others may read {path}, which holds a key: run chmod 600 {shlex.quote(path)}")
        self.path = path


class LyingServer(ClientError):
    """What the server told does not hold: a digest, a signature, or a sum. Nothing was signed, and nothing was kept.

    Which lie it is says the subclass. Do not go on with this server before somebody has looked at it.

    Args:
        message: One sentence for people.
        expected: What it would have to be, where that is known.
        told: What the server said instead, where one thing alone is wrong.
    """

    def __init__(self, message: str, *, expected: object = None, told: object = None) -> None:
        super().__init__(message)
        self.expected = expected
        self.told = told


class MalformedAnswer(LyingServer):
    """What the server told has not the shape that it has to have: something is missing, or cannot be."""


class WrongAnswer(LyingServer):
    """What the server told is about something else than was asked for, or for other terms."""


class WrongMarket(LyingServer):
    """This is another deployment than the one that is known: another signing domain, currency or platform key."""


class WrongSession(LyingServer):
    """A negotiation's digest does not fit its domain, parties, capability, list price and terms."""


class ForgedOffer(LyingServer):
    """An offer of a negotiation is out of turn, has another digest, or was not signed by who it is said to be of."""


class WrongMidpoint(LyingServer):
    """The midpoint that is told is not that of the two standing offers."""


class WrongAgreement(LyingServer):
    """What is said to be agreed does not follow from the offers, or was not signed by who is said to have accepted."""


class WrongPrice(LyingServer):
    """A task costs something else than was agreed, or more than it may cost."""


class WrongPayout(LyingServer):
    """What was paid out is not what the price, the fee and the outcome make of it, or not what was locked."""


class AlteredChunk(LyingServer):
    """The bytes of a stream do not have the size, the running digest or the checksum that the server tells."""


class LostChunks(LyingServer):
    """Chunks are missing that the server had stored, or that it says it has sent."""


class WrongChannel(LyingServer):
    """A payment channel has another id, other parties or other keys than at its opening."""


class ForgedTransfer(LyingServer):
    """A transfer or a close of a payment channel was not signed by who is said to have signed it."""


class WrongBalance(LyingServer):
    """Balances, deposits or nonces do not add up, or do not follow from those before."""


class RolledBack(LyingServer):
    """What was told before has gone: a nonce, transfer or deposit of a payment channel, an offer, the end of a task."""


class WrongReceipt(LyingServer):
    """A receipt or a history does not verify, or does not say what this client knows itself.

    Args:
        message, expected, told: As for `LyingServer`.
        check: The check of SIGNING.md that failed, such as `platform_signature`; None where it verifies, and says
            something else than this client knows.
    """

    def __init__(self, message: str, *, expected: object = None, told: object = None, check: str | None = None) -> None:
        super().__init__(message, expected=expected, told=told)
        self.check = check


class ReplayedReceipt(LyingServer):
    """A receipt verifies, and is about something else than was asked for: of an earlier task, session or channel."""


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


class UnfinishedPayment(AlreadySigned):
    """A payment was signed, and it is not known yet whether it was made: `pay` was cancelled, or the program ended.

    Finish it with the same bytes by `resume()`, or take it back by `withdraw()`; to pay anew could pay twice.

    Args:
        nonce: Its own.
        amount: Minor units.
        task_id: The task that it pays for.
    """

    def __init__(self, nonce: int, *, amount: int, task_id: str | None) -> None:
        super().__init__(nonce)
        what = "" if task_id is None else f" for task {task_id}"
        self.args = (
            f"a payment of {amount}{what} was signed with nonce {nonce}, and is not finished: resume() or withdraw()",
        )
        self.amount = amount
        self.task_id = task_id


class BrokenRecord(ClientError):
    """The file of what was signed is not what was written, or is another channel's. Nothing is signed without it.

    Put the newest backup of the file in its place, or move it away: then what the server tells is where it goes on.
    """


class FolderInUse(ClientError):
    """Another program serves, or keeps up payment channels, with this folder: neither knows what the other does.

    Args:
        path: The folder's.
    """

    def __init__(self, path: str) -> None:
        super().__init__(
            f"another program of this agent uses {path}: it serves, or pays over channels. End it, or give this one "
            "another folder=; never two that pay over the same channels"
        )
        self.path = path


@contextmanager
def telling(what: str) -> Generator[None, None, None]:
    """Inside, what was told is read: whatever its shape makes go wrong there is `MalformedAnswer`.

    Args:
        what: What it is about, for the sentence.

    Raises:
        MalformedAnswer: Something was missing, or was of another type.
    """
    try:
        yield
    except ClientError:
        raise
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise MalformedAnswer(f"what the server tells of {what} cannot be: {error!r}") from error
