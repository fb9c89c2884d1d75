"""Agents on the two transports in one private channel: FDC3's client on one side, Phoenix on the other."""

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from tests.system.fdc3_programs import session_token, staged
from tests.system.fdc3_schemas import Frame, faults_of
from tests.system.guests import dacp, lose_socket, over_phoenix
from tests.system.halls import open_task
from tests.system.harness import ROOT, Client, Refused
from tests.system.node import steps_of
from tests.system.private_halls import (
    CHANNEL_OPENED,
    CONTACT,
    DISCONNECTED,
    GONE,
    INSTRUMENT,
    NO_SUCH,
    UNSUBSCRIBED,
    Cast,
    PrivateHall,
    opened,
    private_hall,
    unsubscribed,
)

SCRIPT = ROOT / "tests/system/js/fdc3_phoenix.mjs"
DENIED = "AccessDenied"
V = ["2.0.0", "1.0.0"]
GRACE_S = 0.5


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateHall]:
    """Who is away may come back for longer than any test takes."""
    with private_hall(tmp_path_factory.mktemp("both") / "var", AGRENTING_PRIVATE_GRACE_S="300") as hall:
        yield hall


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateHall]:
    """Who is away for half a second has left."""
    with private_hall(tmp_path_factory.mktemp("hasty") / "var", AGRENTING_PRIVATE_GRACE_S=str(GRACE_S)) as hall:
        yield hall


def added(channel: str, context_type: str | None) -> dict[str, Any]:
    """The payload of an event about a context listener."""
    return {"privateChannelId": channel, "contextType": context_type}


async def origin_of(cast: Cast) -> dict[str, str]:
    """How Alice's program is named in what it broadcasts."""
    told = (await cast.alice.do("info"))["appMetadata"]
    return {"appId": told["appId"], "instanceId": told["instanceId"]}


