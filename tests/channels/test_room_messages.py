"""What is written in rooms: whom a text reaches, which markers it keeps, and that events reach nobody."""

import json
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.room_messages import POST_EVENT, SEND, RoomSending, SendText, shown_message
from channels.told import Broadcast
from tests.channels.roles import market_with
from tests.channels.room_play import ALICE, BOB, CAROL, JANE, JOHN, MALLORY, RoomPlay, furnished, identity, refusing

BOBS, CAROLS, ALICES = (who.agent.handle for who in (BOB, CAROL, ALICE))
OF_BOB, OF_CAROL = (f"@[[{who.id}]]" for who in (BOB, CAROL))
NOBODY = "99999999-9999-4999-8999-999999999999"


def kept(content: str, *mentions: Any, sender: Any = ALICE) -> str:
    """A text to Bob, or to others, as it is kept; the room is Alice's, Bob's, Carol's and Jane's."""
    play, room = furnished(BOB, CAROL, JANE)
    sent = play.send(sender, room, content, *(mentions or (BOB,)))
    return play.messages[sent["id"]].content


class TestReaching:
    def test_a_text_is_pushed_to_those_whom_it_mentions_and_waits_for_them(self) -> None:
        play, room = furnished(BOB, CAROL, JANE)

        sent = play.send(ALICE, room, "Hello", BOB, JANE)

        recipients = [
            {"id": BOB.id, "handle": BOBS, "name": "bob"},
            {"id": JANE.user_id, "handle": "jane", "name": "Jane"},
        ]
        assert sent == {"id": sent["id"], "success": True, "recipients": recipients}
        (told,) = play.told
        assert isinstance(told, Broadcast)
        assert (told.topic, told.event) == (f"chat_room:{room}", "message_created")
        assert told.to == frozenset([BOB.id, JANE.user_id])
        assert [*play.deliveries] == [f"{sent['id']}:{BOB.id}", f"{sent['id']}:{JANE.user_id}"]
        for id_, delivery in play.deliveries.items():
            assert (delivery.id, delivery.status, delivery.attempt_number) == (id_, "delivered", 0)

    def test_it_is_told_as_it_is_kept(self) -> None:
        play, room = furnished(BOB)

        sent = play.send(ALICE, room, "Hello", BOB)

        ((_, told),) = play.events(f"chat_room:{room}")
        assert told == {
            "id": sent["id"],
            "chat_room_id": room,
            "content": f"{OF_BOB} Hello",
            "message_type": "text",
            "sender_id": ALICE.id,
            "sender_type": "Agent",
            "sender_name": "alice",
            "metadata": {"mentions": [{"id": BOB.id, "handle": BOBS, "name": "bob"}]},
            "attachments": [],
            "inserted_at": "2026-03-01T12:00:00Z",
            "updated_at": "2026-03-01T12:00:00Z",
        }

    def test_a_user_writes_too(self) -> None:
        play, room = furnished(BOB, JANE)

        play.send(JANE, room, "Hello", BOB)

        assert play.events(f"chat_room:{room}")[0][1]["sender_type"] == "User"

    @pytest.mark.parametrize("handle", [BOBS, f"@{BOBS}", BOBS.upper(), f"@{BOBS.title()}"])
    def test_a_handle_names_a_participant_in_any_way_of_writing_it(self, handle: str) -> None:
        play, room = furnished(BOB)

        sent = play.send(ALICE, room, "Hello", {"handle": handle})

        assert [one["id"] for one in sent["recipients"]] == [BOB.id]

    def test_an_id_names_one_in_any_case_of_letters_and_is_no_handle(self) -> None:
        play, room = furnished(BOB)

        sent = play.send(ALICE, room, "Hello", {"id": BOB.id.upper()})

        assert [one["id"] for one in sent["recipients"]] == [BOB.id]
        for handle in (BOBS, f"@{BOBS}"):
            with refusing(play, "invalid", "mentioned_participant_not_in_room"):
                play.send(ALICE, room, "Hello", {"id": handle})
        with refusing(play, "invalid", "handle_not_found"):
            play.send(ALICE, room, "Hello", {"handle": BOB.id})

    @pytest.mark.parametrize("handle", ["", CAROLS, "nobody", None])
    def test_where_there_is_an_id_the_handle_says_nothing(self, handle: str | None) -> None:
        play, room = furnished(BOB, CAROL)

        sent = play.send(ALICE, room, "Hello", {"id": BOB.id, "handle": handle, "name": "Carol"})

        assert [one["id"] for one in sent["recipients"]] == [BOB.id]

    def test_a_reference_is_only_spoken_of(self) -> None:
        play, room = furnished(BOB, CAROL)

        sent = play.send(ALICE, room, f"Ask @{CAROLS}", BOB, {"id": CAROL.id, "kind": "reference"})

        assert [one["id"] for one in sent["recipients"]] == [BOB.id]
        assert play.messages[sent["id"]].content == f"{OF_BOB} Ask @{CAROLS}"
        assert len(play.deliveries) == 1

    def test_a_reference_may_be_to_an_outsider_and_to_oneself_and_twice(self) -> None:
        play, room = furnished(BOB)
        references = [{"id": id_, "kind": "reference"} for id_ in (MALLORY.id, ALICE.id, BOB.id, BOB.id)]

        assert len(play.send(ALICE, room, "Hello", BOB, *references)["recipients"]) == 1

    def test_a_name_that_one_does_not_have_any_more_is_null(self) -> None:
        play, room = furnished(BOB)
        payload = {"message": {"content": "Hi", "mentions": [{"id": BOB.id}]}}
        decision = SEND.decide(
            RoomSending(room=play.rooms[room]), msgspec.convert(payload, SendText), play.context(ALICE)
        )

        assert decision.reply.recipients[0].name is None


