"""Private channels by REST: Alice's client owns one, Bob's translator is invited, Mallory's snoop knows of nothing."""

import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from agrenting.api.observing import masked
from agrenting.db import private
from agrenting.deciding import Command
from channels.identity import Identity
from channels.private import ENTER, Enter
from tests.agrenting.api.friends import wanted
from tests.agrenting.api.market import Caller, Marketplace, Player

CHANNELS = "/private-channels"
NOT_FOUND, DENIED = (404, "not_found"), (403, "AccessDenied")
DAY_S = 86_400


@pytest.fixture
async def channel_id(alice: Player) -> str:
    """A channel of Alice's client."""
    made: str = (await alice.post(CHANNELS))["id"]
    return made


@pytest.fixture
def jane(market: Marketplace, alice: Player) -> Caller:
    """Alice herself, whose client it is."""
    return market.with_key(market.user_keys["alice"])


async def enter(market: Marketplace, who: Player, channel_id: str, *, token: str | None = None, at: str = "one") -> Any:
    """As a socket of that instance does."""
    sender = Identity(kind="agent", user_id="", agent_id=who.id, handle=who.handle, key_id="")
    command = Command(handler=ENTER, topic=channel_id, request=Enter(token=token), sender=sender, instance_id=at)
    return (await market.server.engine.execute(command)).reply


async def invited(caller: Caller, channel_id: str, body: Any | None = None) -> Any:
    return await caller.post(f"{CHANNELS}/{channel_id}/invitations", body or {})


async def ended(caller: Caller, path: str) -> int:
    answer = await caller.call("DELETE", f"{CHANNELS}/{path}")
    assert answer.content == b""
    return answer.status_code


class TestMaking:
    async def test_answers_the_channel(self, alice: Player) -> None:
        made = await alice.post(CHANNELS)

        assert made == {
            "id": made["id"],
            "owner": alice.id,
            "members": [],
            "invites": [],
            "invitation_count": 0,
            "deal": None,
            "created_at": "2030-01-01T12:00:00Z",
        }
        assert made["id"].startswith("private:")
        assert await alice.get(f"{CHANNELS}/{made['id']}") == made

    async def test_is_done_once_per_idempotency_key(self, alice: Player) -> None:
        first, second = [await alice.post(CHANNELS, headers={"Idempotency-Key": "k"}) for _ in range(2)]

        assert first == second
        assert [one["id"] for one in await alice.get(CHANNELS)] == [first["id"]]

    async def test_is_refused_for_a_suspended_agent(self, alice: Player, olga: Caller) -> None:
        await olga.post(f"/admin/agents/{alice.id}/suspend")

        assert (await alice.refused("POST", CHANNELS)).why == (409, "CreationFailed")

    async def test_beyond_the_owners_share_is_refused(self, alice: Player, bob: Player, channel_id: str) -> None:
        """Those of deals are no part of it."""
        await alice.post("/negotiations", {**wanted(bob), "private_channel": True})
        for _ in range(99):
            await alice.post(CHANNELS)

        refused = await alice.refused("POST", CHANNELS)
        assert (refused.why, refused.details) == ((409, "CreationFailed"), {"max": 100})
        await bob.post(CHANNELS)
        assert await ended(alice, channel_id) == 204
        await alice.post(CHANNELS)