def metas(presence: dict[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """Instances and roles, by agent id."""
    return {key: [(one["instanceId"], one["role"]) for one in entry["metas"]] for key, entry in presence.items()}


async def came(client: Client, channel: str) -> dict[str, list[tuple[str, str]]]:
    """Who is told next to have come."""
    return metas((await client.expect("presence_diff", channel))["joins"])


async def left(client: Client, channel: str) -> dict[str, list[tuple[str, str]]]:
    """Who is told next to have left."""
    while True:
        leavers = metas((await client.expect("presence_diff", channel))["leaves"])
        if leavers:
            return leavers


async def test_a_guest_over_phoenix_is_a_member_like_others(hall: PrivateHall, node: str) -> None:
    async with hall.stage(node) as cast, hall.market.client(hall.bob.api_key, "&instance_id=b-1") as bob:
        channel = await cast.channel()
        await cast.alice.do("watch", channel, None)
        origin = await origin_of(cast)

        joined = await bob.join(channel, {"invitation_token": await cast.invite(channel)})
        assert joined == {
            "channel": {"id": channel, "type": "private"},
            "owner": hall.alice.id,
            "members": [
                {"agentId": hall.alice.id, "instanceId": origin["instanceId"], "role": "owner"},
                {"agentId": hall.bob.id, "instanceId": "b-1", "role": "member"},
            ],
        }
        assert metas(await bob.expect("presence_state", channel)) == {
            hall.alice.id: [(origin["instanceId"], "owner")],
            hall.bob.id: [("b-1", "member")],
        }
        await cast.alice.hears(["*", opened(None)])

        await cast.alice.do("broadcast", channel, INSTRUMENT)
        told = {"channelId": channel, "context": INSTRUMENT, "originatingApp": origin}
        assert await bob.expect("broadcastEvent", channel) == told
        await cast.alice.do("listen", channel, "fdc3.contact")
        assert await bob.expect(CHANNEL_OPENED, channel) == added(channel, "fdc3.contact")
        assert await bob.push(channel, "broadcastRequest", {"context": CONTACT}) == {}
        await cast.alice.hears(["fdc3.contact", CONTACT])
        assert cast.alice.came("broadcastEvent")[0]["originatingApp"] == {"appId": hall.bob.handle, "instanceId": "b-1"}
        assert await bob.push(channel, "getCurrentContextRequest", {"contextType": None}) == {"context": CONTACT}
        assert await bob.push(channel, "getCurrentContextRequest", {"contextType": "x"}) == {"context": None}
        await bob.refute("broadcastEvent")

        await cast.alice.do("disconnect", channel)
        assert await bob.expect(UNSUBSCRIBED, channel) == added(channel, "fdc3.contact")
        assert await bob.expect(DISCONNECTED, channel) == {"privateChannelId": channel}
        assert await left(bob, channel) == {hall.alice.id: [(origin["instanceId"], "owner")]}


async def test_an_owner_over_phoenix_invites_a_guest_who_speaks_fdc3(hall: PrivateHall, node: str) -> None:
    async with hall.stage(node) as cast, hall.market.client(hall.alice.api_key) as alice:
        await alice.join("agents:discovery")
        made = await alice.push("agents:discovery", "create_private_channel")
        channel = made["channel"]["id"]
        await alice.join(channel)
        await came(alice, channel)
        guest = (await cast.bob.do("info"))["appMetadata"]["instanceId"]

        invited = await alice.push(channel, "createPrivateChannelInvitation", {"instanceId": guest, "expiresIn": 60})
        token = hall.keep_secret(invited["invitationToken"])
        assert invited.keys() == {"invitationToken", "invitationId", "expiresAt"}
        await cast.bob.do("join", channel, token)
        assert await came(alice, channel) == {hall.bob.id: [(guest, "member")]}
        await cast.bob.do("watch", channel, None)
        await cast.bob.hears(["*", opened(None)])
        await cast.bob.do("listen", channel, None)
        await alice.push(channel, "broadcastRequest", {"context": CONTACT})
        await cast.bob.hears(["*", CONTACT])

        revoked = (await alice.push(channel, "createPrivateChannelInvitation"))["invitationToken"]
        hall.keep_secret(revoked)
        assert await alice.push(channel, "revokePrivateChannelInvitation", {"invitationToken": revoked}) == {}
        mallory = await cast.mallory()
        assert await mallory.refused("join", channel, revoked) == DENIED
        assert await alice.push(channel, "removePrivateChannelMember", {"instanceId": guest}) == {}
        assert await alice.expect(DISCONNECTED, channel) == {"privateChannelId": channel}
        assert await cast.bob.refused("broadcast", channel, CONTACT) == DENIED


@pytest.mark.parametrize("way", ["phx_leave", "leavePrivateChannel", "privateChannelDisconnectRequest"])
async def test_leaving_over_phoenix_is_at_once(hall: PrivateHall, node: str, way: str) -> None:
    async with hall.stage(node) as cast, hall.market.client(hall.bob.api_key) as bob:
        channel = await cast.channel()
        token = await cast.invite(channel)
        await cast.alice.do("watch", channel, None)
        await bob.join(channel, {"invitationToken": token})
        await cast.alice.hears(["*", opened(None)])

        await bob.push(channel, way)
        await bob.expect("phx_close", channel)
        await cast.alice.hears(["*", unsubscribed(None)], ["*", GONE])
        with pytest.raises(Refused, match=DENIED):
            await bob.join(channel, {"invitationToken": token})
        await bob.join(channel, {"invitationToken": await cast.invite(channel)})


async def test_who_does_not_listen_is_told_what_happens_and_no_context(hall: PrivateHall, node: str) -> None:
    async with hall.stage(node) as cast, hall.market.client(hall.bob.api_key) as bob:
        channel = await cast.channel()
        await cast.alice.do("watch", channel, None)
        await bob.join(channel, {"invitation_token": await cast.invite(channel), "listen": False})

        await cast.alice.do("broadcast", channel, CONTACT)
        listener = await cast.alice.do("listen", channel, None)
        await cast.alice.do("unsubscribe", listener)
        assert await bob.expect(CHANNEL_OPENED, channel) == added(channel, None)
        assert await bob.expect(UNSUBSCRIBED, channel) == added(channel, None)
        await bob.refute("broadcastEvent")
        assert await bob.push(channel, "getCurrentContextRequest", {"contextType": None}) == {"context": CONTACT}
        await bob.join(channel, {"listen": True})
        await cast.alice.hears(["*", opened(None)])
        await bob.join(channel, {"listen": False})
        await cast.alice.hears(["*", unsubscribed(None)])
        await bob.push(channel, "phx_leave")
        await cast.alice.hears(["*", GONE])


async def test_refusals_have_fdc3s_words_and_never_an_error_of_the_channel(hall: PrivateHall, node: str) -> None:
    async with hall.stage(node) as cast, hall.market.client(hall.mallory.api_key) as mallory:
        channel, other = await cast.channel(), await cast.channel()
        foreign = await cast.invite(other)
        joins: list[tuple[str, dict[str, Any], str]] = [
            (channel, {}, DENIED),
            (channel, {"invitation_token": None}, DENIED),
            (channel, {"invitation_token": "x" * 43}, DENIED),
            (channel, {"invitation_token": foreign}, DENIED),
            (NO_SUCH, {"invitation_token": foreign}, "NoChannelFound"),
        ]
        for topic, payload, reason in joins:
            with pytest.raises(Refused) as refusal:
                await mallory.join(topic, payload)
            assert refusal.value.reason == reason
        await mallory.join(other, {"invitation_token": foreign})
        pushes: list[tuple[str, dict[str, Any], str]] = [
            ("broadcastRequest", {"context": {}}, "MalformedContext"),
            ("broadcastRequest", {"context": {"type": 1}}, "MalformedContext"),
            ("createPrivateChannelInvitation", {}, DENIED),
            ("revokePrivateChannelInvitation", {"invitationToken": foreign}, DENIED),
            ("removePrivateChannelMember", {"instanceId": "x"}, DENIED),
        ]
        for event, payload, reason in pushes:
            with pytest.raises(Refused) as refusal:
                await mallory.push(other, event, payload)
            assert refusal.value.reason == reason, event
        await mallory.flush()
        assert {event for _, event, _ in mallory.inbox} == {"presence_state", "presence_diff"}


async def test_two_sockets_of_one_instance_are_one_member(hall: PrivateHall, node: str) -> None:
    async with (
        hall.stage(node) as cast,
        hall.market.client(hall.bob.api_key, "&instance_id=twin") as first,
        hall.market.client(hall.bob.api_key, "&instance_id=twin") as second,
    ):
        channel = await cast.channel()
        await cast.alice.do("watch", channel, None)
        await first.join(channel, {"invitation_token": await cast.invite(channel)})
        joined = await second.join(channel)

        assert [one["instanceId"] for one in joined["members"]].count("twin") == 1
        await cast.alice.hears(["*", opened(None)])
        await cast.alice.do("broadcast", channel, CONTACT)
        for twin in (first, second):
            assert (await twin.expect("broadcastEvent", channel))["context"] == CONTACT
        await first.push(channel, "broadcastRequest", {"context": INSTRUMENT})
        await second.refute("broadcastEvent")
        await first.push(channel, "phx_leave")
        await second.push(channel, "broadcastRequest", {"context": INSTRUMENT})
        await cast.alice.hears_nothing()
        await second.push(channel, "phx_leave")
        await cast.alice.hears(["*", unsubscribed(None)], ["*", GONE])


@pytest.mark.parametrize("way", ["phx_leave", "loss"])
async def test_one_instance_on_both_transports_is_one_member(hasty: PrivateHall, node: str, way: str) -> None:
    async with hasty.stage(node) as cast, dacp(hasty.market, hasty.bob, "both") as bob:
        channel = await cast.channel()
        await cast.alice.do("watch", channel, None)
        token = await cast.invite(channel)
        await bob.ask("joinPrivateChannel", channelId=channel, invitationToken=token)
        async with hasty.market.client(hasty.bob.api_key, "&instance_id=both") as twin:
            joined = await twin.join(channel, {"invitation_token": token})
            assert [one["instanceId"] for one in joined["members"]].count("both") == 1
            await cast.alice.hears(["*", opened(None)])
            await bob.ask("broadcastRequest", channelId=channel, context=CONTACT)
            await twin.refute("broadcastEvent")
            await cast.alice.do("broadcast", channel, CONTACT)
            assert (await twin.expect("broadcastEvent", channel))["context"] == CONTACT
            if way == "phx_leave":
                await twin.push(channel, "phx_leave")
            else:
                await lose_socket(twin.socket)
        await cast.alice.hears(["*", unsubscribed(None)])
        bob.inbox.clear()

        await cast.alice.do("broadcast", channel, INSTRUMENT)
        told = await bob.ask("getCurrentContextRequest", channelId=channel, contextType=None)
        assert told == {"context": INSTRUMENT}
        assert bob.inbox == []
        await cast.alice.hears_nothing()
        await bob.ask("leavePrivateChannel", channelId=channel)
        await cast.alice.hears(["*", GONE])


async def test_a_closed_channel_ends_the_topic(hall: PrivateHall, node: str) -> None:
    async with hall.stage(node) as cast, hall.market.client(hall.bob.api_key) as bob:
        channel = await cast.channel()
        await cast.alice.do("watch", channel, None)
        await cast.alice.do("listen", channel, "x")
        await bob.join(channel, {"invitation_token": await cast.invite(channel)})
        await cast.alice.hears(["*", opened(None)])

        await asyncio.to_thread(hall.call, hall.alice, "DELETE", f"private-channels/{channel}")
        await bob.expect("phx_close", channel)
        assert [event for topic, event, _ in bob.inbox if topic == channel and "presence" not in event] == [
            CHANNEL_OPENED,
            UNSUBSCRIBED,
            DISCONNECTED,
        ]
        await cast.alice.hears(["*", unsubscribed(None)], ["*", GONE])
        with pytest.raises(Refused, match="NoChannelFound"):
            await bob.join(channel)


async def test_the_reply_comes_before_what_follows_from_it(hall: PrivateHall, node: str) -> None:
    async with hall.stage(node) as cast, hall.market.wire(hall.bob) as bob:
        channel = await cast.channel()
        token = await cast.invite(channel)
        await cast.alice.do("listen", channel, "x")
        await bob.send("1", "1", channel, "phx_join", {"invitation_token": token})
        assert (await bob.receive())[3] == "phx_reply"
        assert {(await bob.receive())[3] for _ in range(3)} == {"presence_state", "presence_diff", CHANNEL_OPENED}

        await bob.send("1", "2", channel, "phx_leave")
        assert [(await bob.receive())[3] for _ in range(2)] == ["phx_reply", "phx_close"]
        assert await bob.until_flushed() == []


async def test_a_lost_socket_is_waited_for_and_then_refused_plainly(hasty: PrivateHall, node: str) -> None:
    async with hasty.stage(node) as cast:
        channel = await cast.channel()
        token = await cast.invite(channel)
        await cast.alice.do("watch", channel, None)
        async with over_phoenix(hasty.market, hasty.bob, "lost") as bob:
            await bob.join(channel, token)
            await cast.alice.hears(["*", opened(None)])
            await bob.lose()
        await cast.alice.hears(["*", unsubscribed(None)], ["*", GONE])

        async with hasty.market.client(hasty.bob.api_key, "&instance_id=lost") as again:
            for _ in range(3):
                with pytest.raises(Refused, match=DENIED):
                    await again.join(channel, {"invitation_token": token})
            await again.flush()
            assert again.inbox == []
            await again.join(channel, {"invitation_token": await cast.invite(channel)})


async def test_the_same_agent_on_both_transports_is_two_members(hall: PrivateHall, node: str) -> None:
    async with hall.stage(node) as cast, hall.market.client(hall.alice.api_key, "&instance_id=desk") as desk:
        channel = await cast.channel()
        await cast.alice.do("listen", channel, None)
        joined = await desk.join(channel)
        assert [(one["agentId"], one["role"]) for one in joined["members"]] == [(hall.alice.id, "owner")] * 2
        assert len((await desk.expect("presence_state", channel))[hall.alice.id]["metas"]) == 2

        await desk.push(channel, "broadcastRequest", {"context": CONTACT})
        await cast.alice.hears(["*", CONTACT])
        await cast.alice.do("broadcast", channel, INSTRUMENT)
        assert (await desk.expect("broadcastEvent", channel))["context"] == INSTRUMENT


async def test_every_member_gets_every_context_in_one_order(hall: PrivateHall, node: str) -> None:
    async with hall.stage(node) as cast, hall.market.client(hall.mallory.api_key) as carol:
        channel = await cast.seated()
        await carol.join(channel, {"invitation_token": await cast.invite(channel)})
        for program in (cast.alice, cast.bob):
            await program.do("listen", channel, None)
        spoken = [
            {"type": "count", "by": who, "number": number} for number in range(20) for who in ("alice", "bob", "carol")
        ]

        async def speak(who: str) -> None:
            for context in spoken:
                if context["by"] == "carol" == who:
                    await carol.push(channel, "broadcastRequest", {"context": context})
                elif context["by"] == who:
                    await {"alice": cast.alice, "bob": cast.bob}[who].do("broadcast", channel, context)

        await asyncio.gather(*map(speak, ("alice", "bob", "carol")))
        heard = {
            "alice": [await _next_of(cast.alice, cast) for _ in range(40)],
            "bob": [await _next_of(cast.bob, cast) for _ in range(40)],
            "carol": [(await carol.expect("broadcastEvent", channel))["context"] for _ in range(40)],
        }
        for who, contexts in heard.items():
            assert {(one["by"], one["number"]) for one in contexts} == {
                (one["by"], one["number"]) for one in spoken if one["by"] != who
            }
        for one, other in itertools.combinations(heard, 2):
            third = ({"alice", "bob", "carol"} - {one, other}).pop()
            assert [c for c in heard[one] if c["by"] == third] == [c for c in heard[other] if c["by"] == third]


async def _next_of(program: Any, cast: Cast) -> dict[str, Any]:
    await cast.stage.until(lambda: program.heard)
    listener, context = program.heard.pop(0)
    assert listener == "*"
    told: dict[str, Any] = context
    return told


async def test_a_deals_channel_is_open_to_its_parties_and_ends_with_it(hall: PrivateHall, node: str) -> None:
    hall.market.here("deposit", hall.alice.handle, "10000")
    worker = hall.market.agent("bob", "Translator", "--capability", "translate=1000", "--global")
    async with (
        staged(node, hall.market) as stage,
        hall.market.client(hall.alice.api_key) as alice,
    ):
        program, mallory = await stage.open("worker", worker), await stage.open("mallory", hall.mallory)
        await alice.join("agents:discovery")
        task = await open_task(alice, worker, private_channel=True)
        channel = task["private_channel_id"]

        await alice.join(channel)
        await came(alice, channel)
        await alice.join(f"task:{task['task_id']}")
        assert await mallory.refused("join", channel, None) == DENIED
        joined = await program.do("join", channel, None)
        assert joined["channel"] == {"id": channel, "type": "private"}
        assert {key: [role for _, role in entry] for key, entry in (await came(alice, channel)).items()} == {
            worker.id: ["member"]
        }
        await program.do("broadcast", channel, CONTACT)
        assert (await alice.expect("broadcastEvent", channel))["context"] == CONTACT
        await program.do("disconnect", channel)
        await program.do("join", channel, None)
        await program.do("watch", channel, None)
        await program.hears(["*", opened(None)])

        await alice.push(f"task:{task['task_id']}", "cancel")
        await alice.expect("phx_close", channel)
        await program.hears(["*", unsubscribed(None)], ["*", GONE])
        assert await program.refused("join", channel, None) == "NoChannelFound"


# The npm clients of both transports in one program.


def run(node: str, hall: PrivateHall, vsn: str, is_hasty: str = "") -> dict[str, Any]:
    """What the script told, by step; Alice's frames were right."""
    tokens = [session_token(hall.market, account) for account in (hall.alice, hall.bob)]
    told = steps_of(node, SCRIPT, hall.market, tokens, VSN=vsn, IS_HASTY=is_hasty)
    assert faults_of([Frame(body, is_sent) for body, is_sent in told.pop("frames")]) == []
    assert told["joined"]["channel"]["type"] == "private"
    assert told["joined"]["roles"] == ["owner", "member"]
    assert told["presence"] == ["member", "owner"]
    assert told["alice hears of it"] == [opened(None)]
    assert told["bob is pushed"] == [["broadcastEvent", {"type": "a", "n": 1}]]
    assert told["bob is told of a listener"] == [[CHANNEL_OPENED, "b"]]
    assert told["bob broadcasts"] == {"ok": {}}
    assert told["alice hears"] == [{"type": "b", "n": 2}]
    assert told["current"] == [{"context": {"type": "a", "n": 1}}, {"type": "b", "n": 2}]
    assert told["malformed"] == "MalformedContext"
    assert told["no owner"] == DENIED
    assert told["phx_errors"] == 0
    return told


@pytest.mark.parametrize("vsn", V)
def test_the_npm_client_comes_back_with_the_same_parameters(hall: PrivateHall, node: str, vsn: str) -> None:
    told = run(node, hall, vsn)

    assert [told[f"current after {turn}"] for turn in range(3)] == ["missed"] * 3
    assert told["pushed again"] == [["broadcastEvent", "again"]]
    assert told["joins"] == ["ok"] * 4
    assert told["alice heard meanwhile"] == []
    assert told["bob leaves"] == {"ok": {}}
    assert told["alice hears it"] == [unsubscribed(None), GONE]
    assert told["out"] == DENIED


@pytest.mark.parametrize("vsn", V)
def test_the_npm_client_that_was_away_too_long_is_refused_once(hasty: PrivateHall, node: str, vsn: str) -> None:
    told = run(node, hasty, vsn, is_hasty="yes")

    assert told["alice hears that he is gone"] == [unsubscribed(None), GONE]
    assert told["joins"] == told["joins in the end"] == ["ok", DENIED]
    assert told["invited again"] == ["ok"]
