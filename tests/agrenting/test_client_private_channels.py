"""Private channels of the client: what is told there, and what is asked for after a loss."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agrenting.client.errors import Disconnected, MalformedAnswer, NoAnswer, RefusedByServer, TopicEnded
from agrenting.client.private_channels import PrivateChannel, PrivateChannels
from agrenting.client.told_private import (
    ContextTold,
    Invitation,
    ListenerAdded,
    ListenerRemoved,
    Member,
    MemberCame,
    MemberWent,
)
from tests.agrenting.client_stage import NOW, OTHER_ID, OWN_ID, Stage, StageTopic, refusal, settle, staged

ID = "private:abc"
PRICE = {"type": "x.price", "n": 1}


class Chamber:
    """A channel that Alice's agent owns; what the server knows to be the newest stands in `newest`."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.newest: dict[str | None, dict[str, Any]] = {}
        self.channels = PrivateChannels(stage.context)
        stage.on("join", ID, joined(OWN_ID))
        stage.on("push", "getCurrentContextRequest", lambda body: {"context": self.newest.get(body["contextType"])})

    @property
    def topic(self) -> StageTopic:
        return self.stage.topic(ID)

    def tell(self, context: dict[str, Any], by: str = "bob/clerk") -> None:
        app = {"appId": by, "instanceId": "i2"}
        self.topic.come("broadcastEvent", {"channelId": ID, "context": context, "originatingApp": app})

    def move(self, *, joins: tuple[str, ...] = (), leaves: tuple[str, ...] = ()) -> None:
        metas = {"metas": [{"instanceId": "i2", "role": "member", "phx_ref": "1"}]}
        self.topic.come("presence_diff", {"joins": dict.fromkeys(joins, metas), "leaves": dict.fromkeys(leaves, metas)})


def joined(*agent_ids: str) -> dict[str, Any]:
    members = [{"agentId": one, "instanceId": "i1" if one == OWN_ID else "i2", "role": "member"} for one in agent_ids]
    return {"channel": {"id": ID, "type": "private"}, "owner": OWN_ID, "members": members}


def state(**more: Any) -> dict[str, Any]:
    empty = {"members": [], "invites": [], "invitation_count": 0, "deal": None}
    return {"id": ID, "owner": OWN_ID, "created_at": NOW, **empty, **more}


@pytest.fixture
async def chamber(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Chamber]:
    async with staged(monkeypatch, tmp_path) as stage:
        yield Chamber(stage)


async def test_a_channel_is_made_and_joined_without_a_token_and_over_a_loss_it_is_made_once(chamber: Chamber) -> None:
    chamber.stage.on("POST", "/private-channels", state())
    chamber.stage.losses = 1

    async with await chamber.channels.create() as channel:
        assert (channel.id, channel.owner_id, channel.is_open) == (ID, OWN_ID, True)
        assert channel.members == (Member(agent_id=OWN_ID, instance_id="i1", role="member"),)

    assert len({body["key"] for body in chamber.stage.bodies("POST", "/private-channels")}) == 1
    assert chamber.topic.joined == [{}]
    assert chamber.topic.is_left
    assert not channel.is_open


async def test_a_token_is_used_once_and_never_shown(chamber: Chamber) -> None:
    channel = await chamber.channels.join(ID, "s3cret")

    assert chamber.topic.joined == [{"invitation_token": "s3cret"}]
    assert chamber.topic.payload() == {}, "it comes back by its name"
    assert "s3cret" not in repr(channel) + repr(vars(channel))
    invitation = Invitation(id="i", token="s3cret", expires_at=datetime(2026, 3, 1, tzinfo=UTC))
    assert "s3cret" not in f"{invitation!r} {invitation}"


async def test_a_refused_join_is_raised_and_nothing_is_read(chamber: Chamber) -> None:
    chamber.stage.on("join", ID, refusal("AccessDenied"))

    with pytest.raises(RefusedByServer, match="AccessDenied"):
        await chamber.channels.join(ID, "wrong")


async def test_everything_that_happens_is_told(chamber: Chamber) -> None:
    channel = await chamber.channels.join(ID)
    events = aiter(channel)
    prices = channel.listen("x.price")
    everything = channel.listen()
    chamber.move(joins=(OTHER_ID,))
    chamber.topic.come("privateChannelOnAddContextListenerEvent", {"privateChannelId": ID, "contextType": None})
    chamber.tell({"type": "x.other"})
    chamber.tell(PRICE)
    chamber.topic.come("privateChannelOnUnsubscribeEvent", {"privateChannelId": ID, "contextType": "x.price"})
    chamber.topic.come("privateChannelOnDisconnectEvent", {"privateChannelId": ID})
    chamber.move(joins=(OTHER_ID,), leaves=(OTHER_ID,))
    chamber.move(leaves=(OTHER_ID,))
    await chamber.topic.settled()

    told = [await anext(events) for _ in range(6)]

    assert told == [
        MemberCame(agent_id=OTHER_ID, instance_id="i2"),
        ListenerAdded(None),
        ContextTold(context={"type": "x.other"}, from_handle="bob/clerk", instance_id="i2"),
        ContextTold(context=PRICE, from_handle="bob/clerk", instance_id="i2"),
        ListenerRemoved("x.price"),
        MemberWent(agent_id=OTHER_ID, instance_id="i2"),
    ]
    assert await anext(prices) == PRICE
    assert await anext(everything) == {"type": "x.other"}