class TestMentions:
    @pytest.mark.parametrize(
        ("mention", "reason"),
        [
            ({}, "mention_missing_identifier"),
            ({"name": "Bob"}, "mention_missing_identifier"),
            ({"id": "", "handle": ""}, "mention_missing_identifier"),
            ({"id": None, "handle": None}, "mention_missing_identifier"),
            ({"kind": "reference"}, "mention_missing_identifier"),
            ({"id": BOB.id, "kind": "shout"}, "invalid_mention_kind"),
            ({"id": BOB.id, "kind": None}, "invalid_mention_kind"),
            ({"id": MALLORY.id}, "mentioned_participant_not_in_room"),
            ({"id": "nobody"}, "mentioned_participant_not_in_room"),
            ({"id": JANE.user_id}, "mentioned_participant_not_in_room"),
            ({"id": MALLORY.id, "handle": BOBS}, "mentioned_participant_not_in_room"),
            ({"handle": MALLORY.agent.handle}, "handle_not_found"),
            ({"handle": "@@jane/bob"}, "handle_not_found"),
            ({"handle": "@"}, "handle_not_found"),
            ({"id": ALICE.id}, "cannot_mention_self"),
            ({"handle": f"@{ALICES}"}, "cannot_mention_self"),
        ],
    )
    def test_one_that_names_nobody_in_the_room_refuses_the_text(self, mention: dict[str, Any], reason: str) -> None:
        play, room = furnished(BOB)

        with refusing(play, "invalid", reason, field="message.mentions"):
            play.send(ALICE, room, "Hello", mention)
        with refusing(play, "invalid", reason, field="message.mentions"):
            play.send(ALICE, room, "Hello", BOB, mention)

    def test_the_sentence_about_outsiders_is_the_one_that_bands_clients_know(self) -> None:
        play, room = furnished(BOB)

        with pytest.raises(Exception, match="mentioned_participant_not_in_room") as caught:
            play.send(ALICE, room, "Hello", MALLORY)

        assert str(caught.value) == "mentioned_participant_not_in_room"

    def test_nobody_is_mentioned_twice_in_whichever_way(self) -> None:
        play, room = furnished(BOB)

        for again in ({"id": BOB.id}, {"handle": BOBS}, {"handle": f"@{BOBS.upper()}"}):
            with refusing(play, "invalid", "duplicate_mentions", field="message.mentions"):
                play.send(ALICE, room, "Hello", BOB, again)

    def test_somebody_is_mentioned(self) -> None:
        play, room = furnished(BOB)

        with refusing(play, "invalid", "mentions_required", field="message.mentions"):
            play.send(ALICE, room, f"Hello @{BOBS} {OF_BOB}")
        with refusing(play, "invalid", "mentions_required", field="message.mentions"):
            play.send(ALICE, room, "Hello", {"id": BOB.id, "kind": "reference"})

    def test_who_has_left_between_is_an_outsider(self) -> None:
        play, room = furnished(BOB, CAROL)
        play.remove(BOB, room, BOB)

        with refusing(play, "invalid", "mentioned_participant_not_in_room"):
            play.send(ALICE, room, "Hello", BOB, CAROL)
        with refusing(play, "invalid", "handle_not_found"):
            play.send(ALICE, room, "Hello", {"handle": BOBS})

    def test_there_are_so_many_and_no_more(self) -> None:
        play, room = furnished(BOB, market=market_with(room_mentions_max=2))
        reference = {"id": CAROL.id, "kind": "reference"}

        assert play.send(ALICE, room, "Hello", BOB, reference)["success"]
        with refusing(play, "invalid", "invalid_payload", field="message.mentions"):
            play.send(ALICE, room, "Hello", BOB, reference, reference)

    def test_an_outsider_writes_nothing(self) -> None:
        play, room = furnished(BOB)

        for who in (MALLORY, JOHN, JANE):
            with refusing(play, "not_found", "not_found"):
                play.send(who, room, "Hello", BOB)
            with refusing(play, "not_found", "not_found"):
                play.note(who, room, "Hm")
        with refusing(play, "not_found", "not_found"):
            play.send(ALICE, "nothing", "Hello", BOB)

    def test_who_was_removed_writes_nothing(self) -> None:
        play, room = furnished(BOB, CAROL)
        play.remove(ALICE, room, BOB)

        with refusing(play, "not_found", "not_found"):
            play.send(BOB, room, "Hello", CAROL)