class TestReading:
    @pytest.fixture
    async def token(self, market: Marketplace, alice: Player, bob: Player, channel_id: str) -> str:
        """Of the one invitation that is out; Bob has come with another."""
        first = await invited(alice, channel_id)
        await enter(market, bob, channel_id, token=first["token"], at="phone")
        token: str = (await invited(alice, channel_id, {"instance_id": "desk"}))["token"]
        return token

    async def test_shows_the_tokens_to_the_owner_its_user_and_an_operator(
        self, deal: tuple[Player, Player], jane: Caller, olga: Caller, channel_id: str, token: str
    ) -> None:
        alice, bob = deal
        shown = await alice.get(f"{CHANNELS}/{channel_id}")

        (invite,) = shown["invites"]
        assert invite == {
            "id": invite["id"],
            "token": token,
            "instanceId": "desk",
            "createdAt": "2030-01-01T12:00:00Z",
            "expiresAt": "2030-01-02T12:00:00Z",
        }
        assert shown["members"] == [
            {"agentId": bob.id, "instanceId": "phone", "role": "member", "joinedAt": "2030-01-01T12:00:00Z"}
        ]
        for who in (jane, olga):
            assert await who.get(f"{CHANNELS}/{channel_id}") == shown

    async def test_shows_a_member_and_its_user_how_many_are_out_and_no_token(
        self, market: Marketplace, alice: Player, bob: Player, channel_id: str, token: str
    ) -> None:
        whole = await alice.get(f"{CHANNELS}/{channel_id}")

        for who in (bob, market.with_key(market.user_keys["bob"])):
            shown = await who.get(f"{CHANNELS}/{channel_id}")
            assert shown == {**whole, "invites": None, "invitation_count": 1}
            assert token not in json.dumps([shown, await who.get(CHANNELS)])

    async def test_is_nothing_for_who_has_no_part_in_it(
        self, market: Marketplace, alice: Player, mallory: Player, channel_id: str, token: str
    ) -> None:
        outsiders = (mallory, market.with_key(market.user_keys["mallory"]))
        paths = [(method, f"{CHANNELS}/{channel_id}") for method in ("GET", "DELETE")]
        paths += [
            ("POST", f"{CHANNELS}/{channel_id}/invitations"),
            ("DELETE", f"{CHANNELS}/{channel_id}/invitations/{token}"),
        ]

        for who in outsiders:
            assert await who.get(CHANNELS) == []
            for method, path in paths:
                assert (await who.refused(method, path)).why == NOT_FOUND
        assert (await alice.get(f"{CHANNELS}/{channel_id}"))["invites"][0]["token"] == token

    @pytest.mark.parametrize("channel_id", ["private:none", "none", "task:1", "private:", "private:private:1"])
    async def test_of_what_is_not_there_is_refused(self, alice: Player, olga: Caller, channel_id: str) -> None:
        for who in (alice, olga):
            for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/invitations"), ("DELETE", "/invitations/x")):
                assert (await who.refused(method, f"{CHANNELS}/{channel_id}{path}")).why == NOT_FOUND

    async def test_forgets_invitations_that_are_over(
        self, market: Marketplace, alice: Player, bob: Player, channel_id: str, token: str
    ) -> None:
        market.clock.advance(seconds=DAY_S)

        shown = await alice.get(f"{CHANNELS}/{channel_id}")
        assert (shown["invites"], shown["invitation_count"]) == ([], 0)
        assert (await bob.get(f"{CHANNELS}/{channel_id}"))["invitation_count"] == 0


class TestListing:
    async def test_shows_what_one_owns_or_sits_in_newest_first_page_by_page(
        self, market: Marketplace, alice: Player, bob: Player, jane: Caller
    ) -> None:
        own = [(await alice.post(CHANNELS))["id"] for _ in range(3)]
        foreign = (await bob.post(CHANNELS))["id"]
        await enter(market, alice, foreign, token=(await invited(bob, foreign))["token"])
        await enter(market, alice, own[0], at="one")
        await enter(market, alice, own[0], at="two")
        expected = sorted([*own, foreign], reverse=True)

        for who in (alice, jane):
            assert [one["id"] for one in await who.get(CHANNELS)] == expected
            found: list[str] = []
            cursor = ""
            while True:
                page = await who.page(f"{CHANNELS}?limit=1{cursor}")
                found += [one["id"] for one in page["data"]]
                if not page["metadata"]["has_more"]:
                    break
                cursor = f"&cursor={page['metadata']['next_cursor']}"
            assert found == expected
        assert [one["id"] for one in await bob.get(CHANNELS)] == [foreign]

    async def test_leaves_out_what_is_closed(self, market: Marketplace, alice: Player, bob: Player) -> None:
        own, foreign = (await alice.post(CHANNELS))["id"], (await bob.post(CHANNELS))["id"]
        await enter(market, alice, foreign, token=(await invited(bob, foreign))["token"])
        await ended(alice, own)
        await ended(bob, foreign)

        assert (await alice.get(CHANNELS), await bob.get(CHANNELS)) == ([], [])

    async def test_of_a_cursor_of_something_else_is_refused(self, alice: Player) -> None:
        assert (await alice.refused("GET", f"{CHANNELS}?cursor=nonsense")).why == (422, "invalid_cursor")


