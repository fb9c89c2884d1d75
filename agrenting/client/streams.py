"""A task's streams as one side keeps them: what it has sent, and what has come to it.

Neither does input or output: each is handed what comes, in its order, and says what to send or to hand on.
`StreamedTask` drives both over a socket.

Chunks are relayed before they are durable, so that nobody waits for a disk. If the server dies in between, their sender
sends them again; as a rule with the same bytes, but a sender that has died too may make others. `IncomingStream` hands
each chunk on at once, in order and once, because waiting would cost every stream the speed that few need to forgo, and
nothing tells a receiver that a chunk is stored until it joins again. It remembers what it has handed on: the same bytes
again are dropped, and other bytes raise `StreamRewritten`, which says from where on the application has to forget. Who
cannot take anything back looks at `durable_seq`, or waits for the end. There the running digest and the checksum are
those of all chunks that were handed on and not taken back, or it is an error.

Source: task streams, resume; SIGNING.md ("Streams").
"""

import base64
import binascii
from collections import deque
from typing import Any, Final, Literal, NamedTuple, Self, TypeVar

import msgspec

from ._crypto import NO_CHUNKS, StreamChecksum, next_digest
from .errors import AlteredChunk, LostChunks, MalformedAnswer, StreamRewritten

Direction = Literal["input", "output"]
ChunkPayload = dict[str, Any] | bytes
"""A chunk as it is pushed and told: fields, or the bytes of a binary frame."""
SEQ_BYTES: Final = 8
"""What stands before a chunk's bytes in a binary frame: its seq, big-endian."""
T = TypeVar("T")

REMEMBERED_MAX: Final = 4_096
"""How many chunks behind the last one a receiver can still compare with what is sent again."""


class Position(msgspec.Struct, frozen=True):
    """How far a stream has come. Small enough for a checkpoint, and all that is needed to go on from there.

    Args:
        seq: The first chunk that is not in it.
        size: Bytes of those before.
        digest: The running digest over them.
    """

    seq: int = 0
    size: int = 0
    digest: str = NO_CHUNKS


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """A stream as the server tells it: in a join's reply, in an acknowledgement, and at its end."""

    next_seq: int
    total_size: int
    digest: str
    complete: bool = False
    checksum: str | None = None


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """A chunk as it is relayed and replayed."""

    seq: int
    chunk: str
    encoding: Literal["utf8", "base64"] = "utf8"
    replay: bool = False

    def bytes(self) -> bytes:
        """What it stands for."""
        return self.chunk.encode() if self.encoding == "utf8" else base64.b64decode(self.chunk, validate=True)


class Tally(NamedTuple):
    """What chunks up to a position come to; `checksum`: None where the first of them are not known here."""

    position: Position
    checksum: StreamChecksum | None

    @classmethod
    def at(cls, start: Position) -> Self:
        """Of what comes from a position on."""
        return cls(start, None if start.seq else StreamChecksum())

    def plus(self, chunk: bytes) -> Self:
        """With the next chunk."""
        seq, size, digest = self.position.seq, self.position.size, self.position.digest
        checksum = None
        if self.checksum is not None:
            checksum = self.checksum.copy()
            checksum.update(chunk)
        after = Position(seq + 1, size + len(chunk), next_digest(digest, seq=seq, chunk=chunk))
        return type(self)(after, checksum)


