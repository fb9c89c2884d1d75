import base64
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.discovery import CURSOR_PRICE_MAX, Cursor, Discover, Search, decode_cursor, encode_cursor, parse_search
from channels.ledger import MONEY_MAX
from crypto import digest
from tests.channels.roles import ALICE, context, refused

PLACE = Cursor(online=1, reputation_centi=350, price=1000, id=ALICE.id)


def _search(**asked: Any) -> Search:
    return parse_search(msgspec.convert(asked, Discover), context(ALICE))


class TestSearches:
    def test_nothing_asked_is_everything_twenty_at_a_time(self) -> None:
        assert _search() == Search(limit=20)
        assert _search(capability=None, query=None, filters=None, cursor=None) == Search(limit=20)

    def test_all_that_may_be_asked(self) -> None:
        search = _search(
            capability="translate",
            query="  legal texts ",
            filters={
                "status": "busy",
                "min_reputation": 4.5,
                "max_price": 1000,
                "tags": ["Text", "law", "text"],
                "owner": "@John",
            },
            limit=100,
        )

        assert search == Search(
            capability="translate",
            query="legal texts",
            status="busy",
            min_reputation_centi=450,
            max_price=1000,
            tags=("text", "law"),
            owner="john",
            limit=100,
        )

    @pytest.mark.parametrize("status", ["online", "busy", "away", "offline"])
    def test_every_status_may_be_asked_for(self, status: str) -> None:
        assert _search(filters={"status": status}).status == status

    @pytest.mark.parametrize(
        ("asked", "field"),
        [
            ({"capability": "Not One"}, "capability"),
            ({"capability": ""}, "capability"),
            ({"query": " \n"}, "query"),
            ({"query": "x" * 201}, "query"),
            ({"limit": 0}, "limit"),
            ({"limit": 101}, "limit"),
            ({"filters": {"status": "gone"}}, "filters.status"),
            ({"filters": {"min_reputation": -0.01}}, "filters.min_reputation"),
            ({"filters": {"min_reputation": 5.01}}, "filters.min_reputation"),
            ({"filters": {"min_reputation": float("nan")}}, "filters.min_reputation"),
            ({"filters": {"max_price": -1}}, "filters.max_price"),
            ({"filters": {"max_price": MONEY_MAX + 1}}, "filters.max_price"),
            ({"filters": {"tags": ["not one"]}}, "filters.tags"),
            ({"filters": {"tags": [f"t{number}" for number in range(17)]}}, "filters.tags"),
        ],
        ids=str,
    )
    def test_what_is_out_of_its_bounds_is_refused_by_name(self, asked: dict[str, Any], field: str) -> None:
        refusal = refused(_search, **asked)

        assert (refusal.kind, refusal.reason, refusal.context) == ("invalid", "invalid_payload", {"field": field})

    @pytest.mark.parametrize(
        ("stars", "centi"), [(0, 0), (5, 500), (1.1, 110), (4.35, 435), (4.351, 436), (4.3501, 436), (1e-7, 1)]
    )
    def test_a_reputation_is_taken_by_its_digits_and_rounded_up_to_hundredths(self, stars: float, centi: int) -> None:
        assert _search(filters={"min_reputation": stars}).min_reputation_centi == centi

    @given(centi=st.integers(0, 500))
    def test_every_reputation_that_is_told_can_be_asked_for(self, centi: int) -> None:
        assert _search(filters={"min_reputation": centi / 100}).min_reputation_centi == centi

    def test_prices_and_queries_reach_to_their_bounds(self) -> None:
        largest = _search(query="x" * 200, filters={"max_price": MONEY_MAX}, limit=100)
        smallest = _search(query="x", filters={"max_price": 0}, limit=1)

        assert (largest.query, largest.max_price, largest.limit) == ("x" * 200, MONEY_MAX, 100)
        assert (smallest.query, smallest.max_price, smallest.limit) == ("x", 0, 1)


