"""What judges the frames of the FDC3 tests lets no bad frame pass."""

from typing import Any

import pytest

from tests.system.fdc3_schemas import Frame, faults_of

META = {"requestUuid": "1", "timestamp": "2026-01-01T00:00:00Z"}
ANSWERED = {**META, "responseUuid": "2"}
TOLD = {"eventUuid": "3", "timestamp": "2026-01-01T00:00:00.5Z"}
CHANNEL = {"id": "private:1", "type": "private"}
CREATE = {"type": "createPrivateChannelRequest", "payload": {}, "meta": META}
JOIN = {"type": "joinPrivateChannel", "payload": {"channelId": "private:1"}, "meta": META}
ALIAS = {**CREATE, "type": "createPrivateChannel"}


def created(payload: dict[str, Any], **meta: Any) -> dict[str, Any]:
    return {"type": "createPrivateChannelResponse", "payload": payload, "meta": {**ANSWERED, **meta}}


def joined(payload: dict[str, Any]) -> dict[str, Any]:
    return {"type": "joinPrivateChannelResponse", "payload": payload, "meta": ANSWERED}


def told(payload: dict[str, Any], **meta: Any) -> dict[str, Any]:
    return {"type": "broadcastEvent", "payload": payload, "meta": {**TOLD, **meta}}


GOOD: list[tuple[dict[str, Any], ...]] = [
    (CREATE, created({"privateChannel": CHANNEL})),
    (CREATE, created({"error": "CreationFailed"})),
    (ALIAS, created({"privateChannel": CHANNEL, "channel": CHANNEL})),
    (JOIN, joined({"channel": CHANNEL})),
    (JOIN, joined({"error": "AccessDenied"})),
    (CREATE, told({"channelId": "private:1", "context": {"type": "x", "y": 1}}), created({"privateChannel": CHANNEL})),
]
BAD: list[tuple[dict[str, Any], ...]] = [
    (CREATE,),
    (CREATE, created({"privateChannel": CHANNEL, "channel": CHANNEL})),
    (CREATE, created({"error": "not_found"})),
    (CREATE, created({"error": "CreationFailed", "message": "x"})),
    (CREATE, created({})),
    (CREATE, created({"privateChannel": CHANNEL}, requestUuid="other")),
    (CREATE, created({"privateChannel": CHANNEL}, timestamp="yesterday")),
    (CREATE, created({"privateChannel": CHANNEL}, timestamp="2026-01-01T00:00:00")),
    (CREATE, created({"privateChannel": CHANNEL}, extra=1)),
    (CREATE, created({"privateChannel": CHANNEL}), created({"privateChannel": CHANNEL})),
    (CREATE, joined({"channel": CHANNEL})),
    (ALIAS, created({"privateChannel": CHANNEL})),
    (JOIN, joined({"channel": {"id": "private:private:1", "type": "private"}})),
    (JOIN, joined({"error": "rate_limited"})),
    (told({"channelId": "private:1", "context": {}}),),
    (told({"channelId": "private:1", "context": {"type": "x"}, "who": "x"}),),
    (told({"channelId": "private:1", "context": {"type": "x"}}, source={"appId": "x"}),),
    (told({"channelId": "1", "context": {"type": "x"}}), told({"channelId": "1", "context": {"type": "x"}})),
    ({**CREATE, "payload": {"x": 1}}, created({"privateChannel": CHANNEL})),
]


def framed(bodies: tuple[dict[str, Any], ...]) -> list[Frame]:
    return [Frame(body, is_sent=body in (CREATE, JOIN, ALIAS) or body.get("payload") == {"x": 1}) for body in bodies]


@pytest.mark.usefixtures("node")
def test_good_frames_pass() -> None:
    assert [faults_of(framed(bodies)) for bodies in GOOD] == [[]] * len(GOOD)


@pytest.mark.usefixtures("node")
def test_bad_frames_do_not() -> None:
    assert [bodies for bodies in BAD if not faults_of(framed(bodies))] == []


@pytest.mark.usefixtures("node")
def test_what_is_said_to_break_its_schema_must() -> None:
    frames = framed((CREATE, created({"privateChannel": CHANNEL})))
    assert faults_of(frames, meant=frozenset({"1"})) != []