class OutgoingStream:
    """What one side sends: every chunk until it is acknowledged, and what all of them come to."""

    def __init__(self) -> None:
        self._durable = Tally.at(Position())
        self._sent: deque[tuple[bytes, Tally]] = deque()
        """Chunks that are not acknowledged, each with what all up to it come to."""
        self._claim: Told | None = None
        """What the server has of this stream, and this program does not have (any more)."""

    @property
    def position(self) -> Position:
        """Behind the last chunk that was taken to be sent: its `seq` is the next one's."""
        return self._newest.position

    @property
    def durable_seq(self) -> int:
        """The first chunk that is not acknowledged."""
        return self._durable.position.seq

    @property
    def is_whole(self) -> bool:
        """Whether all that the server has is known here; if not, `hear` what it replays."""
        return self._claim is None

    def append(self, chunk: bytes) -> ChunkPayload:
        """Take the next chunk; the payload to push. It is kept until it is acknowledged."""
        assert self.is_whole, "what comes next is not known before"
        payload = chunk_payload(self.position.seq, chunk)
        self._sent.append((chunk, self._newest.plus(chunk)))
        return payload

    def acknowledge(self, reply: dict[str, Any]) -> None:
        """Take the reply to a chunk, or to the end of the stream.

        Raises:
            AlteredChunk: What is stored is not what was sent.
            LostChunks: Less is stored than was acknowledged.
            MalformedAnswer: It is no such reply.
        """
        told = _converted(reply, Told)
        if told.next_seq < self.durable_seq:
            raise LostChunks(
                f"chunk {self.durable_seq - 1} was acknowledged, and {told.next_seq} is missing now",
                expected=self.durable_seq,
                told=told.next_seq,
            )
        if told.next_seq > self.position.seq:
            raise AlteredChunk(f"chunk {told.next_seq - 1} is acknowledged, and was never sent")
        while self.durable_seq < told.next_seq:
            _, self._durable = self._sent.popleft()
        if (self._durable.position.size, self._durable.position.digest) != (told.total_size, told.digest):
            raise AlteredChunk(
                f"what is stored before chunk {told.next_seq} has another digest than what was sent",
                expected=self._durable.position.digest,
                told=told.digest,
            )

    def rejoin(self, stream: dict[str, Any]) -> list[ChunkPayload]:
        """Take what a join's reply says of this stream; the payloads of what has to be pushed again, in order.

        Where the server has more than is known here, because this program was started anew, that has to be heard first.

        Args:
            stream: `streams.input` or `streams.output` of the reply.

        Raises:
            AlteredChunk, LostChunks, MalformedAnswer: As for `acknowledge`.
        """
        told = _converted(stream, Told)
        if told.next_seq > self.position.seq:
            self._durable, self._claim = self._newest, told
            self._sent.clear()
            return []
        self._claim = None
        self.acknowledge(stream)
        return [chunk_payload(seq, chunk) for seq, (chunk, _) in enumerate(self._sent, self.durable_seq)]

    def hear(self, payload: ChunkPayload) -> None:
        """Take a chunk of this very stream that the server replays; those that are known here are passed over.

        Raises:
            AlteredChunk: All of them do not have the digest that the server says.
            MalformedAnswer: It is no chunk.
        """
        told = self._claim
        if told is None:
            return
        seq, chunk, _ = _read_chunk(payload)
        if seq != self.position.seq:
            return
        self._durable = self._durable.plus(chunk)
        if self.position.seq == told.next_seq:
            self._claim = None
            self.acknowledge(msgspec.to_builtins(told))

    def closing(self) -> dict[str, Any]:
        """The payload that ends the stream."""
        assert self.is_whole, "all of it was heard"
        checksum = self._newest.checksum
        assert checksum is not None, "it was known from its first chunk on"
        return {"checksum": checksum.hexdigest(), "total_size": checksum.size}

    @property
    def _newest(self) -> Tally:
        return self._sent[-1][1] if self._sent else self._durable


