"""Presences (temporary)."""
from collections.abc import Callable, Hashable
from typing import Any


class Diff:
    def __init__(self, joins: dict[str, Any], leaves: dict[str, Any]) -> None:
        self.joins, self.leaves = joins, leaves

    @property
    def is_empty(self) -> bool:
        return not self.joins and not self.leaves


class Presence:
    def __init__(self) -> None:
        self._k: dict[str, dict[Hashable, dict[str, Any]]] = {}

    def track(self, key: str, owner: Hashable, meta: dict[str, Any], phx_ref: str) -> Diff:
        m = {**meta, "phx_ref": phx_ref}
        self._k.setdefault(key, {})[owner] = m
        return Diff({key: {"metas": [m]}}, {})

    def update(self, owner: Hashable, key: str, meta: dict[str, Any], phx_ref: str) -> Diff:
        old = self._k[key][owner]
        m = {**meta, "phx_ref": phx_ref, "phx_ref_prev": old["phx_ref"]}
        self._k[key][owner] = m
        return Diff({key: {"metas": [m]}}, {key: {"metas": [old]}})

    def untrack(self, owner: Hashable, key: str | None = None) -> Diff | None:
        leaves = {}
        for k in list(self._k):
            if key in (None, k) and owner in self._k[k]:
                leaves[k] = {"metas": [self._k[k].pop(owner)]}
                if not self._k[k]:
                    del self._k[k]
        return Diff({}, leaves) if leaves else None

    def owned(self, owner: Hashable) -> list[tuple[str, dict[str, Any]]]:
        return [(k, {n: v for n, v in m[owner].items() if not n.startswith("phx_ref")}) for k, m in self._k.items() if owner in m]

    def state(self) -> dict[str, Any]:
        return {k: {"metas": list(m.values())} for k, m in self._k.items()}

    def __contains__(self, key: str) -> bool:
        return key in self._k

    def metas(self, key: str) -> list[dict[str, Any]]:
        return list(self._k.get(key, {}).values())


def filter_state(state: dict[str, Any], visible: Callable[[str], bool]) -> dict[str, Any]:
    return {k: v for k, v in state.items() if visible(k)}


def filter_diff(diff: Diff, visible: Callable[[str], bool]) -> Diff:
    return Diff(filter_state(diff.joins, visible), filter_state(diff.leaves, visible))
