"""How far a reader is with what mentions it: attempts begin, end, and begin again; only people are told."""

from typing import Any

import pytest

from channels.room_deliveries import ATTEMPTS_KEPT, ATTEMPTS_TOLD
from channels.room_messages import shown_message
from channels.room_state import Delivery
from channels.told import Broadcast
from tests.channels.roles import as_told, market_with
from tests.channels.room_play import ALICE, BOB, CAROL, JANE, JOHN, MALLORY, RoomPlay, furnished, refusing


def sent_to_bob(*others: Any) -> tuple[RoomPlay, str, str]:
    """A text of Alice's to Bob, and to others of the room."""
    play, room = furnished(BOB, CAROL, JANE)
    message = play.send(ALICE, room, "Work!", BOB, *others)["id"]
    play.told.clear()
    return play, room, message


def delivery(play: RoomPlay, message: str) -> Delivery:
    return play.deliveries[f"{message}:{BOB.id}"]


class TestAttempts:
    def test_the_first_begins_with_processing(self) -> None:
        play, room, message = sent_to_bob()
        play.advance(1)

        marked = play.mark(BOB, room, message, "processing")

        assert marked == {"id": message, "status": "processing", "attempt_number": 1, "success": True}
        (attempt,) = delivery(play, message).attempts
        assert (attempt.number, attempt.status, attempt.started_at, attempt.ended_at) == (
            1,
            "processing",
            play.now,
            None,
        )
        assert delivery(play, message).updated_at == play.now

    def test_while_it_is_under_way_processing_changes_nothing(self) -> None:
        play, room, message = sent_to_bob(JANE)
        first = play.mark(BOB, room, message, "processing")
        before = play.everything()
        play.advance(1)

        assert play.mark(BOB, room, message, "processing") == first
        assert play.everything() == before

    @pytest.mark.parametrize(("end", "error"), [("processed", None), ("failed", "it broke")])
    def test_it_ends_once(self, end: str, error: str | None) -> None:
        play, room, message = sent_to_bob()
        play.mark(BOB, room, message, "processing")
        play.advance(1)

        marked = play.mark(BOB, room, message, end)

        assert marked == {"id": message, "status": end, "attempt_number": 1, "success": True}
        (attempt,) = delivery(play, message).attempts
        assert (attempt.status, attempt.ended_at, attempt.error) == (end, play.now, error)
        for again in ("processed", "failed"):
            with refusing(play, "invalid", "validation_error", field="/processing_attempt"):
                play.mark(BOB, room, message, again)

    @pytest.mark.parametrize("end", ["processed", "failed"])
    def test_none_ends_that_has_not_begun(self, end: str) -> None:
        play, room, message = sent_to_bob()

        with refusing(play, "invalid", "validation_error", field="/processing_attempt"):
            play.mark(BOB, room, message, end)

    @pytest.mark.parametrize("end", ["processed", "failed"])
    def test_after_any_end_another_one_begins(self, end: str) -> None:
        play, room, message = sent_to_bob()
        play.mark(BOB, room, message, "processing")
        play.mark(BOB, room, message, end)

        assert play.mark(BOB, room, message, "processing")["attempt_number"] == 2
        assert delivery(play, message).status == "processing"
        assert [attempt.status for attempt in delivery(play, message).attempts] == [end, "processing"]

    def test_only_the_newest_are_kept_and_their_numbers_go_on(self) -> None:
        play, room, message = sent_to_bob()
        for _ in range(ATTEMPTS_KEPT + 2):
            play.mark(BOB, room, message, "processing")
            play.mark(BOB, room, message, "failed")

        attempts = delivery(play, message).attempts
        assert [attempt.number for attempt in attempts] == [3, 4, 5, 6, 7]
        assert delivery(play, message).attempt_number == 7

    def test_an_error_has_so_many_characters_and_may_be_empty(self) -> None:
        play, room, message = sent_to_bob()
        play.market = market_with(room_event_chars_max=3)
        play.mark(BOB, room, message, "processing")

        with refusing(play, "invalid", "invalid_payload", field="error"):
            play.mark(BOB, room, message, "failed", "four")
        play.mark(BOB, room, message, "failed", "")
        assert delivery(play, message).attempts[0].error == ""

    def test_the_error_of_the_newest_that_has_failed_is_kept_and_no_other(self) -> None:
        play, room, message = sent_to_bob()
        for error in ("first", "second"):
            play.mark(BOB, room, message, "processing")
            play.mark(BOB, room, message, "failed", error)

        assert [one.error for one in delivery(play, message).attempts] == [None, "second"]
        play.mark(BOB, room, message, "processing")
        assert [one.error for one in delivery(play, message).attempts] == [None, "second", None]
        play.mark(BOB, room, message, "processed")
        assert [one.error for one in delivery(play, message).attempts] == [None, "second", None]

    def test_each_reader_has_its_own(self) -> None:
        play, room, message = sent_to_bob(CAROL)

        play.mark(BOB, room, message, "processing")

        assert play.deliveries[f"{message}:{CAROL.id}"].status == "delivered"
        with refusing(play, "invalid", "validation_error"):
            play.mark(CAROL, room, message, "processed")


