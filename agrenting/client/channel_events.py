"""What a payment channel is after an event of it, so that nobody has to ask the server again."""

from collections.abc import Callable
from typing import Any

TOLD_ONLY = frozenset({"channel_id"})
"""What an event names beside what it brings."""

Channel = dict[str, Any]


def channel_after(channel: Channel, event: str, payload: Channel) -> Channel:
    """The channel as joining again would tell it after an event of `payment:*`. `channel` itself is not changed.

    Nothing is checked here: `ChannelKeeper.hear` does that.

    Args:
        channel: As the last join, reply or event left it.
        event: Any event of the topic; one that changes nothing, or that is older than the channel, leaves it as it is:
            the very same object.
        payload: The event's.

    Raises:
        KeyError: The payload lacks something.
        TypeError: The payload has something else in its place.
    """
    if "channel" in payload:
        return _unless_older(channel, payload["channel"])
    after = _EVENTS.get(event)
    return channel if after is None else after(channel, payload)


def _unless_older(channel: Channel, told: Channel) -> Channel:
    """A whole channel, unless the one that is known has moved on: events wait while replies are taken."""
    moving = ("last_nonce", "deposit_a", "deposit_b")
    return channel if any(told[name] < channel[name] for name in moving) else told


def _proposed(channel: Channel, payload: Channel) -> Channel:
    if payload["nonce"] <= channel["last_nonce"]:
        return channel
    return {**channel, "pending_proposal": _without(payload, TOLD_ONLY)}


def _completed(channel: Channel, payload: Channel) -> Channel:
    if payload["nonce"] <= channel["last_nonce"]:
        return channel
    moved = _moved_on(channel, payload["nonce"])
    balances = {name: payload[name] for name in ("balance_a", "balance_b")}
    return {
        **moved,
        **balances,
        "last_transfer": _without(payload, TOLD_ONLY),
        "deposited_since_a": 0,
        "deposited_since_b": 0,
    }


def _voided(channel: Channel, payload: Channel) -> Channel:
    return channel if payload["nonce"] <= channel["last_nonce"] else _moved_on(channel, payload["nonce"])


def _close_requested(channel: Channel, payload: Channel) -> Channel:
    if payload["nonce"] != channel["last_nonce"]:
        return channel
    others = [one for one in channel["close_requests"] if one["agent_id"] != payload["agent_id"]]
    return {**channel, "close_requests": [*others, _without(payload, TOLD_ONLY)]}


def _moved_on(channel: Channel, nonce: int) -> Channel:
    return {**channel, "last_nonce": nonce, "next_nonce": nonce + 1, "pending_proposal": None, "close_requests": []}


def _without(payload: Channel, names: frozenset[str]) -> Channel:
    return {name: value for name, value in payload.items() if name not in names}


_EVENTS: dict[str, Callable[[Channel, Channel], Channel]] = {
    "propose_transfer": _proposed,
    "transfer_complete": _completed,
    "reject_transfer": _voided,
    "transfer_voided": _voided,
    "close_request": _close_requested,
}
