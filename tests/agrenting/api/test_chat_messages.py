"""Texts of chat rooms over REST and sockets: whom they reach, what is refused, and how they are listed."""

from typing import Any

import pytest

from agrenting.api import chats
from agrenting.db.room_messages import COUNTED_MAX
from agrenting.rates import Buckets
from tests.agrenting.api.market import Marketplace, Player
from tests.agrenting.api.rooms import (
    CHATS,
    MINE,
    add,
    ear,
    everything,
    make_room,
    mark,
    next_of,
    note,
    send,
    topics_of,
)
from tests.channels.protocol_text import chapter


@pytest.fixture
async def ann(market: Marketplace, alice: Player) -> Player:
    """A sibling of Alice's client."""
    del alice  # Her owner is there first.
    return await market.agent("alice", "Ann")


@pytest.fixture
async def room(alice: Player, bob: Player) -> str:
    """Alice's room, with Bob."""
    made = await make_room(alice, title="Plans")
    await add(alice, made, bob)
    return made


class TestMessages:
    async def test_a_text_reaches_those_whom_it_mentions_and_nobody_else(
        self, market: Marketplace, alice: Player, bob: Player, ann: Player, room: str
    ) -> None:
        await add(alice, room, ann)
        ears = {who.id: await ear(market, who.api_key, topics_of(room)[0]) for who in (alice, bob, ann)}
        body = {"message": {"content": "@Bob/Translator work!", "mentions": [{"handle": "@bob/translator"}]}}

        sent = await alice.post(f"{CHATS}/{room}/messages", body)

        assert sent["recipients"] == [{"id": bob.id, "handle": bob.handle, "name": "Translator"}]
        ((topic, event, told),) = ears[bob.id]()
        assert (topic, event) == (f"chat_room:{room}", "message_created")
        assert (told["content"], told["sender_name"]) == (f"@[[{bob.id}]] work!", "Client")
        assert ears[alice.id]() == ears[ann.id]() == []
        (listed,) = await bob.get(f"{CHATS}/{room}/messages")
        assert {name: listed[name] for name in told if name != "metadata"} == {
            name: told[name] for name in told if name != "metadata"
        }
        assert listed["metadata"]["mentions"] == told["metadata"]["mentions"]
        for who in (alice, ann):
            assert await who.get(f"{CHATS}/{room}/messages?status=all") == []

    async def test_a_marker_that_was_typed_by_hand_delivers_nothing(
        self, alice: Player, bob: Player, ann: Player, room: str
    ) -> None:
        await add(alice, room, ann)

        await send(alice, room, bob, content=f"@[[{bob.id}]] not for @[[{ann.id}]]")

        assert (await next_of(bob, room))["content"] == f"@[[{bob.id}]] not for @alice/ann"
        assert await next_of(ann, room) is None

    @pytest.mark.parametrize(
        ("message", "code", "pointer"),
        [
            ({"content": "Hi", "mentions": []}, "mentions_required", "/message/mentions"),
            ({"content": "Hi"}, "mentions_required", "/message/mentions"),
            ({"content": "Hi", "mentions": [{}]}, "mention_missing_identifier", "/message/mentions"),
            ({"content": "Hi", "mentions": [{"id": "x"}]}, "mentioned_participant_not_in_room", "/message/mentions"),
            ({"content": "Hi", "mentions": [{"handle": "x"}]}, "handle_not_found", "/message/mentions"),
            (
                {"content": "Hi", "mentions": [{"handle": "x", "kind": "y"}]},
                "invalid_mention_kind",
                "/message/mentions",
            ),
            ({"content": "Hi", "mentions": [{"handle": "alice/client"}]}, "cannot_mention_self", "/message/mentions"),
            (
                {"content": "Hi", "mentions": [{"handle": "bob/translator"}] * 2},
                "duplicate_mentions",
                "/message/mentions",
            ),
            ({"content": "\u200b ", "mentions": [{"handle": "bob/translator"}]}, "invalid_payload", "/message/content"),
            ({"content": "x" * 524_289, "mentions": []}, "invalid_payload", "/message/content"),
            ({"mentions": []}, "invalid_payload", "/message/content"),
            (
                {"content": "Hi", "mentions": [{"handle": "bob/translator"}], "attachment_ids": ["x"]},
                "unknown_attachment",
                "/message/attachment_ids",
            ),
        ],
    )
    async def test_what_is_wrong_is_named_and_nothing_is_written(
        self, alice: Player, room: str, message: dict[str, Any], code: str, pointer: str
    ) -> None:
        refused = await alice.refused("POST", f"{CHATS}/{room}/messages", {"message": message})

        assert refused.why == (422, code)
        assert refused.details.keys() == {pointer}
        assert await alice.get(f"{CHATS}/{room}/context") == []

    async def test_the_sentence_about_outsiders_is_the_one_that_bands_clients_compare(
        self, alice: Player, mallory: Player, room: str
    ) -> None:
        body = {"message": {"content": "Hi", "mentions": [{"id": mallory.id}]}}

        refused = await alice.refused("POST", f"{CHATS}/{room}/messages", body)

        assert refused.error["message"] == "mentioned_participant_not_in_room"

    @pytest.mark.parametrize("raw", [rb'"\ud800 hi"', rb'"hi \udfff"'])
    async def test_half_a_character_is_none(self, alice: Player, bob: Player, room: str, raw: bytes) -> None:
        body = b'{"message": {"content": %s, "mentions": [{"id": "%s"}]}}' % (raw, bob.id.encode())

        for path in ("messages", "events"):
            answer = await alice.call(
                "POST", f"{CHATS}/{room}/{path}", content=body, headers={"content-type": "application/json"}
            )
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "malformed")

    async def test_the_largest_text_is_taken_and_comes_as_it_was(self, alice: Player, bob: Player, room: str) -> None:
        content = "\x1b\0\u202e👍" * 40_000
        await send(alice, room, bob, content=content)

        assert (await next_of(bob, room))["content"] == f"@[[{bob.id}]] {content}"

    async def test_the_same_text_again_with_its_key_is_one(self, alice: Player, bob: Player, room: str) -> None:
        body = {"message": {"content": "Hi", "mentions": [{"id": bob.id}]}}
        headers = {"idempotency-key": "once"}

        first = await alice.post(f"{CHATS}/{room}/messages", body, headers=headers)

        assert await alice.post(f"{CHATS}/{room}/messages", body, headers=headers) == first
        assert len(await bob.get(f"{CHATS}/{room}/messages")) == 1

    async def test_lists_narrow_by_status_and_go_either_way(self, alice: Player, bob: Player, room: str) -> None:
        sent = [await send(alice, room, bob, content=f"Nr. {number}") for number in range(6)]
        for message in sent[1:5]:
            await mark(bob, room, message, "processing")
        await mark(bob, room, sent[2], "processed")
        await mark(bob, room, sent[3], "failed", "oops")
        await mark(bob, room, sent[4], "failed", "")
        path = f"{CHATS}/{room}/messages"

        async def ids(**query: Any) -> list[str]:
            return [row["id"] for row in await everything(bob, path, **query)]

        assert await ids() == [sent[0], sent[1], *sent[3:]]
        assert await ids(sort_order="desc") == [*reversed([sent[0], sent[1], *sent[3:]])]
        assert await ids(status="pending") == [sent[0], *sent[3:]]
        assert await ids(status="processing") == [sent[1]]
        assert await ids(status="processed") == [sent[2]]
        assert await ids(status="failed") == sent[3:5]
        assert await ids(status="all") == sent
        first = await bob.page(f"{path}?status=all&page=1&page_size=4")
        second = await bob.page(f"{path}?status=all&page=2&page_size=4")
        assert [row["id"] for row in first["data"] + second["data"]] == sent
        assert first["metadata"] == {
            "has_more": True,
            "limit": 4,
            "next_cursor": first["metadata"]["next_cursor"],
            "status_filter": "all",
            "page": 1,
            "page_size": 4,
            "total_count": 6,
            "total_pages": 2,
        }
        assert (await bob.page(f"{path}?status=all&limit=4&cursor={first['metadata']['next_cursor']}"))["data"] == (
            second["data"]
        )
        assert (await bob.page(f"{path}?status=all&page=9"))["data"] == []

    async def test_a_cursor_of_another_list_is_refused(self, alice: Player, bob: Player, room: str) -> None:
        for _ in range(3):
            await send(alice, room, bob)
        cursor = (await bob.page(f"{CHATS}/{room}/messages?limit=1"))["metadata"]["next_cursor"]

        for query in (f"status=all&cursor={cursor}", f"sort_order=desc&cursor={cursor}", "cursor=x", "status=odd"):
            refused = await bob.refused("GET", f"{CHATS}/{room}/messages?{query}")
            assert refused.why[0] == 422

    async def test_of_many_only_so_many_are_reached_by_numbers(
        self, alice: Player, bob: Player, room: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("agrenting.api.chats.COUNTED_MAX", 2)
        for _ in range(3):
            await send(alice, room, bob)

        page = await bob.page(f"{CHATS}/{room}/messages?page=1&page_size=20")

        assert (len(page["data"]), page["metadata"]["total_count"]) == (2, 2)
        assert len(await everything(bob, f"{CHATS}/{room}/messages")) == 3

    async def test_a_sender_who_was_removed_sends_nothing_more(self, alice: Player, bob: Player, room: str) -> None:
        await alice.delete(f"{CHATS}/{room}/participants/{bob.id}")
        body = {"message": {"content": "Hi", "mentions": [{"id": alice.id}]}}

        assert (await bob.refused("POST", f"{CHATS}/{room}/messages", body)).why == (404, "not_found")

    async def test_a_page_of_very_long_texts_ends_early_and_leads_on(
        self, alice: Player, bob: Player, room: str
    ) -> None:
        sent = [await send(alice, room, bob, content="x" * 500_000) for _ in range(6)]

        first = await bob.page(f"{CHATS}/{room}/messages?limit=6")
        numbered = await bob.page(f"{CHATS}/{room}/messages?page=1&page_size=6")

        assert [row["id"] for row in first["data"]] == sent[:5]
        assert first["metadata"]["has_more"] is True
        assert [row["id"] for row in await everything(bob, f"{CHATS}/{room}/messages", limit=6)] == sent
        assert [row["id"] for row in numbered["data"]] == sent

    async def test_so_does_one_by_number_which_a_cursor_leads_on_from(
        self, alice: Player, bob: Player, room: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(chats, "COUNTED_PAGE_BYTES_MAX", 1_000_000)
        sent = [await send(alice, room, bob, content="x" * 500_000) for _ in range(4)]

        page = await bob.page(f"{CHATS}/{room}/messages?page=1&page_size=4")

        assert [row["id"] for row in page["data"]] == sent[:2]
        metadata = page["metadata"]
        assert (metadata["has_more"], metadata["total_count"], metadata["total_pages"]) == (True, 4, 1)
        rest = await bob.page(f"{CHATS}/{room}/messages", params={"cursor": metadata["next_cursor"]})
        assert [row["id"] for row in rest["data"]] == sent[2:]
        assert rest["metadata"]["has_more"] is False

    async def test_how_far_readers_are_counts_as_what_was_written(
        self, market: Marketplace, alice: Player, bob: Player, room: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sent = [await send(alice, room, bob) for _ in range(3)]
        for message in sent:
            await bob.post(f"{CHATS}/{room}/messages/{message}/processing")
            await bob.post(f"{CHATS}/{room}/messages/{message}/failed", {"error": "\u3042" * 16_384})
        monkeypatch.setattr(chats, "PAGE_BYTES_MAX", 60_000)
        owner = market.with_key(market.user_keys["alice"])

        for reader, path, order in ((bob, CHATS, sent), (owner, MINE, sent[::-1])):
            first = await reader.page(f"{path}/{room}/messages?limit=3")
            assert [row["id"] for row in first["data"]] == order[:2]
            assert [row["id"] for row in await everything(reader, f"{path}/{room}/messages", limit=3)] == order


class TestPrices:
    async def test_a_mention_costs_so_many_bytes_of_the_rate_of_messages(
        self, market: Marketplace, alice: Player, bob: Player, room: str
    ) -> None:
        buckets = Buckets(per_s=1.0, burst=3 * 4_096.0, monotonic=lambda: 0.0)
        market.server.hub.agent_buckets["message"] = buckets
        for _ in range(2):
            await send(alice, room, bob)

        body = {"message": {"content": "Hi", "mentions": [{"id": bob.id}]}}
        assert (await alice.refused("POST", f"{CHATS}/{room}/messages", body)).why == (429, "rate_limited")
        assert len(await bob.get(f"{CHATS}/{room}/messages")) == 2
        await note(alice, room)  # There is enough for what mentions nobody.

    async def test_more_mentions_than_there_may_be_are_refused_for_that(
        self, alice: Player, bob: Player, room: str
    ) -> None:
        body = {"message": {"content": "Hi", "mentions": [{"id": bob.id}] * 20_000}}

        assert (await alice.refused("POST", f"{CHATS}/{room}/messages", body)).why == (422, "invalid_payload")

    def test_the_protocol_names_the_price_and_the_sizes_of_pages(self) -> None:
        text = " ".join(chapter("Chat rooms").split())

        assert f"as {chats.MENTION_BYTES} bytes more" in text
        assert f"beyond {chats.PAGE_BYTES_MAX} bytes, or with a number {chats.COUNTED_PAGE_BYTES_MAX}," in text
        assert f"the first {COUNTED_MAX} items" in text
        assert f"costs {chats.MENTION_BYTES} of `message` more" in chapter("Limits")
