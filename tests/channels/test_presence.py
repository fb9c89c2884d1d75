"""Presence: the state, and diffs that a client applies as Phoenix's JavaScript does."""

from gc import collect
from random import Random
from typing import Any
from weakref import ref

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from channels.presence import Diff, NotTracked, Presence, filter_diff, filter_state


def apply(state: dict[str, list[dict[str, Any]]], diff: Diff) -> None:
    """What the JavaScript client makes of a diff: joins go last, then the left metas go by their phx_ref."""
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


def test_an_updated_meta_is_the_newest() -> None:
    presence = Presence()
    presence.track("alice", 1, {"n": 1}, "ref1")
    presence.track("alice", 2, {"n": 2}, "ref2")

    presence.update(1, "alice", {"n": 3}, "ref3")

    assert [meta["n"] for meta in presence.metas("alice")] == [2, 3]


def test_tracking_again_is_an_update() -> None:
    presence = Presence()
    presence.track("alice", 1, {}, "ref1")

    assert presence.track("alice", 1, {}, "ref2") == Diff(
        {"alice": {"metas": [{"phx_ref": "ref2", "phx_ref_prev": "ref1"}]}}, {"alice": {"metas": [{"phx_ref": "ref1"}]}}
    )


def test_the_refs_of_a_meta_are_not_the_clients_to_choose() -> None:
    presence = Presence()

    diff = presence.track("mallory", 1, {"phx_ref": "mine", "phx_ref_prev": "yours"}, "ref1")

    assert diff.joins == {"mallory": {"metas": [{"phx_ref": "ref1"}]}}


def test_an_update_of_what_is_not_tracked_is_an_error() -> None:
    presence = Presence()
    presence.track("alice", 2, {}, "ref1")

    for key in ("alice", "bob"):
        with pytest.raises(NotTracked):
            presence.update(1, key, {}, "ref2")
    assert presence.state() == {"alice": {"metas": [{"phx_ref": "ref1"}]}}


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
    assert presence.owned(1) == []
    assert "bob" not in presence


def test_an_owner_that_has_left_is_forgotten() -> None:
    class Socket:
        pass

    presence, socket = Presence(), Socket()
    known = ref(socket)
    presence.track("alice", socket, {}, "ref1")
    presence.untrack(socket)

    del socket
    collect()

    assert known() is None


def test_one_key_of_an_owner_may_go_alone() -> None:
    presence = Presence()
    presence.track("alice", 1, {}, "ref1")
    presence.track("bob", 1, {}, "ref2")

    assert presence.untrack(1, "alice") == Diff({}, {"alice": {"metas": [{"phx_ref": "ref1"}]}})
    assert presence.untrack(1, "alice") is None
    assert presence.untrack(2, "bob") is None
    assert [key for key, _ in presence.owned(1)] == ["bob"]


def test_what_is_not_visible_is_not_told() -> None:
    presence = Presence()
    presence.track("alice", 1, {}, "ref1")
    diff = presence.track("bob", 2, {}, "ref2")

    assert list(presence.state(lambda key: key == "bob")) == ["bob"]
    assert filter_state(presence.state(), lambda key: key == "bob") == diff.joins
    assert filter_diff(diff, lambda key: key == "bob") is diff
    assert filter_diff(diff, lambda key: key == "alice").is_empty
    assert not diff.is_empty
    assert not Diff({}, diff.joins).is_empty
    both = Diff(diff.joins, {"alice": {"metas": []}})
    assert filter_diff(both, lambda key: key == "bob") == Diff(diff.joins, {})


class Watched(RuleBasedStateMachine):
    """Whatever is tracked, updated and untracked: a client that applies every diff has the state."""

    def __init__(self) -> None:
        super().__init__()
        self.presence = Presence()
        self.client: dict[str, list[dict[str, Any]]] = {}
        self.owners: set[tuple[str, int]] = set()
        self.count = 0

    def ref(self) -> str:
        self.count += 1
        return f"ref{self.count}"

    @rule(key=st.sampled_from("ab"), owner=st.integers(1, 3), meta=st.dictionaries(st.just("m"), st.integers(0, 3)))
    def track(self, key: str, owner: int, meta: dict[str, int]) -> None:
        apply(self.client, self.presence.track(key, owner, meta, self.ref()))
        self.owners.add((key, owner))

    @precondition(lambda self: self.owners)
    @rule(choice=st.randoms(use_true_random=False), meta=st.dictionaries(st.just("m"), st.integers(0, 3)))
    def update(self, choice: Random, meta: dict[str, int]) -> None:
        key, owner = choice.choice(sorted(self.owners))
        apply(self.client, self.presence.update(owner, key, meta, self.ref()))

    @rule(owner=st.integers(1, 3), key=st.none() | st.sampled_from("ab"))
    def leave(self, owner: int, key: str | None) -> None:
        left = {(one, who) for one, who in self.owners if who == owner and key in {None, one}}

        diff = self.presence.untrack(owner, key)

        assert (diff is not None) == bool(left)
        if diff is not None:
            apply(self.client, diff)
        self.owners -= left

    @invariant()
    def the_client_has_the_state(self) -> None:
        assert {key: {"metas": metas} for key, metas in self.client.items()} == self.presence.state()

    @invariant()
    def each_owner_has_what_it_tracks(self) -> None:
        assert {(key, owner) for owner in range(1, 4) for key, _ in self.presence.owned(owner)} == self.owners


TestWatched = Watched.TestCase