class IncomingStream:
    """What comes to one side: each chunk once and in order, also over a join that follows a loss.

    Args:
        start: From where on it is wanted. From anywhere but the start, the end is verified by the running digest alone,
            because the checksum is over bytes that are not here.
    """

    def __init__(self, start: Position | None = None) -> None:
        first = Tally.at(start or Position())
        self.needs_replay = False
        """Whether the task has to be joined again, because what was handed on was rewritten somewhere."""
        self._handed_on: deque[Tally] = deque([first], maxlen=REMEMBERED_MAX)
        self._durable = first
        self._is_sure = True
        """Whether all that was handed on since the last comparison was stored already."""
        self._arrived: dict[int, tuple[bytes, bool]] = {}
        """What waits to be handed on, and whether it was stored."""
        self.reached_seq = first.position.seq
        """The first one from the position on that has not arrived."""
        self._claim: Told | None = None
        """What the server said last of the stream."""
        self._replayed_seq = 0
        """The first one that the last join does not bring: those before it come first, and in order."""
        self._rewritten: StreamRewritten | None = None

    @property
    def position(self) -> Position:
        """Behind the last chunk that was handed on: its `seq` is what a join asks for."""
        return self._handed_on[-1].position

    @property
    def durable_seq(self) -> int:
        """All chunks before it are known to be stored, with the bytes that were handed on."""
        return self._durable.position.seq

    @property
    def stored_seq(self) -> int:
        """The first one that the server did not have, when it said that last."""
        return 0 if self._claim is None else self._claim.next_seq

    @property
    def is_complete(self) -> bool:
        """Whether all was handed on, and digest and checksum are those of it."""
        claim = self._claim
        return claim is not None and claim.complete and self.durable_seq == claim.next_seq == self.position.seq

    def rejoin(self, stream: dict[str, Any]) -> None:
        """Take what a join's reply says of this stream. The join has asked for it from `position.seq` on.

        All that waits to be handed on is dropped: it is replayed where it is stored.

        Args:
            stream: `streams.input` or `streams.output` of the reply.

        Raises:
            LostChunks: The server does not have any more what it had stored.
            AlteredChunk: It has never been what the server says.
            MalformedAnswer: It is no stream.
        """
        told = _converted(stream, Told)
        if told.next_seq < self.durable_seq:
            raise LostChunks(
                f"chunk {self.durable_seq - 1} was stored, and {told.next_seq} is missing now",
                expected=self.durable_seq,
                told=told.next_seq,
            )
        self._arrived.clear()
        self.reached_seq = self.position.seq
        self.needs_replay = False
        self._claim = told
        self._replayed_seq = told.next_seq
        self._compare_with_claim()

    def hear(self, payload: ChunkPayload) -> None:
        """Take a chunk. One that was handed on already is dropped, unless it has other bytes now.

        Raises:
            LostChunks: One before it is stored, and was left out.
            MalformedAnswer: It is no chunk.
        """
        seq, chunk, is_stored = _read_chunk(payload)
        # A binary frame does not say whether it is replayed: what the server says it has is not relayed once more.
        is_stored = is_stored or seq < self.stored_seq
        if seq >= self.position.seq:
            self._arrived[seq] = chunk, is_stored
            self._reach(seq)
        if not self.durable_seq <= seq < self.position.seq:
            return
        before, after = self._tally_at(seq), self._tally_at(seq + 1)
        if before is not None and after is not None and before.plus(chunk).position != after.position:
            self._go_back_to(before)
            self._arrived[seq] = chunk, is_stored
            self._reach(seq)

    def close(self, payload: dict[str, Any]) -> None:
        """Take `input_complete` or `output_complete`.

        Raises:
            AlteredChunk: Digest or checksum are not those of what was handed on.
            MalformedAnswer: It is no end of a stream.
        """
        self._claim = _converted(payload, Told)
        if self.reached_seq < self._claim.next_seq:
            self.needs_replay = True  # All of them were relayed before the end, and some did not come.
        self._compare_with_claim()

    def pop(self) -> bytes | None:
        """The next chunk in order; None where it has not come.

        Raises:
            StreamRewritten: Chunks that were handed on have other bytes now. Forget them, and go on: they come anew.
            AlteredChunk: Digest or checksum are not those of what was stored.
        """
        self._require_not_rewritten()
        arrived = self._arrived.pop(self.position.seq, None)
        if arrived is None:
            return None
        chunk, is_stored = arrived
        self._is_sure = self._is_sure and is_stored
        self._handed_on.append(self._handed_on[-1].plus(chunk))
        if self._claim is not None and self._claim.next_seq == self.position.seq:
            self._compare_with_claim()
            self._require_not_rewritten()
        return chunk

    def _reach(self, seq: int) -> None:
        """A chunk has come: none that the last join brings may be missing before it.

        Raises:
            LostChunks: One is.
        """
        while self.reached_seq in self._arrived:
            self.reached_seq += 1
        if self.reached_seq < min(seq, self._replayed_seq) and not self.needs_replay:
            raise LostChunks(
                f"chunk {self.reached_seq} is stored, and was left out", expected=self.reached_seq, told=seq
            )

    def _require_not_rewritten(self) -> None:
        rewritten, self._rewritten = self._rewritten, None
        if rewritten is not None:
            raise rewritten

    def _compare_with_claim(self) -> None:
        """Hold what was handed on against what the server says, once that reaches so far."""
        claim = self._claim
        if claim is None or claim.next_seq > self.position.seq:
            return
        tally = self._tally_at(claim.next_seq)
        if tally is not None and tally.position == Position(claim.next_seq, claim.total_size, claim.digest):
            self._require_checksum(tally, claim)
            self._durable, self._is_sure = tally, self.position.seq == claim.next_seq
        elif self._is_sure:
            raise AlteredChunk(
                f"what was stored before chunk {claim.next_seq} has another digest than the server says",
                told=claim.digest,
            )
        else:
            self._go_back_to(self._durable)
            self._is_sure = self.needs_replay = True

    def _require_checksum(self, tally: Tally, claim: Told) -> None:
        checksum = tally.checksum
        if claim.complete and checksum is not None and checksum.hexdigest() != claim.checksum:
            raise AlteredChunk(
                f"the stream's checksum is {checksum.hexdigest()}, and {claim.checksum} was declared",
                expected=checksum.hexdigest(),
                told=claim.checksum,
            )

    def _go_back_to(self, tally: Tally) -> None:
        """Take back what was handed on since; whoever asks for the next chunk is told first."""
        while len(self._handed_on) > 1 and self.position.seq > tally.position.seq:
            self._handed_on.pop()
        self._handed_on[-1] = tally
        self.reached_seq = tally.position.seq
        self._rewritten = StreamRewritten(seq=tally.position.seq, size=tally.position.size)

    def _tally_at(self, seq: int) -> Tally | None:
        """What was handed on before a chunk, if it is remembered."""
        if seq == self.durable_seq:
            return self._durable
        number = seq - self._handed_on[0].position.seq
        return self._handed_on[number] if 0 <= number < len(self._handed_on) else None


