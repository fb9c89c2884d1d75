"""One stream under every order of chunks, honest and not, beside a model that is no more than its chunks by seq.

For each move the model says what becomes of it: taken, repeated, or refused and why, with which fields.
"""

import hashlib
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from channels.chunks import SEQ_MAX, binary_chunk
from channels.task_state import Direction
from tests.channels.roles import ALICE, MALLORY, Player, market_with, refused
from tests.channels.streaming import DIRECTIONS, Witness, digest_over, in_base64, receiver_of, witness
from tests.channels.work import hired, push, sender_of, topic_of
from tests.channels.world import Listener

WINDOW = 6
CHUNK_BYTES_MAX = 4
STREAM_BYTES_MAX = 22
FORMS = ("utf8", "base64", "binary")

Effect = tuple[str, dict[str, Any]]
"""`done`, `duplicate` or the reason of a refusal, and what is told with it."""


class Streaming(RuleBasedStateMachine):
    """Whoever may send, sends in any order; others try it too."""

    world: Witness
    direction: Direction
    task_id: str
    receivers: Listener

    def __init__(self) -> None:
        super().__init__()
        self.chunks: dict[int, bytes] = {}
        self.relayed: list[int] = []
        self.is_closed = False
        self.phase = ""
        """As far as it decides what the stream takes: empty while the task runs."""

    @initialize(direction=st.sampled_from(DIRECTIONS), is_begun=st.booleans())
    def hire(self, direction: Direction, *, is_begun: bool) -> None:
        limits = {"stream_window": WINDOW, "chunk_bytes_max": CHUNK_BYTES_MAX, "stream_bytes_max": STREAM_BYTES_MAX}
        self.world = witness(market_with(**limits))
        self.task_id = hired(self.world)
        self.direction = direction
        if is_begun:
            push(self.world, sender_of("output"), self.task_id, "progress", percent=0)
        self.receivers = self.world.listen(receiver_of(direction), topic_of(self.task_id))

    # The model

    @property
    def next_seq(self) -> int:
        return next(seq for seq in range(len(self.chunks) + 1) if seq not in self.chunks)

    @property
    def prefix(self) -> bytes:
        return b"".join(self.chunks[seq] for seq in range(self.next_seq))

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.prefix).hexdigest()

    def acknowledged(self) -> dict[str, Any]:
        """What every reply says of the part before the first missing chunk."""
        digest = digest_over(self.chunks, until=self.next_seq)
        return {"next_seq": self.next_seq, "total_size": len(self.prefix), "digest": digest}

    def refused_for_phase(self, who: Player) -> Effect | None:
        if who is MALLORY:
            return "not_found", {}
        if who is not sender_of(self.direction):
            return "forbidden_role", {"role": "client" if self.direction == "input" else "provider"}
        return None

    def refused_for_end(self) -> Effect | None:
        if self.phase == "disputed":
            return None  # It is the output, which may be finished.
        return ("terminal_state", {"status": self.phase}) if self.phase else None

    def foretold(self, who: Player, seq: int, data: bytes) -> Effect:  # noqa: PLR0911 - One for each effect.
        """What becomes of a chunk."""
        next_seq = self.next_seq
        here = {"next_seq": next_seq}
        if (refusal := self.refused_for_phase(who)) is not None:
            return refusal
        if self.chunks.get(seq) == data:
            return "duplicate", {"seq": seq, **self.acknowledged()}
        if (refusal := self.refused_for_end()) is not None:
            return refusal
        if self.is_closed:
            return "stream_closed", here
        if seq in self.chunks:
            return "seq_conflict", {"seq": seq, **here}
        if seq >= next_seq + WINDOW:
            return "seq_out_of_window", {"seq": seq, **here}
        if len(data) > CHUNK_BYTES_MAX:
            return "chunk_too_large", {"chunk_bytes_max": CHUNK_BYTES_MAX}
        if sum(map(len, self.chunks.values())) + len(data) > STREAM_BYTES_MAX:
            return "stream_too_large", {"stream_bytes_max": STREAM_BYTES_MAX}
        return "done", {}

    def foretold_close(  # noqa: PLR0911 - One for each effect.
        self, who: Player, *, checksum: str, total_size: int
    ) -> Effect:
        """What becomes of an attempt to close."""
        here = {"next_seq": self.next_seq}
        if (refusal := self.refused_for_phase(who)) is not None:
            return refusal
        fits = (checksum, total_size) == (self.checksum, len(self.prefix))
        if self.is_closed and fits:
            return "duplicate", self.acknowledged()
        if (refusal := self.refused_for_end()) is not None:
            return refusal
        if self.is_closed:
            return "stream_closed", here
        missing = [seq for seq in range(max(self.chunks, default=0)) if seq not in self.chunks]
        if missing:
            return "missing_chunks", {"missing": missing, **here}
        if total_size != len(self.prefix):
            return "size_mismatch", {"expected_size": len(self.prefix), "offered_size": total_size, **here}
        if not fits:
            return "checksum_mismatch", {"expected_checksum": self.checksum, "offered_checksum": checksum, **here}
        return "done", {}

    # Moves

    @rule(
        who=st.sampled_from(["sender"] * 12 + ["receiver", "mallory"]),
        ahead=st.sampled_from([0, 0, 0, 0, 1, 2, 3, WINDOW - 1, WINDOW, SEQ_MAX]),
        size=st.integers(min_value=1, max_value=CHUNK_BYTES_MAX + 1),
        byte=st.sampled_from(["a", "b"]),
        form=st.sampled_from(FORMS),
    )
    def send(self, who: str, ahead: int, size: int, byte: str, form: str) -> None:
        seq = min(self.next_seq + ahead, SEQ_MAX)
        self._send(self._player(who), seq, (byte * size).encode(), form)

    @precondition(lambda self: self.chunks)
    @rule(data=st.data(), is_same=st.booleans(), form=st.sampled_from(FORMS))
    def send_again(self, data: st.DataObject, form: str, *, is_same: bool) -> None:
        seq = data.draw(st.sampled_from(sorted(self.chunks)))
        self._send(sender_of(self.direction), seq, self.chunks[seq] if is_same else b"X", form)

    @precondition(lambda self: len(self.chunks) > self.next_seq)
    @rule(form=st.sampled_from(FORMS))
    def fill_the_first_gap(self, form: str) -> None:
        self._send(sender_of(self.direction), self.next_seq, b"c", form)

    @rule(
        who=st.sampled_from(["sender"] * 6 + ["receiver", "mallory"]),
        lie=st.sampled_from([None, None, "size", "checksum", "all that is here"]),
    )
    def close(self, who: str, lie: str | None) -> None:
        checksum, total_size = self.checksum, len(self.prefix)
        if lie == "size":
            total_size += 1
        elif lie == "checksum":
            checksum = "0" * 64
        elif lie == "all that is here":
            data = b"".join(self.chunks[seq] for seq in sorted(self.chunks))
            checksum, total_size = hashlib.sha256(data).hexdigest(), len(data)
        player = self._player(who)
        effect = self.foretold_close(player, checksum=checksum, total_size=total_size)
        whole = {"checksum": checksum, "total_size": total_size}
        if self._do(player, f"{self.direction}_complete", whole, effect):
            self.is_closed = True
            self.receivers.heard.pop()
            told = self.world.last.reply
            assert (told["checksum"], told["verified"]) == (self.checksum, True)
            assert {name: told[name] for name in self.acknowledged()} == self.acknowledged()

    @precondition(lambda self: not self.phase and len(self.chunks) > 1)
    @rule(is_disputed=st.booleans())
    def end(self, *, is_disputed: bool) -> None:
        if not is_disputed:
            push(self.world, sender_of("output"), self.task_id, "error", type="broken")
            self.phase = "failed"
        elif self.direction == "output":
            push(self.world, ALICE, self.task_id, "dispute", reason="no")
            self.phase = "disputed"
        self.receivers.heard.clear()

    # What always holds

    @invariant()
    def what_is_stored_is_what_was_taken(self) -> None:
        state = self.world.task(self.task_id).stream(self.direction)
        assert self.world.chunks[self.task_id, self.direction] == self.chunks
        told = {"next_seq": state.next_seq, "total_size": state.size, "digest": state.digest}
        assert told == self.acknowledged()
        ahead = ((seq, len(data)) for seq, data in sorted(self.chunks.items()) if seq > state.next_seq)
        assert state.ahead == tuple(ahead)
        assert state.is_complete is self.is_closed
        assert state.checksum == (self.checksum if self.is_closed else None)
        assert sorted(self.relayed) == sorted(self.chunks), "each is relayed once"

    # How it goes on

    def _player(self, who: str) -> Player:
        players = {"sender": sender_of(self.direction), "receiver": receiver_of(self.direction), "mallory": MALLORY}
        return players[who]

    def _send(self, who: Player, seq: int, data: bytes, form: str) -> None:
        payload: Any = {"chunk": data.decode(), "seq": seq}
        if form == "base64":
            payload = {"chunk": in_base64(data), "seq": seq, "encoding": "base64"}
        elif form == "binary":
            payload = binary_chunk(seq, data)
        if not self._do(who, f"{self.direction}_stream", payload, self.foretold(who, seq, data)):
            return
        self.chunks[seq] = data
        told, (heard,) = self.world.last.reply, self.receivers.heard
        self.relayed.append(heard.payload["seq"])
        self.receivers.heard.clear()
        assert {name: told[name] for name in self.acknowledged()} == self.acknowledged()
        assert (heard.payload["next_seq"], heard.payload["total_size"]) == (self.next_seq, len(self.prefix))

    def _do(self, who: Player, event: str, payload: Any, effect: Effect) -> bool:
        """Send an event and require what was foretold of it; whether it was taken."""
        outcome, told = effect
        before = self.world.everything()
        if outcome not in {"done", "duplicate"}:
            refusal = refused(self.world.push, who, topic_of(self.task_id), event, payload)
            assert (refusal.reason, refusal.context) == effect
            assert self.world.everything() == before
            return False
        reply = self.world.push(who, topic_of(self.task_id), event, payload)
        assert ("duplicate" if reply.get("duplicate") else "done") == outcome
        assert {name: reply[name] for name in told} == told
        assert (self.world.everything() == before) is (outcome == "duplicate")
        return outcome == "done"


Streaming.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestStreaming = Streaming.TestCase
