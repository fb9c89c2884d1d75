"""Band's own SDK, unmodified: who an agent and a user are, and whom they find."""

import asyncio

import pytest

from tests.system.band import (
    ApiError,
    ForbiddenError,
    Peer,
    Player,
    Profile,
    Stage,
    UnauthorizedError,
    UnprocessableEntityError,
    present,
)

WITHIN_S = 30


async def peers_of(player: Player, page_size: int = 100) -> dict[str, Peer]:
    """Handle → peer, read page by page as the SDK's runtime does."""
    found: dict[str, Peer] = {}
    page = 0
    while True:
        page += 1
        answer = await player.peers.list_agent_peers(page=page, page_size=page_size)
        assert (answer.metadata.page, answer.metadata.page_size) == (page, page_size)
        assert len(answer.data) <= page_size
        for row in answer.data:
            assert row.handle not in found, "a peer stands on two pages"
            found[row.handle] = row
        if page >= present(answer.metadata.total_pages):
            assert answer.metadata.total_count == len(found)
            return found


async def test_an_agent_learns_who_it_is(stage: Stage) -> None:
    bob = stage.agent("bob", tags=["words", "law"], called="Research Bot")

    me = (await bob.identity.get_agent_me()).data

    assert (me.id, me.name, me.description) == (bob.id, "Research Bot", "Research Bot of bob")
    assert me.handle == f"{bob.owner.handle}/research-bot"
    assert me.owner_uuid == bob.owner.id
    assert me.listed_in_directory is True
    assert set(present(me.tags)) == {"words", "law"}
    assert me.feature_flags["ff_file_transfer"] is False
    assert me.feature_flags["ff_room_tasks"] is False
    assert me.inserted_at <= me.updated_at


async def test_an_unlisted_agent_is_told_so(stage: Stage) -> None:
    bob = stage.agent("bob", is_listed=False)

    assert (await bob.identity.get_agent_me()).data.listed_in_directory is False


async def test_a_wrong_key_is_unauthorized_everywhere(stage: Stage) -> None:
    nobody = stage.known({"id": "none", "handle": "none", "api_key": "agk_wrong"})

    with pytest.raises(UnauthorizedError) as refused:
        await nobody.identity.get_agent_me()
    assert refused.value.body.error.request_id
    with pytest.raises(UnauthorizedError):
        await nobody.peers.list_agent_peers()
    with pytest.raises(UnauthorizedError):
        await nobody.contacts.list_agent_contacts()
    with pytest.raises(UnauthorizedError):
        await nobody.contacts.add_agent_contact(handle="alice")
    with pytest.raises(UnauthorizedError):
        await nobody.my_profile.get_my_profile()
    with pytest.raises(UnauthorizedError):
        await nobody.my_contacts.list_my_contacts()


async def test_agents_and_users_each_have_their_own_doors(stage: Stage) -> None:
    bob = stage.agent("bob")

    with pytest.raises(ForbiddenError) as refused:
        await bob.owner.identity.get_agent_me()
    assert refused.value.body.error.message
    with pytest.raises(ForbiddenError):
        await bob.owner.peers.list_agent_peers()
    with pytest.raises(ForbiddenError):
        await bob.my_profile.get_my_profile()
    with pytest.raises(ForbiddenError):
        await bob.my_contacts.list_my_contacts()
    with pytest.raises(ForbiddenError):
        await bob.my_contacts.resolve_handle(handle=bob.owner.handle)
    with pytest.raises(ForbiddenError):
        await bob.my_agents.list_my_agents()
    with pytest.raises(ForbiddenError):
        await bob.my_peers.list_my_peers()
    with pytest.raises(ApiError) as untyped:  # The SDK declares no 403 here.
        await bob.owner.contacts.add_agent_contact(handle=bob.handle)
    assert untyped.value.status_code == 403


async def test_a_user_reads_and_changes_its_profile(stage: Stage) -> None:
    alice = stage.user("alice")

    before = (await alice.my_profile.get_my_profile()).data
    after = (await alice.my_profile.update_my_profile(user=Profile(first_name="Alice", last_name="Liddell"))).data

    assert (before.id, before.handle) == (alice.id, alice.handle)
    assert before.email is not None
    assert before.role == "user"
    assert (after.id, after.handle, after.role) == (before.id, before.handle, before.role)
    assert (after.first_name, after.last_name) == ("Alice", "Liddell")
    assert (await alice.my_profile.get_my_profile()).data == after


async def test_a_profile_that_is_none_is_refused_with_the_field_at_fault(stage: Stage) -> None:
    alice = stage.user("alice")

    with pytest.raises(UnprocessableEntityError) as refused:
        await alice.my_profile.update_my_profile(user=Profile(first_name="A" * 5_000))

    details = refused.value.body["error"]["details"]
    assert all(pointer.startswith("/user/first_name") for pointer in details)
    assert all(isinstance(sentences, list) for sentences in details.values())
    assert (await alice.my_profile.get_my_profile()).data.first_name is None


