"""The unmodified `@finos/fdc3-agent-proxy` from npm on private channels; FDC3's schemas judge every frame."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.system.fdc3_programs import Program
from tests.system.private_halls import (
    CHANNEL_OPENED,
    CONTACT,
    DISCONNECTED,
    GONE,
    INSTRUMENT,
    NO_SUCH,
    UNSUBSCRIBED,
    PrivateHall,
    opened,
    private_hall,
    unsubscribed,
)

DENIED = "AccessDenied"
KINDS = ["addContextListener", "unsubscribe", "disconnect"]


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateHall]:
    settings = {"AGRENTING_PRIVATE_FAILURES_BURST": "1000"}
    with private_hall(tmp_path_factory.mktemp("fdc3") / "var", **settings) as hall:
        yield hall


async def denials(program: Program, channel: str) -> set[str]:
    """What somebody is told who tries everything in a channel that is not open to it."""
    await program.do("seat", channel)
    return {
        await program.refused("broadcast", channel, INSTRUMENT),
        await program.refused("current", channel, None),
        await program.refused("current", channel, INSTRUMENT["type"]),
        await program.refused("listen", channel, None),
        await program.refused("listen", channel, INSTRUMENT["type"]),
        *[await program.refused("watch", channel, kind) for kind in (*KINDS, None)],
        await program.refused("disconnect", channel),
        await program.refused("ask", "leavePrivateChannel", {"channelId": channel}),
        await program.refused("join", channel, None),
        await program.refused("join", channel, "00000000-0000-4000-8000-000000000000"),
        await program.refused("ask", "joinPrivateChannel", {"channelId": channel}),
        await program.refused("ask", "createPrivateChannelInvitation", {"channelId": channel}),
        await program.refused("ask", "revokePrivateChannelInvitation", {"channelId": channel, "invitationToken": "x"}),
        await program.refused("ask", "removePrivateChannelMember", {"channelId": channel, "instanceId": "x"}),
    }


async def test_get_info_names_the_agent_and_each_of_its_instances(hall: PrivateHall, node: str) -> None:
    async with hall.stage(node) as cast:
        again = await cast.another("alice again", hall.alice)
        told = [await program.do("info") for program in (cast.alice, again, cast.bob)]

        assert [one["appMetadata"]["appId"] for one in told] == [hall.alice.handle, hall.alice.handle, hall.bob.handle]
        assert len({one["appMetadata"]["instanceId"] for one in told}) == 3
        assert {one["fdc3Version"] for one in told} == {"2.2"}
        assert all(one["provider"] for one in told)
        assert told[0]["optionalFeatures"]["OriginatingAppMetadata"] is True
        assert (await cast.alice.do("info"))["appMetadata"] == told[0]["appMetadata"]


async def test_a_channel_is_open_to_whom_its_owner_invites_and_to_nobody_else(hall: PrivateHall, node: str) -> None:
    async with hall.stage(node) as cast:
        created = await cast.alice.do("create")
        channel = created["id"]
        mallory = await cast.mallory()

        assert created["type"] == "private"
        assert channel.startswith("private:")
        assert not channel.startswith("private:private:")
        assert await denials(cast.bob, channel) == {DENIED}
        joined = await cast.bob.do("join", channel, await cast.invite(channel))
        assert joined["channel"] == {"id": channel, "type": "private"}
        assert await denials(mallory, channel) == {DENIED}
        assert await denials(cast.bob, NO_SUCH) == {"NoChannelFound"}
        await cast.alice.hears_nothing()
        await mallory.hears_nothing()


async def test_a_private_channel_is_no_app_channel(hall: PrivateHall, node: str) -> None:
    async with hall.stage(node) as cast:
        channel = await cast.seated()
        for program in (cast.alice, cast.bob, await cast.mallory()):
            assert await program.refused("getOrCreate", channel) == DENIED
            assert await program.refused("getOrCreate", NO_SUCH) == DENIED


async def test_contexts_go_both_ways_to_who_listens_and_never_back(hall: PrivateHall, node: str) -> None:
    async with hall.stage(node) as cast:
        channel = await cast.seated()
        await cast.alice.do("watch", channel, None)
        await cast.alice.do("listen", channel, None)
        await cast.bob.do("listen", channel, "fdc3.instrument")
        await cast.bob.do("listen", channel, None)
        await cast.alice.hears(["*", opened("fdc3.instrument")], ["*", opened(None)])
        rich = {**INSTRUMENT, "market": {"price": [1, 2.5, None, True, "€"]}, "": {"constructor": "x"}}

        await cast.alice.do("broadcast", channel, rich)
        await cast.bob.hears(["fdc3.instrument", rich], ["*", rich])
        await cast.alice.do("broadcast", channel, CONTACT)
        await cast.bob.hears(["*", CONTACT])
        await cast.bob.do("broadcast", channel, {"type": "x"})
        await cast.alice.hears(["*", {"type": "x"}])

        for program in (cast.alice, cast.bob):
            await program.hears_nothing()
        source = (await cast.alice.do("info"))["appMetadata"]
        origin = {"appId": source["appId"], "instanceId": source["instanceId"]}
        assert cast.bob.came("broadcastEvent") == [
            {"channelId": channel, "context": context, "originatingApp": origin} for context in (rich, CONTACT)
        ]
        assert len(cast.alice.came("broadcastEvent")) == 1


async def test_who_comes_late_asks_for_the_newest_context_and_is_sent_none(hall: PrivateHall, node: str) -> None:
    async with hall.stage(node) as cast:
        channel = await cast.channel()
        assert await cast.alice.do("current", channel, None) is None
        await cast.alice.do("broadcast", channel, INSTRUMENT)
        await cast.alice.do("broadcast", channel, CONTACT)
        newer = {**INSTRUMENT, "id": {"ticker": "MSFT"}}
        await cast.alice.do("broadcast", channel, newer)

        await cast.admit(cast.bob, channel)
        await cast.bob.do("listen", channel, None)
        await cast.bob.do("listen", channel, "fdc3.contact")
        await cast.bob.hears_nothing()
        assert await cast.bob.do("current", channel, None) == newer
        assert await cast.bob.do("current", channel, "fdc3.instrument") == newer
        assert await cast.bob.do("current", channel, "fdc3.contact") == CONTACT
        assert await cast.bob.do("current", channel, "fdc3.country") is None


async def test_an_unsubscribed_listener_hears_no_more_and_the_others_are_told(hall: PrivateHall, node: str) -> None:
    async with hall.stage(node) as cast:
        channel = await cast.seated()
        typed = await cast.bob.do("listen", channel, "fdc3.instrument")
        all_types = await cast.bob.do("listen", channel, None)
        watching = await cast.alice.do("watch", channel, None)
        await cast.alice.hears(["*", opened("fdc3.instrument")], ["*", opened(None)])

        await cast.bob.do("unsubscribe", typed)
        await cast.alice.hears(["*", unsubscribed("fdc3.instrument")])
        await cast.alice.do("broadcast", channel, INSTRUMENT)
        await cast.bob.hears(["*", INSTRUMENT])
        await cast.alice.do("unsubscribe", watching)
        await cast.bob.do("unsubscribe", all_types)
        await cast.alice.do("broadcast", channel, INSTRUMENT)
        await cast.bob.hears_nothing()
        await cast.alice.hears_nothing()
        assert len(cast.bob.came("broadcastEvent")) == 1
        assert [one["contextType"] for one in cast.alice.came(UNSUBSCRIBED)] == ["fdc3.instrument"]


async def test_a_listener_is_removed_by_its_own_program_and_once(hall: PrivateHall, node: str) -> None:
    async with hall.stage(node) as cast:
        channel = await cast.seated()
        context = await cast.bob.do("listen", channel, None)
        event = await cast.bob.do("watch", channel, None)
        ends = [
            ("contextListenerUnsubscribeRequest", context),
            ("privateChannelUnsubscribeEventListenerRequest", event),
        ]

        for program in (cast.alice, await cast.mallory(), await cast.another("bob again", hall.bob)):
            for end, listener in (*ends, (ends[0][0], "nobody's"), (ends[1][0], "nobody's")):
                assert await program.refused("ask", end, {"listenerUUID": listener}) == DENIED
        await cast.alice.do("broadcast", channel, CONTACT)
        await cast.bob.hears(["*", CONTACT])
        for end, listener in ends:
            assert await cast.bob.do("ask", end, {"listenerUUID": listener}) == {}
            assert await cast.bob.refused("ask", end, {"listenerUUID": listener}) == DENIED


async def test_each_kind_of_event_listener_is_told_its_kind(hall: PrivateHall, node: str) -> None:
    async with hall.stage(node) as cast:
        channel = await cast.seated()
        watchers = {}
        for kind in (None, *KINDS):
            watchers[kind] = await cast.another(f"watches {kind}", hall.alice)
            await watchers[kind].do("join", channel, None)
            await watchers[kind].do("watch", channel, kind)
        before = await cast.another("watches as before", hall.alice)
        await before.do("join", channel, None)
        for method in ("onAddContextListener", "onUnsubscribe", "onDisconnect"):
            await before.do("watchAsBefore", channel, method)

        first = await cast.bob.do("listen", channel, "fdc3.contact")
        await cast.bob.do("listen", channel, None)
        await cast.bob.do("unsubscribe", first)
        await cast.bob.do("listen", channel, "x")
        await cast.bob.do("disconnect", channel)

        added = [opened("fdc3.contact"), opened(None), opened("x")]
        removed = [unsubscribed("fdc3.contact"), unsubscribed(None), unsubscribed("x")]
        await watchers[None].hears(*[["*", one] for one in (*added[:2], removed[0], added[2], *removed[1:], GONE)])
        await watchers["addContextListener"].hears(*[["addContextListener", one] for one in added])
        await watchers["unsubscribe"].hears(*[["unsubscribe", one] for one in removed])
        await watchers["disconnect"].hears(["disconnect", GONE])
        await before.hears(
            ["onAddContextListener", "fdc3.contact"], ["onAddContextListener", None],
            ["onUnsubscribe", "fdc3.contact"], ["onAddContextListener", "x"],
            ["onUnsubscribe", None], ["onUnsubscribe", "x"], ["onDisconnect", None],
        )  # fmt: skip
        for program in (*watchers.values(), before, cast.alice, cast.bob):
            await program.hears_nothing()
        counts = {
            kind: [len(one.came(type_)) for type_ in (CHANNEL_OPENED, UNSUBSCRIBED, DISCONNECTED)]
            for kind, one in {**watchers, "as before": before}.items()
        }
        assert counts == {
            None: [3, 3, 1],
            "addContextListener": [3, 3, 1],
            "unsubscribe": [0, 3, 0],
            "disconnect": [0, 0, 1],
            "as before": [3, 3, 1],
        }
        assert [len(cast.alice.came(type_)) for type_ in (CHANNEL_OPENED, UNSUBSCRIBED, DISCONNECTED)] == [0, 0, 0]


async def test_who_watches_late_is_told_of_the_listeners_that_are_there(hall: PrivateHall, node: str) -> None:
    async with hall.stage(node) as cast:
        channel = await cast.seated()
        await cast.bob.do("listen", channel, "fdc3.contact")
        await cast.bob.do("listen", channel, None)
        await cast.alice.do("listen", channel, "her own")

        await cast.alice.do("watch", channel, "addContextListener")
        await cast.alice.hears(*[["addContextListener", opened(one)] for one in ("fdc3.contact", None)])
        await cast.alice.hears_nothing()


@pytest.mark.parametrize("way", ["disconnect", "leave"])
async def test_who_leaves_is_out_until_it_is_invited_again(hall: PrivateHall, node: str, way: str) -> None:
    async with hall.stage(node) as cast:
        channel = await cast.channel()
        token = await cast.invite(channel)
        await cast.bob.do("join", channel, token)
        listeners = [await cast.bob.do("listen", channel, type_) for type_ in ("fdc3.contact", None)]
        await cast.bob.do("watch", channel, None)
        await cast.alice.do("watch", channel, None)
        await cast.alice.hears(["*", opened("fdc3.contact")], ["*", opened(None)])

        if way == "disconnect":
            await cast.bob.do("disconnect", channel)
        else:
            assert await cast.bob.do("ask", "leavePrivateChannel", {"channelId": channel}) == {}
        await cast.alice.hears(["*", unsubscribed("fdc3.contact")], ["*", unsubscribed(None)], ["*", GONE])
        assert await denials(cast.bob, channel) == {DENIED}
        assert {await cast.bob.refused("unsubscribe", one) for one in listeners} == {DENIED}
        assert await cast.bob.refused("join", channel, token) == DENIED
        await cast.alice.do("broadcast", channel, CONTACT)
        await cast.alice.do("listen", channel, None)
        await cast.bob.hears_nothing()

        await cast.admit(cast.bob, channel)
        await cast.bob.do("listen", channel, None)
        await cast.alice.do("broadcast", channel, INSTRUMENT)
        await cast.bob.hears(["*", INSTRUMENT])
        assert cast.bob.came("broadcastEvent")[0]["context"] == INSTRUMENT
        await cast.alice.hears(["*", opened(None)])


async def test_an_owner_that_left_invites_and_comes_back_without_a_token(hall: PrivateHall, node: str) -> None:
    async with hall.stage(node) as cast:
        channel = await cast.seated()
        guest = await cast.mallory()
        await cast.bob.do("watch", channel, None)
        await cast.alice.do("listen", channel, None)
        await cast.bob.hears(["*", opened(None)])

        await cast.alice.do("disconnect", channel)
        await cast.bob.hears(["*", unsubscribed(None)], ["*", GONE])
        assert await cast.alice.refused("broadcast", channel, CONTACT) == DENIED
        assert await cast.alice.refused("listen", channel, None) == DENIED
        await cast.admit(guest, channel)
        await guest.do("listen", channel, None)
        await cast.bob.do("broadcast", channel, CONTACT)
        await guest.hears(["*", CONTACT])
        joined = await cast.alice.do("join", channel, None)
        assert joined["channel"]["id"] == channel
        await cast.alice.do("broadcast", channel, INSTRUMENT)
        await guest.hears(["*", INSTRUMENT])


async def test_a_token_lets_one_in_once_and_into_its_own_channel(hall: PrivateHall, node: str) -> None:
    async with hall.stage(node) as cast:
        channel, other = await cast.channel(), await cast.channel()
        token, foreign = await cast.invite(channel), await cast.invite(other)
        mallory = await cast.mallory()
        bob_again = await cast.another("bob again", hall.bob)

        assert await cast.bob.refused("join", channel, foreign) == DENIED
        await cast.bob.do("join", channel, token)
        for program in (mallory, bob_again):
            assert await program.refused("join", channel, token) == DENIED
        await cast.bob.do("join", channel, token)
        kept = await cast.invite(channel)
        await cast.bob.do("join", channel, kept)
        await bob_again.do("join", channel, kept)
        await mallory.do("join", other, foreign)
        for one in (channel, other):
            state = await asyncio.to_thread(hall.call, hall.alice, "GET", f"private-channels/{one}")
            assert state["invites"] == []
        for secret in (token, foreign, kept):
            assert len(secret) >= 22


async def test_one_of_two_that_race_for_a_token_gets_in(hall: PrivateHall, node: str) -> None:
    async with hall.stage(node) as cast:
        channel, mallory = await cast.channel(), await cast.mallory()
        for _ in range(10):
            token = await cast.invite(channel)
            came = await asyncio.gather(
                *[program.do("join", channel, token) for program in (cast.bob, mallory)], return_exceptions=True
            )
            assert sorted(isinstance(one, Exception) for one in came) == [False, True]
            assert [str(one) for one in came if isinstance(one, Exception)] == [DENIED]
            winner = cast.bob if isinstance(came[1], Exception) else mallory
            await winner.do("disconnect", channel)


async def test_an_invitation_may_be_for_an_instance_or_for_an_agent(hall: PrivateHall, node: str) -> None:
    async with hall.stage(node) as cast:
        channel, mallory = await cast.channel(), await cast.mallory()
        bob_again = await cast.another("bob again", hall.bob)
        instance = (await cast.bob.do("info"))["appMetadata"]["instanceId"]

        token = await cast.invite(channel, instanceId=instance)
        for program in (mallory, bob_again):
            assert await program.refused("join", channel, token) == DENIED
        await cast.bob.do("join", channel, token)
        token = await cast.invite(channel, instanceId=hall.bob.id)
        assert await mallory.refused("join", channel, token) == DENIED
        await bob_again.do("join", channel, token)


async def test_a_revoked_invitation_lets_nobody_in(hall: PrivateHall, node: str) -> None:
    async with hall.stage(node) as cast:
        channel = await cast.channel()
        token, kept = await cast.invite(channel), await cast.invite(channel)
        revocation = {"channelId": channel, "invitationToken": token}

        for _ in range(2):
            assert await cast.alice.do("ask", "revokePrivateChannelInvitation", revocation) == {}
        assert await cast.bob.refused("join", channel, token) == DENIED
        await cast.bob.do("join", channel, kept)


async def test_the_owner_removes_a_member(hall: PrivateHall, node: str) -> None:
    async with hall.stage(node) as cast:
        channel = await cast.seated()
        watcher = await cast.mallory()
        await cast.admit(watcher, channel)
        await cast.bob.do("listen", channel, None)
        for program in (cast.alice, watcher):
            await program.do("watch", channel, None)
            await program.hears(["*", opened(None)])
        instance = (await cast.bob.do("info"))["appMetadata"]["instanceId"]
        removal = {"channelId": channel, "instanceId": instance}

        assert await watcher.refused("ask", "removePrivateChannelMember", removal) == DENIED
        assert await cast.alice.do("ask", "removePrivateChannelMember", removal) == {}
        for program in (cast.alice, watcher):
            await program.hears(["*", unsubscribed(None)], ["*", GONE])
        assert await denials(cast.bob, channel) == {DENIED}


async def test_a_closed_channel_is_over_for_all_and_found_no_more(hall: PrivateHall, node: str) -> None:
    async with hall.stage(node) as cast:
        channel = await cast.seated()
        pending = await cast.invite(channel)
        await cast.alice.do("listen", channel, "fdc3.contact")
        await cast.bob.do("listen", channel, None)
        for program, theirs in ((cast.alice, None), (cast.bob, "fdc3.contact")):
            await program.do("watch", channel, None)
            await program.hears(["*", opened(theirs)])

        await asyncio.to_thread(hall.call, hall.alice, "DELETE", f"private-channels/{channel}")
        await cast.alice.hears(["*", unsubscribed(None)], ["*", GONE])
        await cast.bob.hears(["*", unsubscribed("fdc3.contact")], ["*", GONE])
        for program in (cast.alice, cast.bob, await cast.mallory()):
            assert await denials(program, channel) == {"NoChannelFound"}
            assert await program.refused("join", channel, pending) == "NoChannelFound"
            await program.hears_nothing()


async def test_a_program_sits_in_several_channels_and_nothing_crosses(hall: PrivateHall, node: str) -> None:
    async with hall.stage(node) as cast:
        channels = [await cast.seated() for _ in range(3)]
        own = (await cast.bob.do("create"))["id"]
        for channel in (*channels, own):
            await cast.bob.do("listen", channel, None)

        for number, channel in enumerate(channels):
            await cast.alice.do("broadcast", channel, {"type": "x", "number": number})
        await cast.bob.hears(*[["*", {"type": "x", "number": number}] for number in range(3)])
        await cast.bob.do("disconnect", channels[0])
        await cast.alice.do("broadcast", channels[1], CONTACT)
        await cast.bob.hears(["*", CONTACT])
        assert await denials(cast.alice, own) == {DENIED}