class TestMarkers:
    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            ("Hello", f"{OF_BOB} Hello"),
            (f"Hello @{BOBS}", f"Hello {OF_BOB}"),
            (f"@{BOBS.upper()}, hello", f"{OF_BOB}, hello"),
            (f"Hello @{BOBS}.", f"Hello {OF_BOB}."),
            (f"Hello @{BOBS}...", f"Hello {OF_BOB}..."),
            (f"Hello @{BOBS}, @{BOBS}!", f"Hello {OF_BOB}, @{BOBS}!"),
            (f"(@{BOBS})", f"({OF_BOB})"),
            (f"@{BOBS}'s", f"{OF_BOB}'s"),
            (f"@{BOBS}-2 is another", f"{OF_BOB} @{BOBS}-2 is another"),
            (f"@{BOBS}/more", f"{OF_BOB} @{BOBS}/more"),
            ("@jane is his user", f"{OF_BOB} @jane is his user"),
            (f"x@{BOBS}", f"{OF_BOB} x@{BOBS}"),
            (f"é@{BOBS}", f"{OF_BOB} é@{BOBS}"),
            (f"@@{BOBS}", f"{OF_BOB} @@{BOBS}"),
            (OF_BOB, OF_BOB),
            (f"Hello {OF_BOB.upper()}", f"Hello {OF_BOB}"),
            (f"{OF_BOB} and @{BOBS}", f"{OF_BOB} and @{BOBS}"),
            (f"@{BOBS} and {OF_BOB}", f"@{BOBS} and {OF_BOB}"),
            (f"{OF_BOB}{OF_BOB}", f"{OF_BOB}{OF_BOB}"),
            (f"@{BOBS}.x @{BOBS}", f"@{BOBS}.x {OF_BOB}"),
            (f"@{BOBS}_é", f"{OF_BOB}_é"),
            ("@jane/bo\u212a @jane/\u017fbob", f"{OF_BOB} @jane/bo\u212a @jane/\u017fbob"),
        ],
    )
    def test_who_is_mentioned_has_one_where_it_is_named_or_in_front(self, content: str, expected: str) -> None:
        assert kept(content) == expected

    def test_those_who_are_not_named_come_in_front_in_their_order(self) -> None:
        assert kept("Hello", CAROL, BOB) == f"{OF_CAROL} {OF_BOB} Hello"
        assert kept(f"Hello @{BOBS}", CAROL, BOB) == f"{OF_CAROL} Hello {OF_BOB}"
        assert kept(f"@{CAROLS} @{BOBS}", BOB, CAROL) == f"{OF_CAROL} {OF_BOB}"

    def test_a_user_is_named_by_one_segment(self) -> None:
        assert kept("Hello @jane.", JANE) == f"Hello @[[{JANE.user_id}]]."
        assert kept(f"Hello @{BOBS}", JANE) == f"@[[{JANE.user_id}]] Hello @{BOBS}"

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            (f"ask {OF_CAROL}", f"{OF_BOB} ask @{CAROLS}"),
            (f"ask {OF_CAROL.upper()}", f"{OF_BOB} ask @{CAROLS}"),
            (f"ask @[[{NOBODY}]]", f"{OF_BOB} ask @{NOBODY}"),
            (f"I am @[[{ALICE.id}]]", f"{OF_BOB} I am @{ALICES}"),
            (f"@[[@[[{CAROL.id}]]]]", f"{OF_BOB} @[[@{CAROLS}]]"),
            (f"@@[[{CAROL.id}]][[{CAROL.id}]]", f"{OF_BOB} @@{CAROLS}[[{CAROL.id}]]"),
            ("@[[]] @[[x]]", f"{OF_BOB} @[[]] @[[x]]"),
        ],
    )
    def test_one_that_was_typed_by_hand_is_taken_apart_for_everybody_else(self, content: str, expected: str) -> None:
        play, room = furnished(BOB, CAROL, JANE)

        sent = play.send(ALICE, room, content, BOB)

        assert play.messages[sent["id"]].content == expected
        assert [one["id"] for one in sent["recipients"]] == [BOB.id]
        assert [*play.deliveries] == [f"{sent['id']}:{BOB.id}"]

    @given(
        st.lists(
            st.sampled_from([
                *("@[[", "]]", "@", "[", "]", " ", ".", "/", "x", "\u200b", "é", "@[["),
                *(BOB.id, CAROL.id, ALICE.id, NOBODY, BOB.id.upper(), BOBS, CAROLS, "jane", "JANE", "bob"),
            ]),
            min_size=1,
        ),
        st.lists(st.sampled_from([BOB, CAROL, JANE]), min_size=1, unique_by=id),
    )  # fmt: skip
    def test_whatever_is_typed_the_markers_are_the_mentions(self, pieces: list[str], mentioned: list[Any]) -> None:
        content = "".join(pieces)
        if not any(char.isalnum() or char in "@[]./" for char in content):
            content += "x"
        text = kept(content, *mentioned)

        rest = text
        for who in mentioned:
            marker = f"@[[{identity(who).id}]]"
            assert marker in text
            rest = rest.replace(marker, "")
        for id_ in (BOB.id, CAROL.id, ALICE.id, JANE.user_id, NOBODY):
            marker = f"@[[{id_}]]"
            assert marker in text or marker not in text.lower()
            assert (marker in text) is (id_ in {identity(who).id for who in mentioned})

    def test_a_text_grows_by_a_marker_for_each_mention_at_most(self) -> None:
        content = f"@{BOBS} " * 1_000

        assert len(kept(content)) - len(content) == len(OF_BOB) - len(BOBS) - 1

    def test_of_handles_that_begin_alike_the_whole_one_counts(self) -> None:
        jane = f"@[[{JANE.user_id}]]"

        assert kept(f"@jane @{BOBS}", JANE, BOB) == f"{jane} {OF_BOB}"
        assert kept(f"@{BOBS} @jane", JANE, BOB) == f"{OF_BOB} {jane}"
        assert kept(f"@jane @jane @{BOBS}", JANE, BOB) == f"{jane} @jane {OF_BOB}"
        assert kept(f"@{BOBS} @jane/x", JANE, BOB) == f"{jane} {OF_BOB} @jane/x"

    def test_the_longest_text_is_marked_fast(self) -> None:
        play, room = furnished(BOB)
        for content in ("@a " * 174_762, "@" * 524_287 + "a", f"@{BOBS}x " * 47_000, "\u200b" * 170_000 + "a"):
            started = time.perf_counter()
            play.send(ALICE, room, content, BOB)
            assert time.perf_counter() - started < 2, "a text must not hold up the others"


