"""Whatever users, organisations and agents do about each other, also at once and through every door: consent decides.

A real server on a real file is held against the model of consent.py, deed by deed in the order of their commits. So
nobody opens anything with a stranger: what was opened, the model has let pass at that very moment, and what it has not
let pass was refused, for the reason that it gives, and has changed nothing.
"""

import asyncio
from datetime import timedelta
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from agrenting.db import contacts, ledger, search, states
from channels.contacts import NO_TIE, is_discoverable_by, is_present_to
from channels.discovery import Discover
from channels.handlers import Context
from tests.agrenting.consent import FEE, PRICE, Deed, Model, Somebody
from tests.agrenting.consent_stage import ORGANISATIONS, Noted, Stage
from tests.agrenting.consent_stored import differences, unlike

AGENTS_MAX = 9
FINAL = {"approved", "rejected", "cancelled", "expired"}

NUMBERS = st.integers(0, 99)
KINDS = st.sampled_from(["negotiate", "hire", "hire"])
DOORS = st.sampled_from(["engine", "engine", "rest", "line"])
ENDS_S = st.none() | st.sampled_from([60, 3_600])
SCOPES = st.sampled_from(
    [
        *(None, {}, {"kinds": ["task"]}, {"kinds": ["negotiation", "room"]}, {"max_price": 0}, {"max_price": PRICE}),
        *({"max_open": 1}, {"max_open": 1, "max_price": PRICE}, {"max_open": 2, "end_s": 3_600}, {"end_s": 60}),
    ]
)
DRAFTS = st.fixed_dictionaries(
    {
        "is_global": st.sampled_from([False, False, False, True]),
        "is_listed": st.booleans(),
        "is_tagged": st.booleans(),
        "is_shared": st.booleans(),
        "price": st.sampled_from([0, PRICE, PRICE]),
    }
)
ACTIONS = st.sampled_from(["approve", "approve", "approve", "reject", "cancel"])
ACTS = st.sampled_from(
    [
        *("ask", "ask", "answer", "answer", "answer", "remove", "block", "unblock"),
        *("negotiate", "negotiate", "hire", "hire", "begin", "join", "leave", "create", "delete"),
    ]
)
"""What a storm is made of."""


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """A deed before it is known who is there to do it; the numbers choose."""

    act: str
    who: int
    whom: int
    door: str
    action: str
    scope: dict[str, Any] | None
    end_s: int | None
    draft: dict[str, Any]
    by_id: bool


WISHES = st.builds(
    Wish,
    act=ACTS,
    who=NUMBERS,
    whom=NUMBERS,
    door=DOORS,
    action=ACTIONS,
    scope=SCOPES,
    end_s=ENDS_S,
    draft=DRAFTS,
    by_id=st.booleans(),
)


