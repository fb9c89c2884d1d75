"""Scopes: whose numbers are whose, asked of every role."""

import msgspec
import pytest

from channels.identity import Identity
from channels.scopes import access as may_try
from channels.scopes import agent_of, own_scope, require_may_see, require_operator, topic_of, unauthorized, user_of
from tests.channels.roles import ALICE, BOB, CAROL, MALLORY, context, refused

OWNER = Identity(kind="user", user_id=BOB.agent.owner_id, handle="bob", key_id="key of bob")
STRANGER = Identity(kind="user", user_id=MALLORY.agent.owner_id, handle="mallory", key_id="key of mallory")
OPERATOR = Identity(kind="user", user_id="op", handle="op", key_id="key of op", is_operator=True)
SIBLING = msgspec.structs.replace(BOB.identity, agent_id=CAROL.id, handle="bob/other", key_id="key of bob/other")

AGENT = f"agent:{BOB.id}"
USER = f"user:{BOB.agent.owner_id}"
MAY = [
    (BOB.identity, True),
    (SIBLING, True),
    (OWNER, True),
    (ALICE.identity, False),
    (MALLORY.identity, False),
    (STRANGER, False),
    (OPERATOR, False),
]
ROLES = ["the agent", "its sibling", "its owner", "its client", "Mallory", "another owner", "an operator"]


@pytest.mark.parametrize("scope", [AGENT, USER])
@pytest.mark.parametrize(("sender", "may"), MAY, ids=ROLES)
def test_a_scope_is_seen_by_whose_it_is_alone(scope: str, sender: Identity, may: bool) -> None:  # noqa: FBT001 - a row of the table
    asked = context(sender, topic=topic_of(scope))

    if may:
        assert require_may_see(BOB.agent.owner_id, asked) == scope
    else:
        assert refused(require_may_see, BOB.agent.owner_id, asked).reason == "unauthorized"


@pytest.mark.parametrize("sender", [sender for sender, _ in MAY], ids=ROLES)
def test_the_whole_market_is_seen_by_everybody(sender: Identity) -> None:
    assert require_may_see(None, context(sender, topic="analytics:global")) == "global"


def test_what_is_not_there_is_refused_as_what_is_somebody_elses() -> None:
    gone = refused(require_may_see, None, context(OWNER, topic=topic_of(AGENT)))
    strange = refused(require_may_see, BOB.agent.owner_id, context(STRANGER, topic=topic_of(AGENT)))

    assert (gone.kind, gone.response()) == (strange.kind, strange.response())


@pytest.mark.parametrize(
    "scope", ["", "Global", "global:1", "agents", f"USER:{OWNER.user_id}", "user:", f"user:{OWNER.user_id} ", "x:1"]
)
def test_there_is_no_other_scope(scope: str) -> None:
    assert refused(may_try, OWNER, scope).reason == "unauthorized"


def test_whose_an_agent_is_is_asked_later() -> None:
    may_try(MALLORY.identity, AGENT)


def test_of_the_whole_market_some_things_are_for_operators() -> None:
    require_operator("global", context(OPERATOR))
    require_operator(AGENT, context(BOB))

    assert refused(require_operator, "global", context(BOB)).reason == "unauthorized"


def test_a_scope_names_an_agent_or_a_user() -> None:
    assert (agent_of(AGENT), user_of(AGENT)) == (BOB.id, None)
    assert (agent_of(USER), user_of(USER)) == (None, OWNER.user_id)
    assert (agent_of("global"), user_of("global")) == (None, None)


def test_everybody_has_a_scope() -> None:
    assert own_scope(BOB.identity) == AGENT
    assert own_scope(OWNER) == USER


def test_the_refusal_says_nothing_of_what_there_is() -> None:
    assert refused(unauthorized).context == {}