class TestWhose:
    @pytest.mark.parametrize("how", ["processing", "processed", "failed"])
    def test_only_who_is_mentioned_marks_it(self, how: str) -> None:
        play, room, message = sent_to_bob()

        for who in (ALICE, CAROL, JANE, MALLORY, JOHN):
            with refusing(play, "not_found", "not_found"):
                play.mark(who, room, message, how)

    @pytest.mark.parametrize("how", ["processing", "processed", "failed"])
    def test_an_unknown_one_and_one_of_another_room_are_not_found(self, how: str) -> None:
        play, room, message = sent_to_bob()
        other = play.make(ALICE)
        play.add(ALICE, other, BOB)

        for room_, message_ in ((other, message), (room, "nothing"), ("nothing", message)):
            with refusing(play, "not_found", "not_found"):
                play.mark(BOB, room_, message_, how)

    def test_an_event_has_no_readers(self) -> None:
        play, room, _ = sent_to_bob()
        noted = play.note(ALICE, room, "Hm")["id"]

        with refusing(play, "not_found", "not_found"):
            play.mark(BOB, room, noted, "processing")

    def test_who_was_removed_marks_nothing_and_goes_on_once_it_is_back(self) -> None:
        play, room, message = sent_to_bob()
        play.mark(BOB, room, message, "processing")
        play.remove(ALICE, room, BOB)

        with refusing(play, "not_found", "not_found"):
            play.mark(BOB, room, message, "processed")
        play.add(ALICE, room, BOB)
        assert play.mark(BOB, room, message, "processed")["attempt_number"] == 1


class TestTold:
    def test_agents_are_told_nothing(self) -> None:
        play, room, message = sent_to_bob(CAROL)

        play.mark(BOB, room, message, "processing")
        play.mark(BOB, room, message, "processed")

        assert play.told == []

    def test_the_people_whom_it_mentions_are_told_of_the_one_reader(self) -> None:
        play, room, message = sent_to_bob(JANE)

        play.mark(BOB, room, message, "processing")

        (told,) = play.told
        assert isinstance(told, Broadcast)
        assert (told.topic, told.event, told.to) == (f"chat_room:{room}", "message_updated", frozenset([JANE.user_id]))
        payload = as_told(told.payload)
        assert payload["metadata"]["delivery_status"].keys() == {BOB.id}
        assert payload["metadata"]["delivery_status"][BOB.id]["status"] == "processing"
        assert payload == as_told(shown_message(play.messages[message], (delivery(play, message),)))

    def test_so_is_a_sender_who_is_a_person(self) -> None:
        play, room = furnished(BOB, JANE)
        message = play.send(JANE, room, "Work!", BOB)["id"]
        play.told.clear()

        play.mark(BOB, room, message, "processing")

        assert [one.to for one in play.told if isinstance(one, Broadcast)] == [frozenset([JANE.user_id])]

    def test_they_are_told_of_the_first_attempts_alone_and_never_at_the_price_of_their_socket(self) -> None:
        play, room, message = sent_to_bob(JANE)

        for _ in range(ATTEMPTS_TOLD + 2):
            play.mark(BOB, room, message, "processing")
            play.mark(BOB, room, message, "processed")

        told = [one for one in play.told if isinstance(one, Broadcast)]
        assert [one.event for one in told] == ["message_updated"] * 2 * ATTEMPTS_TOLD
        assert all(one.is_spare for one in told)
        assert delivery(play, message).attempt_number == ATTEMPTS_TOLD + 2

    def test_people_who_have_left_are_not(self) -> None:
        play, room, message = sent_to_bob(JANE)
        play.remove(JANE, room, JANE)
        play.told.clear()

        play.mark(BOB, room, message, "processing")

        assert play.told == []


def test_every_text_says_how_far_those_readers_are_who_are_asked_for() -> None:
    play, _, message = sent_to_bob(CAROL)
    written = play.messages[message]

    shown = as_told(shown_message(written, tuple(play.deliveries.values())))["metadata"]

    assert shown["delivery_status"].keys() == {BOB.id, CAROL.id}
    assert shown["delivery_status"][BOB.id] == {
        "status": "delivered", "attempt_number": 0, "attempts": [], "updated_at": "2026-03-01T12:00:00Z"
    }  # fmt: skip
    assert "delivery_status" not in as_told(shown_message(written))["metadata"]