async def test_contexts_that_were_missed_are_asked_for_by_type_and_told_once(chamber: Chamber) -> None:
    channel = await chamber.channels.join(ID)
    await channel.broadcast({"type": "x.mine", "n": 1})
    wanted = channel.listen("x.wanted")
    events = channel.events()
    chamber.tell(PRICE)
    await chamber.topic.settled()
    chamber.newest = {
        None: {"type": "x.last", "n": 5},
        "x.last": {"type": "x.last", "n": 5},
        "x.mine": {"type": "x.mine", "n": 1},
        "x.price": {"type": "x.price", "n": 2},
        "x.wanted": {"type": "x.wanted", "n": 3},
    }

    chamber.topic.rejoin(joined(OWN_ID, OTHER_ID))
    await chamber.topic.settled()
    chamber.topic.rejoin(joined(OWN_ID, OTHER_ID))
    await chamber.topic.settled()

    told = [event for event in events.drain() if isinstance(event, ContextTold)]
    assert [(one.context["type"], one.context["n"], one.from_handle) for one in told] == [
        ("x.price", 1, "bob/clerk"),
        ("x.last", 5, None),
        ("x.price", 2, None),
        ("x.wanted", 3, None),
    ]
    assert (await anext(wanted))["n"] == 3
    assert len(channel.members) == 2


async def test_what_comes_while_the_missed_is_asked_for_is_newer_and_told_once(chamber: Chamber) -> None:
    channel = await chamber.channels.join(ID)
    events = channel.events()
    chamber.newest = {kind: {"type": "x.price", "n": 7} for kind in (None, "x.price")}

    chamber.topic.rejoin(joined(OWN_ID))
    for n in (6, 7):
        chamber.tell({"type": "x.price", "n": n})
    await chamber.topic.settled()

    told = [event.context["n"] for event in events.drain() if isinstance(event, ContextTold)]
    assert told == [6, 7]


async def test_a_reader_of_contexts_that_gives_up_waiting_hears_the_next_one(chamber: Chamber) -> None:
    channel = await chamber.channels.join(ID)
    prices = channel.listen("x.price")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(prices), 0.001)

    chamber.tell(PRICE)

    assert await anext(prices) == PRICE


async def test_what_was_missed_is_asked_for_again_where_no_reply_comes_in_time(chamber: Chamber) -> None:
    channel = await chamber.channels.join(ID)
    events = channel.events()
    answers: list[Any] = [NoAnswer("slow"), {"context": PRICE}, NoAnswer("slow"), {"context": PRICE}]
    chamber.stage.on("push", "getCurrentContextRequest", lambda _: answers.pop(0))

    chamber.topic.rejoin(joined(OWN_ID))

    assert await anext(events) == ContextTold(context=PRICE, from_handle=None, instance_id=None)


async def test_what_was_told_here_is_not_told_back_where_its_reply_was_lost(chamber: Chamber) -> None:
    channel = await chamber.channels.join(ID)
    events = channel.events()

    def take(body: dict[str, Any]) -> Any:
        chamber.newest = dict.fromkeys((None, "x.price"), body["context"])
        return Disconnected("the reply is lost")

    chamber.stage.on("push", "broadcastRequest", take)
    with pytest.raises(Disconnected):
        await channel.broadcast(PRICE)

    chamber.topic.rejoin(joined(OWN_ID))
    await chamber.topic.settled()

    assert events.drain() == []


async def test_a_channel_that_was_left_can_be_joined_again_and_tells_again(chamber: Chamber) -> None:
    channel = PrivateChannel(chamber.stage.context, ID)
    early = channel.events()
    await channel.join()
    await channel.join()
    assert len(chamber.topic.joined) == 1, "joining again does nothing"
    chamber.tell(PRICE)
    await chamber.topic.settled()
    assert len(early.drain()) == 1
    await channel.leave()

    await channel.join()
    prices = channel.listen()
    chamber.tell(PRICE)

    assert await anext(prices) == PRICE
    with pytest.raises(StopAsyncIteration):
        await anext(early)


async def test_who_listens_is_told_the_end_also_where_the_reading_has_not_begun(chamber: Chamber) -> None:
    channel = await chamber.channels.join(ID)
    events = channel.events()

    chamber.stage.context.cancel_background()

    assert [event async for event in events] == []