class ConsentMachine(RuleBasedStateMachine):
    """Four users, two organisations, and agents that come and go."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.stage = Stage(self.runner)
        self.model = Model()
        self.stage.cast(self.model)
        self.final: dict[str, str] = {}

    def teardown(self) -> None:
        self.stage.close()
        self.runner.close()

    @initialize(
        members=st.lists(st.booleans(), min_size=4, max_size=4), drafts=st.lists(DRAFTS, min_size=6, max_size=6)
    )
    def begin(self, members: list[bool], drafts: list[dict[str, Any]]) -> None:
        """Some are members, and six agents are there, with money."""
        for number, (user, is_member) in enumerate(zip(self.model.users, members, strict=True)):
            if is_member:
                self._do(Deed(act="join", who=user.id, whom=ORGANISATIONS[number % 3 % 2], door="rest"))
        for number, draft in enumerate(drafts):
            self._create(self.model.users[number % 4], draft)
        for agent in self.model.agents[:5]:
            self._do(Deed(act="deposit", who=agent.owner, whom=agent.id, more={"amount": 4 * PRICE}))

    # What anybody may do.

    @rule(wish=WISHES)
    def does(self, wish: Wish) -> None:
        """Somebody does something to somebody."""
        self._do(self._deed(wish))

    @rule(wishes=st.lists(WISHES, min_size=2, max_size=6), is_one_pair=st.booleans(), who=NUMBERS, whom=NUMBERS)
    def storms(self, wishes: list[Wish], who: int, whom: int, *, is_one_pair: bool) -> None:
        """All at once, often between the same two."""
        if is_one_pair:
            swapped = [(who, whom) if wish.who % 2 else (whom, who) for wish in wishes]
            wishes = [
                msgspec.structs.replace(wish, who=one, whom=other)
                for wish, (one, other) in zip(wishes, swapped, strict=True)
            ]
        self._do(*(self._deed(wish, is_one_pair=is_one_pair) for wish in wishes))

    @rule(wish=WISHES, is_by_owner=st.booleans())
    def befriends(self, wish: Wish, *, is_by_owner: bool) -> None:
        """An agent asks a stranger, if there is one, which approves at once, or its owner does."""
        agents = self.model.agents
        asker = agents[wish.who % len(agents)]
        strangers = [other for other in agents if not self.model.is_present(asker.id, other.id)] or agents
        asked = strangers[wish.whom % len(strangers)]
        (note,) = self._do(Deed(act="ask", who=asker.id, whom=asked.id, door=wish.door))
        if note.reply is None or note.reply["status"] == "approved":
            return
        more = {"action": "approve", **self._scope(wish)}
        who, door = asked.owner if is_by_owner else asked.id, "engine" if wish.door == "line" else wish.door
        self._do(Deed(act="answer", who=who, whom=note.reply["id"], door=door, more=more))

    @rule(
        number=NUMBERS,
        kinds=st.lists(KINDS, min_size=2, max_size=4),
        is_requester=st.sampled_from([True, True, False]),
        ending=st.sampled_from(["", "remove", "block", "wait"]),
        is_at_once=st.booleans(),
        door=DOORS,
    )
    def opens_with_a_contact(
        self, number: int, kinds: list[str], *, is_requester: bool, ending: str, is_at_once: bool, door: str
    ) -> None:
        """One of two contacts opens something, the contact ends, perhaps at that very moment; it asks anew."""
        pairs = [two for two in self.model.contacts if all(self.model.people[id_].is_agent for id_ in two)][-5:]
        if not pairs:
            return
        two = pairs[number % len(pairs)]
        requester = self.model.contacts[two].requester
        (other,) = two - {requester}
        who, whom = (requester, other) if is_requester else (other, requester)
        deeds = [Deed(act=kind, who=who, whom=whom) for kind in kinds]
        if ending in {"remove", "block"}:
            deeds.insert(len(kinds) - number % 2, Deed(act=ending, who=whom, whom=who, door=door, by_id=False))
        if is_at_once:
            self._do(*deeds)
        else:
            for deed in deeds:
                self._do(deed)
        if ending == "wait":
            self.waits(3_600, "")
        self._do(Deed(act=kinds[0], who=who, whom=whom))
        if ending:
            self._do(Deed(act="ask", who=who, whom=whom, door=door))

    @rule(wish=WISHES, is_made_up=st.booleans(), is_at_once=st.booleans())
    def quarrels(self, wish: Wish, *, is_made_up: bool, is_at_once: bool) -> None:
        """An agent blocks one that it sees, if there is one, and perhaps unblocks it again."""
        agents = self.model.agents
        who = agents[wish.who % len(agents)].id
        seen = [other.id for other in agents if other.id != who and self.model.is_present(who, other.id)]
        deed = self._block(wish, who, (seen or [other.id for other in agents])[wish.whom % len(seen or agents)])
        deeds = [deed, *([Deed(act="unblock", who=deed.who, whom=deed.whom, door=wish.door)] if is_made_up else [])]
        for together in [deeds] if is_at_once else [[one] for one in deeds]:
            self._do(*together)

    @rule(number=NUMBERS, act=st.sampled_from(["begin", "finish"]), door=st.sampled_from(["engine", "rest"]))
    def works(self, number: int, act: str, door: str) -> None:
        """A provider goes on with one of the latest tasks, whatever has become of the contact."""
        tasks = [
            (id_, one)
            for id_, one in self.model.sessions.items()
            if one.kind == "task" and one.provider in self.model.people
        ][-4:]
        if tasks:
            id_, task = tasks[number % len(tasks)]
            self._do(Deed(act=act, who=task.provider, whom=id_, door=door))

    @rule(seconds=st.sampled_from([60, 600, 3_600]), then=st.sampled_from(["", "", "", "timers", "timers", "restart"]))
    def waits(self, seconds: int, then: str) -> None:
        """Time passes; timers may be late, and the server may stop and start again, which runs whatever is due."""
        self.stage.clock.advance(seconds=seconds)
        self.model.now = self.stage.clock()
        if then == "restart":
            self.stage.stop()
            self.stage.start()
        if then:
            self.stage.run_timers()
            self.model.run_timers(self.stage.clock())

    # What always holds.

    @invariant()
    def both_sides_agree_and_no_money_is_lost(self) -> None:
        assert differences(self.stage.tx) == []
        held = ledger.summary(self.stage.tx)
        unfinished = [one.price for one in self.model.sessions.values() if one.is_unfinished]
        assert (held["sum"], held["escrow"]) == (0, sum(unfinished))
        paid = [one for one in self.model.sessions.values() if one.status == "completed" and one.price]
        assert held["fees"] == FEE * len(paid)

    @invariant()
    def what_is_stored_is_what_was_consented_to(self) -> None:
        assert unlike(self.stage.seen().view, self.model.view) == {}

    @invariant()
    def a_request_that_is_final_stays_so(self) -> None:
        stored = self.stage.seen().view.requests
        for id_, (_, _, status) in stored.items():
            if id_ in self.final:
                assert status == self.final[id_]
            elif status in FINAL:
                self.final[id_] = status
        pending = [(requester, recipient) for requester, recipient, status in stored.values() if status == "pending"]
        assert len(pending) == len(set(pending))

    @invariant()
    def everybody_finds_and_sees_whom_it_may(self) -> None:
        """`discover` as it searches, the rules on what is stored, and the model: all three say the same."""
        tx, now = self.stage.tx, self.stage.clock()
        agents = {one.id: states.load(tx, "agent", one.id) for one in self.model.agents}
        for viewer_id, viewer in agents.items():
            ties = contacts.ties_of(tx, viewer_id, now=now)
            others = [one for one in agents.values() if one is not viewer]
            for rule_of, said in ((is_discoverable_by, self.model.is_found), (is_present_to, self.model.is_present)):
                for one in others:
                    tie = ties.get(one.id, NO_TIE)
                    by_rule = rule_of(viewer.party, one.party, tie)
                    assert by_rule == said(viewer_id, one.id), (viewer.party, one.party, tie)
            found = search.discover(tx, "", Discover(limit=100), self._context(viewer_id))
            assert {hit.agent.id: hit.tie.is_contact for hit in found.hits} == {
                one.id: self.model.is_contact(viewer_id, one.id)
                for one in others
                if self.model.is_found(viewer_id, one.id)
            }

    @invariant()
    def everybody_has_been_shown_whom_it_may_see(self) -> None:
        """By what its socket was told, without asking anew; what is over by the clock is told by the timers."""
        ids = [one.id for one in self.model.agents]
        shown = self.stage.shown(ids)
        for viewer in () if self.model.is_overdue else ids:
            assert shown[viewer] == {id_ for id_ in ids if self.model.is_present(viewer, id_)}, viewer

    # How it is done.

    def _do(self, *deeds: Deed) -> list[Noted]:
        """Do it all at once, and hold it against the model, in the order in which it was committed."""
        notes = self.stage.do(*deeds)
        for note, after in zip(notes, [*(later.before for later in notes[1:]), self.stage.seen()], strict=True):
            foreseen = self.model.foresee(note.deed, note.now, note.reply)
            story = f"{note.deed} was refused for {note.refusal}, {foreseen} was foreseen"
            story += "".join(f"\n  {one.deed} {one.refusal} {one.reply}" for one in notes)
            assert note.refusal == foreseen, story
            self.model.learn(after.ids)
            assert unlike(after.view, self.model.view) == {}, f"{unlike(after.view, self.model.view)}\n{story}"
            assert note.refusal is None or after.rows == note.before.rows, "a refusal changes nothing"
        return notes

    def _context(self, viewer_id: str) -> Context:
        engine = self.stage.market.server.engine
        return engine.context(self.stage.identity(viewer_id), "agents:discovery")

    def _create(self, owner: Somebody, draft: dict[str, Any]) -> None:
        self._do(self._creation(owner, draft))

    def _creation(self, owner: Somebody, draft: dict[str, Any]) -> Deed:
        more = {name: value for name, value in draft.items() if name != "is_shared"}
        organisation = owner.organisation if draft["is_shared"] else None
        return Deed(act="create", who=owner.id, more={**more, "organisation": organisation})

    def _deed(self, wish: Wish, *, is_one_pair: bool = False) -> Deed:  # noqa: PLR0911 - One for each kind of deed.
        """Who there is to do it, and to whom."""
        model = self.model
        agents, users = model.agents, model.users
        user = users[wish.who % len(users)]
        people = agents if is_one_pair else [*agents, *agents, *users]
        who, whom = people[wish.who % len(people)], people[wish.whom % len(people)]
        client, provider = agents[wish.who % len(agents)], agents[wish.whom % len(agents)]
        aimed = {"answer": self._answer, "remove": self._removal, "block": self._block, "unblock": self._unblock}
        if wish.act in aimed:
            return aimed[wish.act](wish, who.id, whom.id)
        match wish.act:
            case "ask":
                return Deed(act="ask", who=who.id, whom=whom.id, door=wish.door)
            case "negotiate" | "hire":
                door = "engine" if wish.door == "line" else wish.door
                return Deed(act=wish.act, who=client.id, whom=provider.id, door=door)
            case "begin":
                return self._beginning(wish, who.id)
            case "join" | "leave":
                whom_joined = ORGANISATIONS[wish.whom % 2] if wish.act == "join" else ""
                door = "line" if wish.door == "line" else "rest"
                return Deed(act=wish.act, who=user.id, whom=whom_joined, door=door)
            case "create" if len(agents) < AGENTS_MAX:
                return self._creation(user, wish.draft)
            case "delete" if len(agents) > 4:
                owner = provider.owner if wish.by_id else user.id
                return Deed(act="delete", who=owner, whom=provider.id, door="rest")
            case _:
                return Deed(act="deposit", who=client.owner, whom=client.id, more={"amount": PRICE})

    def _block(self, wish: Wish, who: str, whom: str) -> Deed:
        """Somebody, or one of the two of a request that is pending."""
        pending = [(one.requester, one.recipient) for one in self.model.requests.values() if one.status == "pending"]
        if wish.by_id and pending:
            two = pending[wish.whom % len(pending)]
            who, whom = two if wish.who % 2 else two[::-1]
        end = None if wish.end_s is None else self.stage.clock() + timedelta(seconds=wish.end_s)
        more = {} if end is None else {"expires_at": end}
        return Deed(act="block", who=who, whom=whom, door=wish.door, more=more)

    def _unblock(self, wish: Wish, who: str, whom: str) -> Deed:
        """Somebody who has blocked another, mostly."""
        if wish.by_id and self.model.blocks:
            who, whom = list(self.model.blocks)[wish.whom % len(self.model.blocks)]
        return Deed(act="unblock", who=who, whom=whom, door=wish.door)

    def _answer(self, wish: Wish, who: str, whom: str) -> Deed:
        """One of the latest requests, mostly by somebody who may, else by the other side or by anybody."""
        more: dict[str, Any] = {"action": wish.action}
        if wish.action == "approve":
            more |= self._scope(wish)
        if not wish.by_id or not self.model.requests:
            door = "engine" if wish.door == "rest" and not self.model.people[who].is_agent else wish.door
            return Deed(act="answer", who=who, whom=whom, door=door, more=more, by_id=False)
        latest = list(self.model.requests.items())[-5:]
        id_, asked = latest[wish.whom % len(latest)]
        is_by_requester = (wish.action == "cancel") == bool(wish.who % 4)
        side = self.model.people.get(asked.requester if is_by_requester else asked.recipient)
        if side is not None and wish.who % 7:
            who = side.owner if wish.who % 2 else side.id
        return Deed(act="answer", who=who, whom=id_, door="engine" if wish.door == "line" else wish.door, more=more)

    def _removal(self, wish: Wish, who: str, whom: str) -> Deed:
        """One of the latest contacts, mostly by somebody who may."""
        latest = list(self.model.contacts.items())[-5:]
        two, consent = latest[wish.whom % len(latest)] if latest else (frozenset((who, whom)), None)
        if wish.who % 4:
            who, whom = sorted(two, reverse=bool(wish.who % 2)) if len(two) > 1 else (who, whom)
        if not wish.by_id or consent is None or consent.id is None:
            return Deed(act="remove", who=who, whom=whom, door=wish.door, by_id=False)
        if wish.who % 4 == 1:
            who = self.model.people[who].owner
        door = "engine" if wish.door == "line" else wish.door
        return Deed(act="remove", who=who, whom=consent.id, door=door)

    def _beginning(self, wish: Wish, who: str) -> Deed:
        waiting = [(id_, one) for id_, one in self.model.sessions.items() if one.status == "pending"]
        if not waiting:
            return Deed(act="unblock", who=who, whom=who, door="engine")
        id_, task = waiting[wish.whom % len(waiting)]
        return Deed(act="begin", who=task.provider, whom=id_, door="engine" if wish.door == "line" else wish.door)

    def _scope(self, wish: Wish) -> dict[str, Any]:
        if wish.scope is None:
            return {}
        scope = {name: value for name, value in wish.scope.items() if name != "end_s"}
        if "end_s" in wish.scope:
            scope["expires_at"] = self.stage.clock() + timedelta(seconds=wish.scope["end_s"])
        return {"scope": scope}


CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


@pytest.mark.timeout(600)
def test_whatever_is_done_at_once_or_in_turn_consent_decides() -> None:
    run_state_machine_as_test(
        ConsentMachine,
        settings=settings(max_examples=30, stateful_step_count=30, deadline=None, suppress_health_check=CHECKS),
    )


@pytest.mark.long
@pytest.mark.timeout(3_600)
def test_whatever_is_done_for_long_consent_decides() -> None:
    run_state_machine_as_test(
        ConsentMachine,
        settings=settings(max_examples=300, stateful_step_count=60, deadline=None, suppress_health_check=CHECKS),
    )