CURSORS = st.builds(
    Cursor,
    online=st.integers(0, 1),
    reputation_centi=st.integers(0, 500),
    price=st.integers(0, CURSOR_PRICE_MAX),
    id=st.uuids().map(str),
)
SEARCHES = st.builds(
    Search,
    capability=st.sampled_from([None, "translate", "sum"]),
    query=st.sampled_from([None, "text"]),
    status=st.sampled_from([None, "online"]),
    min_reputation_centi=st.none() | st.integers(0, 500),
    max_price=st.none() | st.integers(0, 10),
    tags=st.sampled_from([(), ("a",), ("a", "b")]),
    owner=st.sampled_from([None, "john"]),
    limit=st.integers(1, 100),
)


class TestCursors:
    @given(cursor=CURSORS, search=SEARCHES)
    def test_a_cursor_comes_back_as_it_was_and_is_safe_in_a_url(self, cursor: Cursor, search: Search) -> None:
        text = encode_cursor(cursor, search)

        assert decode_cursor(text, search) == cursor
        assert text.replace("-", "").replace("_", "").isalnum()

    @given(cursor=CURSORS, search=SEARCHES, limit=st.integers(1, 100))
    def test_the_page_may_change_its_size_on_the_way(self, cursor: Cursor, search: Search, limit: int) -> None:
        resized = msgspec.structs.replace(search, limit=limit)

        assert decode_cursor(encode_cursor(cursor, search), resized) == cursor

    @given(cursor=CURSORS, one=SEARCHES, other=SEARCHES)
    def test_a_cursor_of_another_search_is_refused(self, cursor: Cursor, one: Search, other: Search) -> None:
        if msgspec.structs.replace(one, limit=other.limit) == other:
            return

        refusal = refused(decode_cursor, encode_cursor(cursor, one), other)

        assert (refusal.kind, refusal.reason) == ("invalid", "invalid_cursor")

    @given(cursor=CURSORS, position=st.integers(0, 10_000), character=st.characters())
    def test_a_cursor_with_one_character_changed_is_refused(
        self, cursor: Cursor, position: int, character: str
    ) -> None:
        text = encode_cursor(cursor, Search())
        position %= len(text)
        changed = text[:position] + character + text[position + 1 :]

        if changed != text:
            assert refused(decode_cursor, changed, Search()).reason == "invalid_cursor"

    @given(text=st.text() | st.binary().map(lambda content: base64.urlsafe_b64encode(content).decode()))
    def test_whatever_else_is_sent_as_a_cursor_is_refused(self, text: str) -> None:
        assert refused(_search, cursor=text).reason == "invalid_cursor"

    @pytest.mark.parametrize("spelling", ["{}=", "{}==", " {}", "{}\n", "{}A", "!{}"])
    def test_a_cursor_has_one_spelling(self, spelling: str) -> None:
        text = spelling.format(encode_cursor(PLACE, Search()))

        assert refused(decode_cursor, text, Search()).reason == "invalid_cursor"

    @pytest.mark.parametrize(
        "field",
        [{"online": 2}, {"online": -1}, {"reputation_centi": 501}, {"price": 2**63}, {"price": -1}],
        ids=str,
    )
    def test_a_place_that_no_order_has_is_refused_though_its_checksum_fits(self, field: dict[str, int]) -> None:
        forged = encode_cursor(msgspec.structs.replace(PLACE, **field), Search())

        assert refused(decode_cursor, forged, Search()).reason == "invalid_cursor"

    def test_the_checksum_covers_the_place(self) -> None:
        written = msgspec.json.encode((1, 350, 999, ALICE.id, digest(b"")))

        text = base64.urlsafe_b64encode(written).decode().rstrip("=")

        assert refused(decode_cursor, text, Search()).reason == "invalid_cursor"

    def test_a_search_takes_its_own_cursor_and_the_payload_is_refused_first(self) -> None:
        asked = {"capability": "translate", "filters": {"tags": ["a"]}}
        text = encode_cursor(PLACE, _search(**asked))

        assert _search(**asked, cursor=text).cursor == PLACE
        assert refused(_search, cursor=text).reason == "invalid_cursor"
        assert refused(_search, cursor=text, limit=0).reason == "invalid_payload"