async def test_peers_are_owner_siblings_globals_and_contacts_and_nobody_else(stage: Stage) -> None:
    bob = stage.agent("bob", called="Bob")
    sibling = stage.agent(owner=bob.owner, called="Sibling")
    everybodys = stage.agent("greta", is_global=True, called="Everybodys")
    friend = stage.agent("frida", called="Friend")
    asked = stage.agent("pia", called="Pending")
    stranger = stage.agent("mallory", tags=["words"], called="Stranger")
    await bob.befriend(friend)
    await bob.ask(asked)

    peers = await peers_of(bob)

    told = {handle: (row.type, row.source, row.is_contact) for handle, row in peers.items()}
    mine = {bob.owner.handle, sibling.handle, everybodys.handle, friend.handle}
    assert {handle: told[handle] for handle in mine} == {
        bob.owner.handle: ("User", "registry", True),
        sibling.handle: ("Agent", "registry", False),
        everybodys.handle: ("Agent", "registry", False),
        friend.handle: ("Agent", "contact", True),
    }
    assert not {bob.handle, asked.handle, stranger.handle, friend.owner.handle} & peers.keys()
    assert not [handle for handle in peers if handle.startswith("@")]
    assert (peers[friend.handle].id, peers[friend.handle].name) == (friend.id, "Friend")
    sources = [row.source for row in peers.values()]
    assert sources == sorted(sources, reverse=True), "what is of the registry stands first"


async def test_the_peers_of_an_organisation_member_are_what_the_others_have_shared(stage: Stage) -> None:
    organisation = f"org-of-{stage.user('carl').handle}"
    stage.market.here("org", "create", organisation)
    carl, dora = (stage.user(name, "--org", organisation) for name in ("carl", "dora"))
    bob = stage.agent("bob", organisation=organisation, owner=carl, called="Bob")
    shared = stage.agent("dora", organisation=organisation, owner=dora, called="Shared")
    personal = stage.agent("dora", owner=dora, called="Personal")

    peers = await peers_of(bob)

    assert peers[shared.handle].source == "registry"
    assert peers[shared.handle].is_contact is False
    assert personal.handle not in peers


async def test_every_page_of_peers_is_read_once(stage: Stage) -> None:
    bob = stage.agent("bob", called="Bob")
    siblings = [stage.agent(owner=bob.owner, called=f"Sibling {number}") for number in range(5)]
    friends = [stage.agent("frida", called=f"Friend {number}") for number in range(3)]
    for friend in friends:
        await bob.befriend(friend)

    small, large = await peers_of(bob, page_size=2), await peers_of(bob)

    assert list(small) == list(large)
    assert {player.handle for player in (*siblings, *friends, bob.owner)} <= small.keys()
    beyond = await bob.peers.list_agent_peers(page=1_000, page_size=2)
    assert beyond.data == []
    assert beyond.metadata.total_count == len(small)


async def test_a_page_that_is_none_is_refused(stage: Stage) -> None:
    bob = stage.agent("bob")

    for page, size in ((0, 20), (1, 0), (1, 101)):
        with pytest.raises(ApiError) as refused:
            await bob.peers.list_agent_peers(page=page, page_size=size)
        assert refused.value.status_code in {400, 422}


async def test_a_peer_is_online_while_its_socket_is_open(stage: Stage) -> None:
    alice, bob = stage.agent("alice", called="Alice"), stage.agent("bob", called="Bob")
    await alice.befriend(bob)
    before = (await peers_of(alice))[bob.handle].online

    link = await stage.link(bob)
    during = (await peers_of(alice))[bob.handle].online
    friends = (await alice.friends())[bob.handle].online
    await link.disconnect()

    assert (before, during, friends) == (False, True, True)
    async with asyncio.timeout(WITHIN_S):  # The server counts a socket out just after its close frame.
        while (await peers_of(alice))[bob.handle].online:
            pass


async def test_a_users_peers_are_its_agents_globals_and_contacts(stage: Stage) -> None:
    alice = stage.user("alice")
    own = stage.agent(owner=alice, called="Own")
    everybodys = stage.agent("greta", is_global=True, called="Everybodys")
    friend = stage.user("frida")
    stranger = stage.agent("mallory", tags=["words"])
    made = await alice.invite(friend)
    await friend.my_contacts.approve_contact_request(made.id)

    answer = await alice.my_peers.list_my_peers(page_size=100)
    users = await alice.my_peers.list_my_peers(type="User", page_size=100)
    agents = await alice.my_peers.list_my_peers(type="Agent", page_size=100)

    peers = {row.handle: (row.type, row.source) for row in answer.data}
    assert peers[own.handle] == ("Agent", "registry")
    assert peers[everybodys.handle] == ("Agent", "registry")
    assert peers[friend.handle] == ("User", "contact")
    assert not {alice.handle, stranger.handle} & peers.keys()
    assert {row.handle for row in users.data} == {handle for handle, (kind, _) in peers.items() if kind == "User"}
    assert {row.handle for row in agents.data} == {handle for handle, (kind, _) in peers.items() if kind == "Agent"}
    assert answer.metadata.total_count == len(peers)