class TestInviting:
    async def test_answers_a_token_that_lets_in_once(
        self, market: Marketplace, alice: Player, bob: Player, jane: Caller, channel_id: str
    ) -> None:
        for who in (alice, jane):
            made = await invited(who, channel_id, {"expires_in": 60})
            assert made["expiresAt"] == "2030-01-01T12:01:00Z"
            assert len(made["token"]) >= 22
            reply = await enter(market, bob, channel_id, token=made["token"], at=made["id"])
            assert reply["members"][-1]["instanceId"] == made["id"]
            refused = await alice.get(f"{CHANNELS}/{channel_id}")
            assert refused["invites"] == []

    async def test_says_whom_it_is_for_as_it_was_asked_and_not_who_has_that_name(
        self, market: Marketplace, alice: Player, bob: Player, channel_id: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(market.server.engine, "holder_of", {"phone": bob.id}.get)

        made = [await invited(alice, channel_id, {"instance_id": scope}) for scope in (None, bob.id, "phone", "desk")]

        assert [one["instanceId"] for one in made] == [None, bob.id, "phone", "desk"]
        assert {name for one in made for name in one} == {"id", "token", "instanceId", "createdAt", "expiresAt"}
        assert (await alice.get(f"{CHANNELS}/{channel_id}"))["invites"] == made

    async def test_is_the_owners_alone(
        self, market: Marketplace, alice: Player, bob: Player, olga: Caller, channel_id: str
    ) -> None:
        await enter(market, bob, channel_id, token=(await invited(alice, channel_id))["token"])

        for who in (bob, market.with_key(market.user_keys["bob"]), olga):
            assert (await who.refused("POST", f"{CHANNELS}/{channel_id}/invitations")).why == DENIED

    @pytest.mark.parametrize("body", [{"expires_in": 0}, {"instance_id": ""}, {"expires_in": "1"}, {"instance_id": 1}])
    async def test_of_what_is_none_is_refused(self, alice: Player, channel_id: str, body: Any) -> None:
        refused = await alice.refused("POST", f"{CHANNELS}/{channel_id}/invitations", body)

        assert refused.why == (422, "invalid_payload")
        assert refused.details.keys() == {f"/{name}" for name in body}

    async def test_is_done_once_per_idempotency_key_and_its_token_is_not_kept_for_the_repetition(
        self, market: Marketplace, alice: Player, channel_id: str
    ) -> None:
        path, headers = f"{CHANNELS}/{channel_id}/invitations", {"Idempotency-Key": "k"}
        first, again = await alice.post(path, {}, headers=headers), await alice.post(path, {}, headers=headers)

        assert again == {**first, "token": None}
        assert (await alice.get(f"{CHANNELS}/{channel_id}"))["invitation_count"] == 1
        kept = await market.server.database.read(lambda tx: tx.all("SELECT body FROM idempotency_keys"))
        assert first["token"] not in str(kept)
        assert (await alice.refused("POST", path, {"expires_in": 5}, headers=headers)).why == (
            422, "idempotency_mismatch",
        )  # fmt: skip


class TestRevoking:
    @pytest.mark.parametrize("name", ["id", "token"])
    async def test_ends_an_invitation_by_its_id_or_its_token_however_often(
        self, alice: Player, olga: Caller, channel_id: str, name: str
    ) -> None:
        made, kept = await invited(alice, channel_id), await invited(alice, channel_id)

        for who in (alice, alice, olga):
            assert await ended(who, f"{channel_id}/invitations/{made[name]}") == 204
        assert [one["id"] for one in (await alice.get(f"{CHANNELS}/{channel_id}"))["invites"]] == [kept["id"]]

    async def test_is_not_for_members(self, market: Marketplace, alice: Player, bob: Player, channel_id: str) -> None:
        await enter(market, bob, channel_id, token=(await invited(alice, channel_id))["token"])
        made = await invited(alice, channel_id)

        path = f"{CHANNELS}/{channel_id}/invitations/{made['token']}"
        assert (await bob.refused("DELETE", path)).why == DENIED

    async def test_writes_no_token_into_the_log(self, alice: Player, mallory: Player, channel_id: str) -> None:
        token = (await invited(alice, channel_id))["token"]
        path = f"{CHANNELS}/{channel_id}/invitations/{token}"

        with capture_logs() as logs:
            for who in (mallory, alice, alice):
                await who.call("DELETE", path)
            await alice.call("DELETE", f"{path}/more")
            await alice.call("GET", path)

        written = [one for one in logs if one["event"] == "request"]
        assert len(written) == 5
        assert {one["path"] for one in written} == {f"/api/v1{CHANNELS}/{channel_id}/invitations/…"}
        assert token not in str(logs)


class TestClosing:
    async def test_ends_a_channel_for_everybody(
        self, market: Marketplace, alice: Player, bob: Player, channel_id: str
    ) -> None:
        token = (await invited(alice, channel_id))["token"]
        await enter(market, bob, channel_id, token=token)

        assert await ended(alice, channel_id) == 204

        for who in (alice, bob):
            assert (await who.refused("GET", f"{CHANNELS}/{channel_id}")).why == NOT_FOUND
        assert (await alice.refused("DELETE", f"{CHANNELS}/{channel_id}")).why == NOT_FOUND
        assert await market.server.database.read(private.all_seats) == []

    async def test_is_for_the_owner_its_user_and_operators(
        self, market: Marketplace, alice: Player, bob: Player, jane: Caller, olga: Caller
    ) -> None:
        for who in (jane, olga):
            channel_id = (await alice.post(CHANNELS))["id"]
            await enter(market, bob, channel_id, token=(await invited(alice, channel_id))["token"])
            assert (await bob.refused("DELETE", f"{CHANNELS}/{channel_id}")).why == DENIED
            assert await ended(who, channel_id) == 204


class TestADealsChannel:
    async def test_is_seen_and_listed_by_its_other_party_as_by_a_member_before_it_comes(
        self, market: Marketplace, alice: Player, bob: Player, mallory: Player
    ) -> None:
        deal = await alice.post("/negotiations", {**wanted(bob), "private_channel": True})
        channel_id = deal["private_channel_id"]

        for who in (bob, market.with_key(market.user_keys["bob"])):
            assert await who.get(CHANNELS) == [await who.get(f"{CHANNELS}/{channel_id}")]
            shown = await who.get(f"{CHANNELS}/{channel_id}")
            assert (shown["owner"], shown["invites"], shown["deal"]) == (alice.id, None, f"negotiation:{deal['id']}")
        assert (await mallory.refused("GET", f"{CHANNELS}/{channel_id}")).why == NOT_FOUND
        await enter(market, bob, channel_id)
        await bob.post(f"/negotiations/{deal['id']}/reject", {})
        for who in (alice, bob):
            assert (await who.refused("GET", f"{CHANNELS}/{channel_id}")).why == NOT_FOUND
        assert await bob.get(CHANNELS) == []


class TestTheEndOfAnAgent:
    async def test_by_a_ban_closes_its_channels_and_takes_it_out_of_others(
        self, market: Marketplace, alice: Player, bob: Player, olga: Caller, channel_id: str
    ) -> None:
        bobs = (await bob.post(CHANNELS))["id"]
        await enter(market, alice, bobs, token=(await invited(bob, bobs))["token"])
        await enter(market, bob, channel_id, token=(await invited(alice, channel_id))["token"])

        await olga.post(f"/admin/agents/{alice.id}/ban")

        assert (await bob.refused("GET", f"{CHANNELS}/{channel_id}")).why == NOT_FOUND
        assert (await bob.get(f"{CHANNELS}/{bobs}"))["members"] == []

    async def test_by_deletion_does_the_same(self, market: Marketplace, bob: Player) -> None:
        owner = await market.user("carol")
        carol = await market.agent("carol", "Watcher")
        channel_id, bobs = (await carol.post(CHANNELS))["id"], (await bob.post(CHANNELS))["id"]
        await enter(market, carol, bobs, token=(await invited(bob, bobs))["token"])
        await enter(market, bob, channel_id, token=(await invited(carol, channel_id))["token"])

        await owner.delete(f"/agents/{carol.id}")

        assert [one["id"] for one in await bob.get(CHANNELS)] == [bobs]
        assert (await bob.get(f"{CHANNELS}/{bobs}"))["members"] == []


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/api/v1/private-channels/private:1/invitations/secret", "/api/v1/private-channels/private:1/invitations/…"),
        (
            "/api/v1/private-channels/private:1/invitations/se\ncret/x",
            "/api/v1/private-channels/private:1/invitations/…",
        ),
        ("/api/v1/private-channels/private:1/invitations", "/api/v1/private-channels/private:1/invitations"),
        ("/api/v1/tasks/1", "/api/v1/tasks/1"),
    ],
)
def test_a_path_is_logged_without_what_names_an_invitation(path: str, shown: str) -> None:
    assert masked(path) == shown