class TestContents:
    @pytest.mark.parametrize(
        "content",
        ["", " ", "\n\t ", "\u200b", "\u200d\u2060\ufeff", "\u202e\u200f", "\0", "\u0301", "\u3164", "\uffa0 \u2800"],
    )
    def test_a_text_or_event_in_which_there_is_nothing_to_see_is_refused(self, content: str) -> None:
        play, room = furnished(BOB)

        with refusing(play, "invalid", "invalid_payload", field="message.content"):
            play.send(ALICE, room, content, BOB)
        with refusing(play, "invalid", "invalid_payload", field="event.content"):
            play.note(ALICE, room, content)

    @pytest.mark.parametrize("content", ["\u200b" * 100 + ".", "👍", "\x1b[1m", "a\0b", " a\r\n\tb ", "日本"])
    def test_what_there_is_comes_as_it_was_written(self, content: str) -> None:
        assert kept(content) == f"{OF_BOB} {content}"

    def test_a_text_has_so_many_bytes_and_no_more(self) -> None:
        play, room = furnished(BOB, market=market_with(room_content_bytes_max=10))

        assert play.send(ALICE, room, "ä" * 5, BOB)["success"]
        with refusing(play, "invalid", "invalid_payload", field="message.content"):
            play.send(ALICE, room, "ä" * 5 + "a", BOB)

    @pytest.mark.parametrize("attachment_ids", [None, []])
    def test_no_attachments_are_no_matter(self, attachment_ids: list[str] | None) -> None:
        play, room = furnished(BOB)

        assert play.send(ALICE, room, "Hello", BOB, attachment_ids=attachment_ids)["success"]

    def test_an_attachment_is_unknown(self) -> None:
        play, room = furnished(BOB)

        with refusing(play, "invalid", "unknown_attachment", field="message.attachment_ids"):
            play.send(ALICE, room, "Hello", BOB, attachment_ids=["x"])


