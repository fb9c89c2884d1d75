"""Band's own SDK, unmodified: a user registers, lists and deletes its agents."""

import pytest

from tests.system.band import (
    AgentRegisterRequest,
    NotFoundError,
    Stage,
    UnauthorizedError,
    UnprocessableEntityError,
    present,
)


async def test_a_registered_agent_works_at_once_and_is_listed(stage: Stage) -> None:
    alice, bob = stage.user("alice"), stage.agent("bob")

    made = (
        await alice.my_agents.register_my_agent(
            agent=AgentRegisterRequest(name="Research Bot", description="Looks things up")
        )
    ).data

    assert (made.agent.name, made.agent.description, made.agent.owner_id) == (
        "Research Bot",
        "Looks things up",
        alice.id,
    )
    handle = f"{alice.handle}/research-bot"
    agent = stage.known({"id": made.agent.id, "handle": handle, "api_key": made.credentials.api_key}, alice)
    me = (await agent.identity.get_agent_me()).data
    assert (me.id, me.handle, me.description) == (made.agent.id, handle, "Looks things up")
    await agent.befriend(bob)
    assert set(await agent.friends()) == {bob.handle}
    answer = await alice.my_agents.list_my_agents()
    (row,) = answer.data
    assert (row.id, row.name, row.slug, row.description) == (
        agent.id,
        "Research Bot",
        "research-bot",
        "Looks things up",
    )
    assert row.is_external is True
    assert row.listed_in_directory is True
    assert row.tags in ([], None)
    assert row.inserted_at <= row.updated_at
    assert answer.metadata.has_more is False
    assert made.credentials.api_key not in answer.json()


async def test_agents_of_one_name_get_slugs_of_their_own(stage: Stage) -> None:
    alice = stage.user("alice")
    request = AgentRegisterRequest(name="Research Bot", description="Looks things up")

    for _ in range(3):
        await alice.my_agents.register_my_agent(agent=request)

    slugs = {row.slug for row in (await alice.my_agents.list_my_agents()).data}
    assert slugs == {"research-bot", "research-bot-2", "research-bot-3"}


@pytest.mark.parametrize("name", ["", "   ", "!!!", "admin"])
async def test_a_name_that_makes_no_handle_is_refused_with_its_field(stage: Stage, name: str) -> None:
    alice = stage.user("alice")

    with pytest.raises(UnprocessableEntityError) as refused:
        await alice.my_agents.register_my_agent(agent=AgentRegisterRequest(name=name, description="Anything"))

    details = refused.value.body["error"]["details"]
    assert all(isinstance(told, list) for told in details.values())
    assert (await alice.my_agents.list_my_agents()).data == []


async def test_agents_are_listed_sorted_filtered_and_paged(stage: Stage) -> None:
    alice = stage.user("alice")
    for name in ("Beta", "Alpha", "Gamma"):
        stage.agent(owner=alice, called=name)
    hidden = stage.agent("alice", is_listed=False, owner=alice, called="Delta")

    by_name = await alice.my_agents.list_my_agents(sort="name", order="asc")
    newest = await alice.my_agents.list_my_agents(sort="inserted_at", order="desc")
    named = await alice.my_agents.list_my_agents(name="LPH")
    unlisted = await alice.my_agents.list_my_agents(listed_in_directory=False)
    pages = [await alice.my_agents.list_my_agents(sort="name", order="asc", limit=3)]
    pages.append(
        await alice.my_agents.list_my_agents(
            sort="name", order="asc", limit=3, cursor=present(pages[0].metadata.next_cursor)
        )
    )

    assert [row.name for row in by_name.data] == ["Alpha", "Beta", "Delta", "Gamma"]
    assert [row.name for row in newest.data] == ["Delta", "Gamma", "Alpha", "Beta"]
    assert [row.name for row in named.data] == ["Alpha"]
    assert [row.id for row in unlisted.data] == [hidden.id]
    assert [row.name for page in pages for row in page.data] == ["Alpha", "Beta", "Delta", "Gamma"]
    assert [page.metadata.has_more for page in pages] == [True, False]
    assert pages[0].metadata.limit == 3
    filters = {row.param for row in by_name.metadata.available_filters}
    assert filters >= {"name", "listed_in_directory"}
    assert {row.param for row in by_name.metadata.sortable_fields} >= {"name", "inserted_at"}


async def test_a_deleted_agent_is_gone_and_its_key_with_it(stage: Stage) -> None:
    alice, bob = stage.user("alice"), stage.agent("bob")
    doomed = stage.agent(owner=alice, called="Doomed")
    await doomed.befriend(bob)

    deleted = (await alice.my_agents.delete_my_agent(doomed.id)).data

    assert (deleted.id, deleted.name) == (doomed.id, "Doomed")
    assert deleted.executions_deleted >= 0
    assert (await alice.my_agents.list_my_agents()).data == []
    with pytest.raises(UnauthorizedError):
        await doomed.identity.get_agent_me()
    assert await bob.friends() == {}
    with pytest.raises(NotFoundError):
        await bob.ask(doomed)
    with pytest.raises(NotFoundError):
        await alice.my_agents.delete_my_agent(doomed.id)
    with pytest.raises((NotFoundError, UnprocessableEntityError)):
        await alice.my_agents.delete_my_agent("not-an-id")


async def test_nobody_deletes_the_agent_of_another(stage: Stage) -> None:
    bob, mallory = stage.agent("bob"), stage.user("mallory")

    with pytest.raises(NotFoundError):
        await mallory.my_agents.delete_my_agent(bob.id)

    assert (await bob.identity.get_agent_me()).data.id == bob.id
