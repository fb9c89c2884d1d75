"""What a client keeps of a task's streams: nothing is lost, twice or out of order, and other bytes are noticed."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agrenting.client import IncomingStream, LyingServer, OutgoingStream, Position, StreamRewritten
from agrenting.client import streams as client_streams
from agrenting.client.errors import LostChunks
from agrenting.client.streams import ChunkPayload
from tests.agrenting.client_task_server import in_frame, shown, told_of

WORDS = (b"hello ", b"world", b"!")


def sent(*chunks: bytes) -> OutgoingStream:
    stream = OutgoingStream()
    for chunk in chunks:
        stream.append(chunk)
    return stream


def replayed(seq: int, chunk: bytes) -> dict[str, Any]:
    return {**shown(seq, chunk), "replay": True}


def relayed(seq: int, chunk: bytes) -> ChunkPayload:
    """As our own client makes it come: in a binary frame where it is no text."""
    return in_frame(seq, chunk) if chunk.startswith(b"\xff") else shown(seq, chunk)


def heard(*chunks: bytes, start: Position | None = None) -> tuple[IncomingStream, list[bytes]]:
    """A stream to which these chunks came live, and were handed on."""
    stream = IncomingStream(start)
    stream.rejoin(told_of())
    for seq, chunk in enumerate(chunks, stream.position.seq):
        stream.hear(shown(seq, chunk))
    return stream, popped(stream)


def popped(stream: IncomingStream) -> list[bytes]:
    chunks: list[bytes] = []
    while (chunk := stream.pop()) is not None:
        chunks.append(chunk)
    return chunks


# Sending.


def test_a_chunk_goes_as_text_where_it_is_text_and_else_as_the_bytes_of_a_binary_frame() -> None:
    stream = OutgoingStream()

    assert stream.append("häh".encode()) == {"chunk": "häh", "seq": 0}
    assert stream.append(b"\x00\xff") == b"\x00\x00\x00\x00\x00\x00\x00\x01\x00\xff"


def test_the_end_says_size_and_checksum_of_all_bytes() -> None:
    assert sent(b"hello ", b"world").closing() == {
        "checksum": "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9",
        "total_size": 11,
    }


def test_what_is_acknowledged_is_not_sent_again() -> None:
    stream = sent(*WORDS)

    stream.acknowledge(told_of(*WORDS[:1]))

    assert (stream.durable_seq, stream.position.seq) == (1, 3)
    assert stream.rejoin(told_of(*WORDS[:2])) == [{"chunk": "!", "seq": 2}]
    assert stream.rejoin(told_of(*WORDS)) == []


def test_all_that_was_not_stored_is_sent_again_with_the_same_bytes() -> None:
    stream = sent(b"hello ", b"\xff")

    assert stream.rejoin(told_of()) == [{"chunk": "hello ", "seq": 0}, in_frame(1, b"\xff")]


@pytest.mark.parametrize(
    ("told", "says"),
    [
        (told_of(b"hello", b"world"), "another digest"),
        (told_of(*WORDS) | {"total_size": 11}, "another digest"),
        (told_of(*WORDS, b"more"), "was never sent"),
        (told_of(), "0 is missing now"),
        ({"next_seq": "one"}, "cannot be"),
    ],
)
def test_an_acknowledgement_of_something_else_is_an_error(told: dict[str, Any], says: str) -> None:
    stream = sent(*WORDS)
    stream.acknowledge(told_of(*WORDS[:1]))

    with pytest.raises(LyingServer, match=says):
        stream.acknowledge(told)


def test_a_program_that_has_started_anew_hears_what_it_had_sent_and_goes_on_behind_it() -> None:
    stream = OutgoingStream()

    assert stream.rejoin(told_of(*WORDS[:2])) == []
    assert not stream.is_whole
    for seq in (0, 0, 1):
        stream.hear(replayed(seq, WORDS[seq]))

    assert stream.is_whole
    stream.hear(replayed(2, b"this is stored beyond a gap"))
    assert stream.append(WORDS[2]) == {"chunk": "!", "seq": 2}
    assert stream.closing() == sent(*WORDS).closing()


def test_a_program_that_has_an_older_part_of_a_stream_hears_the_rest() -> None:
    stream = sent(*WORDS[:1])

    assert stream.rejoin(told_of(*WORDS[:2])) == []
    stream.hear(replayed(1, WORDS[1]))

    assert (stream.is_whole, stream.position.seq, stream.durable_seq) == (True, 2, 2)


def test_a_program_is_not_made_to_believe_that_it_had_sent_something_else() -> None:
    stream = OutgoingStream()
    stream.rejoin(told_of(*WORDS[:2]))
    stream.hear(replayed(0, b"HELLO "))

    with pytest.raises(LyingServer, match="another digest"):
        stream.hear(replayed(1, b"world"))


# Taking.


def test_chunks_are_handed_on_in_order_and_once() -> None:
    stream, _ = heard()

    for seq in (2, 0, 2):
        stream.hear(shown(seq, WORDS[seq]))
    assert popped(stream) == [WORDS[0]]
    for seq in (0, 1, 1):
        stream.hear(shown(seq, WORDS[seq]))

    assert popped(stream) == [*WORDS[1:]]
    assert stream.position.seq == 3


def test_bytes_that_are_no_text_come_as_they_were_sent() -> None:
    _, chunks = heard(b"\x00\xff", "häh".encode())

    assert chunks == [b"\x00\xff", "häh".encode()]


@pytest.mark.parametrize(
    "payload",
    [
        {"seq": 0},
        {"seq": 0, "chunk": "?", "encoding": "base64"},
        {"seq": 0, "chunk": "x", "encoding": "x"},
        b"",
        in_frame(0, b""),
    ],
)
def test_what_is_no_chunk_is_an_error(payload: ChunkPayload) -> None:
    with pytest.raises(LyingServer):
        heard()[0].hear(payload)


def test_chunks_in_binary_frames_are_taken_as_the_others() -> None:
    stream, _ = heard()

    stream.hear(in_frame(1, b"\xff"))
    stream.hear(shown(0, b"text"))

    assert popped(stream) == [b"text", b"\xff"]


def test_a_replayed_binary_frame_is_known_to_be_stored_though_it_does_not_say_so() -> None:
    stream = IncomingStream()
    stream.rejoin(told_of(b"\xff"))

    stream.hear(in_frame(0, b"\xfe"))

    with pytest.raises(LyingServer, match="another digest"):
        stream.pop()


def test_a_stored_chunk_that_is_left_out_of_a_replay_is_an_error() -> None:
    stream = IncomingStream()
    stream.rejoin(told_of(*WORDS))
    stream.hear(replayed(0, WORDS[0]))

    with pytest.raises(LostChunks, match="chunk 1 is stored, and was left out"):
        stream.hear(replayed(2, WORDS[2]))


def test_a_live_chunk_before_the_end_of_a_replay_shows_what_was_left_out() -> None:
    stream, _ = heard(WORDS[0])
    stream.rejoin(told_of(*WORDS[:2]))

    with pytest.raises(LostChunks, match="chunk 1"):
        stream.hear(shown(2, WORDS[2]))


def test_live_chunks_may_come_in_any_order() -> None:
    stream, _ = heard()

    for seq in (2, 1, 0):
        stream.hear(shown(seq, WORDS[seq]))

    assert popped(stream) == [*WORDS]


def test_a_live_chunk_that_did_not_come_is_asked_for_once_the_end_is_told() -> None:
    stream, _ = heard(WORDS[0])

    stream.close(told_of(*WORDS, complete=True))

    assert stream.needs_replay
    stream.rejoin(told_of(*WORDS, complete=True))
    stream.hear(replayed(1, WORDS[1]))
    stream.hear(replayed(2, WORDS[2]))
    assert popped(stream) == [*WORDS[1:]]
    assert stream.is_complete


def test_a_stream_is_complete_once_all_of_it_is_here_and_fits() -> None:
    stream, _ = heard(*WORDS[:2])

    stream.close(told_of(*WORDS, complete=True))
    assert not stream.is_complete
    stream.hear(shown(2, WORDS[2]))

    assert popped(stream) == [WORDS[2]]
    assert stream.is_complete
    assert stream.durable_seq == 3


def test_a_stream_without_chunks_is_complete_at_once() -> None:
    stream, _ = heard()

    stream.close(told_of(complete=True))

    assert stream.is_complete


def test_a_checksum_that_does_not_fit_is_an_error() -> None:
    stream, _ = heard(*WORDS)

    with pytest.raises(LyingServer, match="checksum"):
        stream.close(told_of(*WORDS, complete=True) | {"checksum": "0" * 64})


def test_a_stream_is_taken_from_a_position_on_and_its_end_is_verified_by_the_digest() -> None:
    before, _ = heard(*WORDS[:2])

    stream = IncomingStream(before.position)
    stream.rejoin(told_of(*WORDS, complete=True))
    stream.hear(replayed(2, WORDS[2]))

    assert popped(stream) == [WORDS[2]]
    assert stream.is_complete
    assert stream.position.size == 12


def test_what_waits_to_be_handed_on_is_dropped_by_a_join_and_replayed() -> None:
    stream, _ = heard()
    stream.hear(shown(1, b"lost and never stored"))

    stream.rejoin(told_of(*WORDS[:2]))
    stream.hear(replayed(0, WORDS[0]))
    stream.hear(replayed(1, WORDS[1]))

    assert popped(stream) == [*WORDS[:2]]
    assert stream.durable_seq == 2


def test_what_waited_is_not_handed_on_in_the_place_of_what_comes_after_a_loss() -> None:
    stream, _ = heard()
    stream.hear(shown(1, b"lost and never stored"))

    stream.rejoin(told_of())
    stream.hear(shown(0, WORDS[0]))

    assert popped(stream) == [WORDS[0]]


# Losses.


def test_a_chunk_that_is_known_to_be_stored_is_not_taken_back() -> None:
    stream, _ = heard(*WORDS)
    stream.rejoin(told_of(*WORDS))

    stream.hear(shown(1, b"moon"))

    assert popped(stream) == []
    assert stream.position.seq == 3


def test_what_comes_behind_a_comparison_is_as_unsure_as_before() -> None:
    stream, _ = heard(*WORDS)
    stream.rejoin(told_of(*WORDS[:1]))

    stream.rejoin(told_of(b"hello ", b"moon"))

    with pytest.raises(StreamRewritten) as told:
        stream.pop()
    assert (told.value.seq, told.value.size) == (1, 6)


def test_chunks_that_were_lost_and_come_again_are_not_handed_on_twice() -> None:
    stream, _ = heard(*WORDS)

    stream.rejoin(told_of(*WORDS[:1]))
    assert (stream.durable_seq, stream.position.seq) == (1, 3)
    for seq in (1, 2):
        stream.hear(shown(seq, WORDS[seq]))

    assert popped(stream) == []
    stream.close(told_of(*WORDS, complete=True))
    assert stream.is_complete


def test_chunks_that_come_again_with_other_bytes_are_told_once_and_replace_the_others() -> None:
    stream, _ = heard(*WORDS)
    stream.rejoin(told_of(*WORDS[:1]))

    stream.hear(shown(1, b"moon"))
    stream.hear(shown(2, b"?"))

    with pytest.raises(StreamRewritten) as told:
        stream.pop()
    assert (told.value.seq, told.value.size) == (1, 6)
    assert popped(stream) == [b"moon", b"?"]
    stream.close(told_of(b"hello ", b"moon", b"?", complete=True))
    assert stream.is_complete


def test_other_bytes_that_were_stored_meanwhile_are_noticed_by_the_digest_and_replayed_from_what_is_sure() -> None:
    stream, _ = heard(*WORDS)
    now = (b"hello ", b"moon", b"?", b"!")

    stream.rejoin(told_of(*now))
    stream.hear(replayed(3, now[3]))
    with pytest.raises(StreamRewritten) as told:
        stream.pop()

    assert (told.value.seq, told.value.size, stream.needs_replay) == (0, 0, True)
    stream.rejoin(told_of(*now))
    for seq, chunk in enumerate(now):
        stream.hear(replayed(seq, chunk))
    assert popped(stream) == [*now]
    assert not stream.needs_replay


def test_other_bytes_are_noticed_by_the_join_alone_where_nothing_new_is_stored() -> None:
    stream, _ = heard(*WORDS)

    stream.rejoin(told_of(b"hello ", b"moon"))

    assert stream.needs_replay
    with pytest.raises(StreamRewritten):
        stream.pop()


def test_more_than_is_remembered_is_replayed_rather_than_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_streams, "REMEMBERED_MAX", 2)
    stream, _ = heard(*WORDS)

    stream.rejoin(told_of(*WORDS[:1]))

    assert stream.needs_replay
    assert stream.position.seq == 0


def test_stored_chunks_that_do_not_lead_to_the_digest_are_an_error() -> None:
    stream = IncomingStream()
    stream.rejoin(told_of(*WORDS))
    for seq, chunk in enumerate((b"hello ", b"moon", b"!")):
        stream.hear(replayed(seq, chunk))

    with pytest.raises(LyingServer, match="another digest"):
        popped(stream)


def test_a_server_that_has_lost_what_was_stored_is_not_believed() -> None:
    stream, _ = heard()
    stream.rejoin(told_of(*WORDS))
    for seq, chunk in enumerate(WORDS):
        stream.hear(replayed(seq, chunk))
    assert popped(stream) == [*WORDS]

    with pytest.raises(LyingServer, match="2 is missing now"):
        stream.rejoin(told_of(*WORDS[:2]))


class Relay:
    """A stream between a sender, a server and a receiver, each of which may lose what it has not stored.

    Args:
        draw: Chooses what happens.
    """

    def __init__(self, draw: st.DataObject) -> None:
        self.draw = draw
        self.stored: list[bytes] = []
        self.underway: list[bytes] = []
        self.stream = IncomingStream()
        self.application: list[bytes] = []
        self.made = 0
        self.join()

    def act(self) -> None:
        act = self.draw.draw(st.sampled_from(("send", "send", "store", "store", "crash", "leave", "repeat")))
        if act == "send":
            self.send()
        elif act == "store" and self.underway:
            self.stored.append(self.underway.pop(0))
        elif act == "crash":
            again, self.underway = self.underway, []
            is_forgetful = self.draw.draw(st.booleans())
            self.join()
            for chunk in again:
                self.send(None if is_forgetful else chunk)
        elif act == "leave":
            self.stored += self.underway
            self.underway.clear()
            self.join()
        elif act == "repeat" and self.stored:
            seq = self.draw.draw(st.integers(0, len(self.stored) - 1))
            self.stream.hear(relayed(seq, self.stored[seq]))
        self.read()

    def send(self, chunk: bytes | None = None) -> None:
        self.made += 1
        form = self.draw.draw(st.sampled_from((b"chunk %d;", b"\xff%d")))
        made = chunk or form % self.made
        self.underway.append(made)
        self.stream.hear(relayed(len(self.stored) + len(self.underway) - 1, made))

    def join(self) -> None:
        while True:
            self.stream.rejoin(told_of(*self.stored))
            if not self.stream.needs_replay:
                break
        for seq in range(self.stream.position.seq, len(self.stored)):
            chunk = relayed(seq, self.stored[seq])
            self.stream.hear(chunk if isinstance(chunk, bytes) else {**chunk, "replay": True})

    def forget(self, rewritten: StreamRewritten) -> None:
        del self.application[rewritten.seq :]
        assert len(b"".join(self.application)) == rewritten.size

    def read(self) -> None:
        """The application keeps what is handed on, and forgets what it is told to forget."""
        while True:
            try:
                chunk = self.stream.pop()
            except StreamRewritten as rewritten:
                self.forget(rewritten)
                if self.stream.needs_replay:
                    self.join()
                    for seq, again in enumerate(self.underway, len(self.stored)):
                        self.stream.hear(relayed(seq, again))
                continue
            if chunk is None:
                break
            self.application.append(chunk)
        assert len(self.application) == self.stream.position.seq


@given(st.data())
def test_whatever_is_lost_and_rewritten_the_application_has_what_is_stored_in_the_end(draw: st.DataObject) -> None:
    relay = Relay(draw)

    for _ in range(draw.draw(st.integers(1, 40))):
        relay.act()
    relay.stored += relay.underway
    relay.stream.close(told_of(*relay.stored, complete=True))
    relay.read()

    assert relay.application == relay.stored
    assert relay.stream.is_complete
