"""Topics that belong to one agent or one user: nobody else joins them, and nothing is sent to them."""

from types import ModuleType

import msgspec
import pytest

from channels import agent_contacts, agent_control, agent_rooms, messages, user_contacts, user_rooms
from channels.handlers import Access, Decision, Empty
from channels.identity import Identity
from channels.own_topics import own_agent, own_user
from tests.channels.roles import context, identity_of, refused
from tests.channels.strangers import ALICE, BOB, JANE, JOHN, owner_of

OF_AGENTS = [agent_contacts, agent_control, agent_rooms, messages]
LISTENING = [
    (agent_contacts, "agent_contacts:*", "contacts"),
    (user_contacts, "user_contacts:*", "contacts"),
    (agent_control, "agent_control:*", ""),
    (agent_rooms, "agent_rooms:*", "rooms"),
    (user_rooms, "user_rooms:*", "rooms"),
]
BY_JOHNS_KEY = msgspec.structs.replace(identity_of(ALICE.agent), key_id=JOHN.key_id)
"""Alice, acting by a key of her owner that has named her."""


def _require_unauthorized(module: ModuleType, sender: Identity, topic_id: str) -> None:
    refusal = refused(module.ACCESS, sender, topic_id)
    assert (refusal.kind, refusal.reason) == ("forbidden", "unauthorized")


@pytest.mark.parametrize("module", OF_AGENTS)
class TestAnAgentsTopic:
    @pytest.mark.parametrize("sender", [ALICE.identity, BY_JOHNS_KEY], ids=["its key", "its owner's key, as the agent"])
    def test_is_joined_by_the_agent_itself(self, module: ModuleType, sender: Identity) -> None:
        assert module.ACCESS is own_agent
        module.ACCESS(sender, ALICE.id)

    @pytest.mark.parametrize("sender", [BOB.identity, JOHN, JANE], ids=["another agent", "its owner", "another user"])
    def test_is_joined_by_nobody_else(self, module: ModuleType, sender: Identity) -> None:
        _require_unauthorized(module, sender, ALICE.id)

    def test_a_users_id_is_no_agents(self, module: ModuleType) -> None:
        for sender in (JOHN, ALICE.identity):
            _require_unauthorized(module, sender, JOHN.user_id)

    @pytest.mark.parametrize("topic_id", ["", "None", "*"])
    def test_an_odd_topic_belongs_to_nobody(self, module: ModuleType, topic_id: str) -> None:
        for sender in (JOHN, ALICE.identity):
            _require_unauthorized(module, sender, topic_id)


class TestAUsersTopic:
    @pytest.mark.parametrize("module", [user_contacts, user_rooms])
    def test_is_joined_by_the_user_itself(self, module: ModuleType) -> None:
        assert module.ACCESS is own_user
        module.ACCESS(JOHN, JOHN.user_id)

    @pytest.mark.parametrize(
        "sender", [JANE, ALICE.identity, BY_JOHNS_KEY], ids=["another user", "its agent", "its key, as the agent"]
    )
    def test_is_joined_by_nobody_else(self, sender: Identity) -> None:
        _require_unauthorized(user_contacts, sender, JOHN.user_id)

    def test_an_agents_id_is_no_users(self) -> None:
        for sender in (owner_of(BOB), BOB.identity):
            _require_unauthorized(user_contacts, sender, BOB.id)


@pytest.mark.parametrize(("module", "pattern", "scope"), LISTENING)
class TestListening:
    def test_the_join_needs_its_scope_and_no_database(self, module: ModuleType, pattern: str, scope: str) -> None:
        join = module.JOIN

        assert (module.TOPIC, join.scope, join.loads, join.access) == (pattern, scope, "", Access.AT_ONCE)

    def test_the_join_answers_nothing_and_changes_nothing(self, module: ModuleType, pattern: str, scope: str) -> None:
        assert module.JOIN.decide(None, Empty(), context(ALICE)) == Decision(reply={})

    def test_nothing_is_sent_there(self, module: ModuleType, pattern: str, scope: str) -> None:
        assert module.HANDLERS == {}
