"""Presence: who is on a topic, with what metas, and what has changed. Data only.

A presence is a meta that an owner, one socket's joined topic, tracks under a key; a key has as many metas as owners
track it. On the wire the state is `{key: {"metas": [meta + phx_ref]}}`, and a change `{"joins": state, "leaves":
state}` with both always there. A client that applies every change has the state, metas in the same order.
"""

from collections.abc import Callable, Hashable
from typing import Any

import msgspec

State = dict[str, dict[str, list[dict[str, Any]]]]
"""`{key: {"metas": […]}}`, the newest meta of a key last."""

PHX_REF = "phx_ref"
PHX_REF_PREV = "phx_ref_prev"


class Diff(msgspec.Struct, frozen=True):
    """What has changed: the metas that joined and those that left, by key."""

    joins: State
    leaves: State

    @property
    def is_empty(self) -> bool:
        """Whether nothing has changed."""
        return not self.joins and not self.leaves


class NotTracked(KeyError):
    """An update of a presence that is not there."""


class Presence:
    """The presences of one topic."""

    __slots__ = ("_keys", "_metas")

    def __init__(self) -> None:
        self._metas: dict[str, dict[Hashable, dict[str, Any]]] = {}
        self._keys: dict[Hashable, dict[str, None]] = {}
        """What each owner tracks, so that one of thousands leaves without a look at the others."""

    def __contains__(self, key: str) -> bool:
        return key in self._metas

    def track(self, key: str, owner: Hashable, meta: dict[str, Any], phx_ref: str) -> Diff:
        """Track a meta of an owner. One that it tracks under the key already is updated.

        Args:
            key: Under which it is found.
            owner: Who it belongs to; when that goes, so does the presence.
            meta: Any JSON object. Its own `phx_ref` and `phx_ref_prev` do not count.
            phx_ref: Unique, fresh for each track.
        """
        owners = self._metas.setdefault(key, {})
        if owner in owners:
            return self.update(owner, key, meta, phx_ref)
        self._keys.setdefault(owner, {})[key] = None
        tracked = owners[owner] = {**_given(meta), PHX_REF: phx_ref}
        return Diff(_one(key, tracked), {})

    def update(self, owner: Hashable, key: str, meta: dict[str, Any], phx_ref: str) -> Diff:
        """Replace an owner's meta: the old one leaves and the new one joins, in one change. The new one is the newest.

        Raises:
            NotTracked: The owner tracks nothing under the key.
        """
        owners = self._metas.get(key, {})
        old = owners.pop(owner, None)
        if old is None:
            raise NotTracked(key)
        new = owners[owner] = {**_given(meta), PHX_REF: phx_ref, PHX_REF_PREV: old[PHX_REF]}
        return Diff(_one(key, new), _one(key, old))

    def untrack(self, owner: Hashable, key: str | None = None) -> Diff | None:
        """Remove what an owner tracks under a key, or under every key; None if that is nothing."""
        leaves: State = {}
        for left in self._tracked_by(owner) if key is None else (key,):
            owners = self._metas.get(left, {})
            meta = owners.pop(owner, None)
            if meta is None:
                continue
            leaves[left] = {"metas": [meta]}
            self._forget(owner, left)
        return Diff({}, leaves) if leaves else None

    def owned(self, owner: Hashable) -> list[tuple[str, dict[str, Any]]]:
        """What an owner tracks: keys and metas, as they were given."""
        return [(key, _given(self._metas[key][owner])) for key in self._tracked_by(owner)]

    def metas(self, key: str) -> list[dict[str, Any]]:
        """A key's metas, the newest last."""
        return list(self._metas.get(key, {}).values())

    def state(self, visible: Callable[[str], bool] | None = None) -> State:
        """The whole state, or the keys of it that are visible."""
        return {key: {"metas": self.metas(key)} for key in self._metas if visible is None or visible(key)}

    def _tracked_by(self, owner: Hashable) -> tuple[str, ...]:
        return tuple(self._keys.get(owner, ()))

    def _forget(self, owner: Hashable, key: str) -> None:
        if not self._metas[key]:
            del self._metas[key]
        del self._keys[owner][key]
        if not self._keys[owner]:
            del self._keys[owner]


def filter_state(state: State, visible: Callable[[str], bool]) -> State:
    """The part of a state whose keys are visible."""
    return {key: metas for key, metas in state.items() if visible(key)}


def filter_diff(diff: Diff, visible: Callable[[str], bool]) -> Diff:
    """The part of a change whose keys are visible; the change itself if that is all of it."""
    joins = filter_state(diff.joins, visible)
    leaves = filter_state(diff.leaves, visible)
    is_all = len(joins) == len(diff.joins) and len(leaves) == len(diff.leaves)
    return diff if is_all else Diff(joins, leaves)


def _one(key: str, meta: dict[str, Any]) -> State:
    return {key: {"metas": [meta]}}


def _given(meta: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in meta.items() if name not in {PHX_REF, PHX_REF_PREV}}
