"""Presence: the state, and diffs that a client applies as Phoenix's JavaScript does."""

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from channels.presence import Diff, NotTracked, Presence, filter_diff


def apply(state: dict[str, list[dict[str, Any]]], diff: Diff) -> None:
    """What the JavaScript client makes of a diff: joins first, then the left metas go by their phx_ref."""
    for key, joined in diff.joins.items():
        refs = {meta["phx_ref"] for meta in joined["metas"]}
        state[key] = [meta for meta in state.get(key, []) if meta["phx_ref"] not in refs] + joined["metas"]
    for key, left in diff.leaves.items():
        gone = {meta["phx_ref"] for meta in left["metas"]}
        state[key] = [meta for meta in state[key] if meta["phx_ref"] not in gone]
        if not state[key]:
            del state[key]


def test_a_key_has_a_meta_for_each_owner_the_newest_last() -> None:
    presence = Presence()

    presence.track("alice", "socket 1", {"n": 1}, "ref1")
    diff = presence.track("alice", "socket 2", {"n": 2}, "ref2")

    assert diff == Diff({"alice": {"metas": [{"n": 2, "phx_ref": "ref2"}]}}, {})
    assert [meta["n"] for meta in presence.metas("alice")] == [1, 2]
    assert presence.state() == {"alice": {"metas": [{"n": 1, "phx_ref": "ref1"}, {"n": 2, "phx_ref": "ref2"}]}}
    assert "alice" in presence


def test_an_update_leaves_and_joins_in_one_diff_and_names_the_old_ref() -> None:
    presence = Presence()
    presence.track("alice", 1, {"mood": "calm"}, "ref1")

    diff = presence.update(1, "alice", {"mood": "merry"}, "ref2")

    assert diff.leaves == {"alice": {"metas": [{"mood": "calm", "phx_ref": "ref1"}]}}
    assert diff.joins == {"alice": {"metas": [{"mood": "merry", "phx_ref": "ref2", "phx_ref_prev": "ref1"}]}}
    assert presence.owned(1) == [("alice", {"mood": "merry"})]


def test_tracking_again_is_an_update() -> None:
    presence = Presence()
    presence.track("alice", 1, {}, "ref1")

    assert presence.track("alice", 1, {}, "ref2").leaves


def test_an_update_of_what_is_not_tracked_is_an_error() -> None:
    with pytest.raises(NotTracked):
        Presence().update(1, "alice", {}, "ref")


def test_what_an_owner_tracks_goes_with_it() -> None:
    presence = Presence()
    presence.track("alice", 1, {}, "ref1")
    presence.track("alice", 2, {}, "ref2")
    presence.track("bob", 1, {}, "ref3")

    diff = presence.untrack(1)

    assert diff == Diff({}, {"alice": {"metas": [{"phx_ref": "ref1"}]}, "bob": {"metas": [{"phx_ref": "ref3"}]}})
    assert list(presence.state()) == ["alice"]
    assert presence.untrack(1) is None
    assert presence.metas("bob") == []


def test_what_is_not_visible_is_not_told() -> None:
    presence = Presence()
    presence.track("alice", 1, {}, "ref1")
    diff = presence.track("bob", 2, {}, "ref2")

    assert list(presence.state(lambda key: key == "bob")) == ["bob"]
    assert filter_diff(diff, lambda key: key == "bob") is diff
    assert filter_diff(diff, lambda key: key == "alice").is_empty
    both = Diff(diff.joins, {"alice": {"metas": []}})
    assert filter_diff(both, lambda key: key == "bob") == Diff(diff.joins, {})


class Watched(RuleBasedStateMachine):
    """Whatever is tracked, updated and untracked: a client that applies every diff has the state."""

    def __init__(self) -> None:
        super().__init__()
        self.presence = Presence()
        self.client: dict[str, list[dict[str, Any]]] = {}
        self.count = 0

    def ref(self) -> str:
        self.count += 1
        return f"ref{self.count}"

    @rule(key=st.sampled_from("ab"), owner=st.integers(1, 3), meta=st.dictionaries(st.just("m"), st.integers(0, 3)))
    def track(self, key: str, owner: int, meta: dict[str, int]) -> None:
        apply(self.client, self.presence.track(key, owner, meta, self.ref()))

    @rule(owner=st.integers(1, 3))
    def leave(self, owner: int) -> None:
        diff = self.presence.untrack(owner)
        if diff is not None:
            apply(self.client, diff)

    @invariant()
    def the_client_has_the_state(self) -> None:
        def ordered(metas: list[dict[str, Any]]) -> list[Any]:
            return sorted((meta["phx_ref"], meta.get("m")) for meta in metas)

        state = {key: ordered(value["metas"]) for key, value in self.presence.state().items()}
        assert {key: ordered(metas) for key, metas in self.client.items()} == state


TestWatched = Watched.TestCase