class TestEvents:
    @pytest.mark.parametrize("type_", ["tool_call", "tool_result", "thought", "error", "task", "attention"])
    def test_an_event_is_kept_and_reaches_nobody(self, type_: str) -> None:
        play, room = furnished(BOB)
        metadata = {"contact_event_type": "added", "deep": [{"a": None}]}

        posted = play.note(ALICE, room, f"Hm @{BOBS} {OF_BOB}", type_, metadata)

        assert posted == {"id": posted["id"], "message_type": type_, "success": True}
        assert (play.told, play.deliveries) == ([], {})
        kept_event = play.messages[posted["id"]]
        assert (kept_event.content, kept_event.metadata) == (f"Hm @{BOBS} {OF_BOB}", metadata)
        assert not kept_event.is_text

    def test_it_is_shown_with_what_its_sender_has_added(self) -> None:
        play, room = furnished()

        for metadata in (None, {"mentions": "mine"}):
            posted = play.note(ALICE, room, "Hm", metadata=metadata)
            assert shown_message(play.messages[posted["id"]]).metadata == metadata

    @pytest.mark.parametrize("type_", ["text", "system", "participant", ""])
    def test_there_are_no_other_types(self, type_: str) -> None:
        play, room = furnished(BOB)

        with pytest.raises(msgspec.ValidationError):
            play.note(ALICE, room, "Hm", type_)

    def test_an_event_has_so_many_characters_and_no_more(self) -> None:
        play, room = furnished()

        assert play.note(ALICE, room, "ä" * 16_384)["success"]
        with refusing(play, "invalid", "invalid_payload", field="event.content"):
            play.note(ALICE, room, "ä" * 16_385)

    def test_its_metadata_has_so_many_bytes_and_no_more(self) -> None:
        play, room = furnished(market=market_with(room_metadata_bytes_max=10))

        assert play.note(ALICE, room, "Hm", metadata=json.loads('{"a":1234}'))["success"]
        with refusing(play, "invalid", "invalid_payload", field="event.metadata"):
            play.note(ALICE, room, "Hm", metadata={"a": 123456})

    def test_its_metadata_nests_no_deeper_than_everything(self) -> None:
        play, room = furnished()
        deep: dict[str, Any] = {}
        for _ in range(65):
            deep = {"a": deep}

        with refusing(play, "invalid", "invalid_payload", field="event.metadata"):
            play.note(ALICE, room, "Hm", metadata=deep)


def test_what_is_written_needs_the_scope_of_rooms_and_costs_its_bytes() -> None:
    for handler in (SEND, POST_EVENT):
        assert (handler.scope, handler.rate) == ("rooms", "message")
    assert RoomPlay().rooms == {}