async def test_a_channel_that_is_over_while_the_missed_is_asked_for_just_ends(chamber: Chamber) -> None:
    channel = await chamber.channels.join(ID)
    events = channel.events()
    chamber.stage.on("push", "getCurrentContextRequest", refusal("NoChannelFound"))
    chamber.topic.rejoin(joined(OWN_ID))
    await chamber.topic.settled()

    chamber.topic.rejoin(joined(OWN_ID))
    chamber.topic.end(refusal("NoChannelFound"))

    assert [event async for event in events] == []


async def test_a_channel_without_contexts_has_none_also_after_a_loss(chamber: Chamber) -> None:
    channel = await chamber.channels.join(ID)
    events = channel.events()

    chamber.topic.rejoin(joined(OWN_ID))
    await chamber.topic.settled()

    assert events.drain() == []
    assert await channel.current() is None


@pytest.mark.parametrize(
    ("ending", "raised"),
    [
        (refusal("NoChannelFound"), None),
        (TopicEnded("left"), None),
        (refusal("AccessDenied"), RefusedByServer),
        (Disconnected("closed"), Disconnected),
    ],
)
async def test_an_end_is_told_to_who_listens(
    chamber: Chamber, ending: Exception, raised: type[Exception] | None
) -> None:
    channel = await chamber.channels.join(ID)
    contexts, events = channel.listen(), channel.events()
    chamber.tell(PRICE)

    chamber.topic.end(ending)

    assert await anext(contexts) == PRICE
    assert isinstance(await anext(events), ContextTold)
    with pytest.raises(raised or StopAsyncIteration):
        await anext(contexts)
    with pytest.raises(raised or StopAsyncIteration):
        await anext(events)
    await channel.leave()
    assert not chamber.topic.is_left, "it was over"


async def test_what_is_nothing_that_is_told_there_ends_the_agent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def listen() -> None:
        async with staged(monkeypatch, tmp_path) as stage:
            chamber = Chamber(stage)
            await chamber.channels.join(ID)
            chamber.topic.come("broadcastEvent", {"context": "no object"})
            await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup) as group:
        await listen()

    assert group.group_contains(MalformedAnswer)


async def test_the_owner_invites_revokes_removes_and_closes(chamber: Chamber) -> None:
    out = {"id": "i9", "token": "t9", "instanceId": OTHER_ID, "createdAt": NOW, "expiresAt": NOW}
    chamber.stage.on("POST", "/private-channels/private:abc/invitations", out)
    channel = await chamber.channels.join(ID)

    invitation = await channel.invite(OTHER_ID, 60)
    await channel.revoke(invitation)
    await channel.revoke("i8")
    await channel.remove(Member(agent_id=OTHER_ID, instance_id="i2", role="member"))
    await channel.close()
    await chamber.channels.close(ID)

    (body,) = chamber.stage.bodies("POST", "/private-channels/private:abc/invitations")
    assert (body["instance_id"], body["expires_in"], invitation.token) == (OTHER_ID, 60, "t9")
    assert chamber.topic.pushed == [
        ("revokePrivateChannelInvitation", {"invitationToken": "i9"}),
        ("revokePrivateChannelInvitation", {"invitationToken": "i8"}),
        ("removePrivateChannelMember", {"instanceId": "i2", "agentId": OTHER_ID}),
    ]
    assert len(chamber.stage.bodies("DELETE", "/private-channels/private:abc")) == 2


async def test_a_token_whose_answer_was_lost_is_read_from_the_channel(chamber: Chamber) -> None:
    """A repeated answer leaves it out, as every secret."""
    out = {"id": "i9", "token": None, "instanceId": None, "createdAt": NOW, "expiresAt": NOW}
    chamber.stage.on("POST", "/private-channels/private:abc/invitations", out)
    chamber.stage.on(
        "GET",
        "/private-channels/private:abc",
        state(invites=[{**out, "id": "i8", "token": "t8"}, {**out, "token": "t9"}]),
    )

    assert (await chamber.channels.invite(ID)).token == "t9"


async def test_channels_are_listed_and_read(chamber: Chamber) -> None:
    chamber.stage.on("GET", "/private-channels", [state(), state(id="private:def", deal="task:t")])
    chamber.stage.on("GET", "/private-channels/private:abc", state(invites=None, invitation_count=2))

    assert [one.deal async for one in chamber.channels.list()] == [None, "task:t"]
    assert (await chamber.channels.get(ID)).invitation_count == 2


async def test_leaving_twice_is_leaving_once_and_a_channel_that_was_never_joined_is_not_left(chamber: Chamber) -> None:
    await PrivateChannel(chamber.stage.context, ID).leave()
    assert not chamber.topic.is_left
    channel = await chamber.channels.join(ID)

    await channel.leave()
    await channel.leave()
    await settle()

    assert chamber.topic.is_left