def chunk_payload(seq: int, chunk: bytes) -> ChunkPayload:
    """A chunk as it is pushed: as text where it is text, else as a binary frame."""
    try:
        return {"chunk": chunk.decode(), "seq": seq}
    except UnicodeDecodeError:
        return seq.to_bytes(SEQ_BYTES, "big") + chunk


def _read_chunk(payload: ChunkPayload) -> tuple[int, bytes, bool]:
    """Seq and bytes of a chunk, and whether it was stored when it was told; a binary frame does not say that.

    Raises:
        MalformedAnswer: It is none.
    """
    if isinstance(payload, bytes):
        if len(payload) <= SEQ_BYTES:
            raise MalformedAnswer("a chunk in a binary frame has no seq, or nothing behind it")
        return int.from_bytes(payload[:SEQ_BYTES], "big"), payload[SEQ_BYTES:], False
    told = _converted(payload, Chunk)
    try:
        return told.seq, told.bytes(), told.replay
    except (binascii.Error, UnicodeError) as error:
        raise MalformedAnswer(f"chunk {told.seq} is not what its encoding says: {error}") from error


def _converted(told: dict[str, Any], kind: type[T]) -> T:
    """What the server tells, in its shape.

    Raises:
        MalformedAnswer: It has not that shape.
    """
    try:
        return msgspec.convert(told, kind)
    except msgspec.ValidationError as error:
        raise MalformedAnswer(f"what the server tells of a stream cannot be: {error}") from error
