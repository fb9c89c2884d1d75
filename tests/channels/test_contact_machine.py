"""Whatever five agents and their three owners do about each other: consent decides, and both sides agree on it.

What the gate must say is worked out here a second time, from what was taken and what was refused.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import hypothesis.strategies as st
import msgspec
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from channels.contact_book import RequestPhase, Standing
from channels.contacts import NO_TIE, Tie
from channels.errors import Refusal
from channels.limits import Limits
from tests.channels.roles import MARKET, ORGANISATION, Player, player
from tests.channels.strangers import (
    ALICE,
    BOB,
    CAROL,
    JANE,
    JOHN,
    LONE,
    answer,
    ask,
    block,
    contacts,
    ears,
    owner_of,
    requests,
    strangers,
    unblock,
)
from tests.channels.work import PRICE
from tests.channels.world import Who

ANN = player("ann", number=0xE, handle="john/ann", owner_id=ALICE.agent.owner_id, **LONE)
BEN = player("ben", number=0xF, handle="jane/ben", owner_id=BOB.agent.owner_id, **LONE)
AGENTS = (ALICE, ANN, BOB, BEN, CAROL)
EVERYBODY: tuple[Who, ...] = (*AGENTS, JOHN, JANE, owner_of(CAROL))
OTHERS_PICKED = st.sampled_from(EVERYBODY)
AGENT_PICKED = st.sampled_from(AGENTS)
KINDS = st.sampled_from(["negotiation", "task"])
DELAYS_S = st.sampled_from([1, 60, 1_800, 3_600])
ENDS_S = st.none() | st.sampled_from([60, 3_600])
SCOPES = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "kinds": st.lists(st.sampled_from(["task", "negotiation", "room"]), max_size=2),
        "max_price": st.sampled_from([0, PRICE]),
        "max_open": st.integers(1, 2),
    },
)
SMALL = msgspec.structs.replace(
    MARKET,
    limits=Limits(
        contact_request_ttl_s=3_600, contact_requests_pending_max=3, negotiation_ttl_s=600, negotiations_open_max=1_000
    ),
)


class Consent(msgspec.Struct, frozen=True):
    """A contact as this test remembers it."""

    requester_id: str
    scope: dict[str, Any]
    expires_at: datetime | None


class Consenting(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = strangers(*AGENTS, market=SMALL)
        for who in AGENTS:
            self.world.deposit(who, 1_000 * PRICE)
        self.ears = dict(zip([who.id for who in EVERYBODY], ears(self.world, *EVERYBODY), strict=True))
        self.consents: dict[frozenset[str], Consent] = {}
        self.blocks: dict[tuple[str, str], datetime | None] = {}
        self.final: dict[str, msgspec.Struct] = {}

    @initialize(is_global=st.booleans(), members=st.lists(AGENT_PICKED, max_size=2))
    def begin(self, *, is_global: bool, members: list[Player]) -> None:
        """Some are of one organisation, and one may be an agent for all."""
        self.world.change_agent(CAROL, is_global=is_global)
        for who in members:
            self.world.change_agent(who, organisation_id=ORGANISATION, owner_organisation_id=ORGANISATION)

    # What anybody may do.

    @rule(who=OTHERS_PICKED, whom=OTHERS_PICKED)
    def asks(self, who: Who, whom: Who) -> None:
        reply = self._try(lambda: ask(self.world, who, whom))
        if reply is not None and reply["status"] == RequestPhase.APPROVED:
            self._consent(reply["id"], {}, None)

    @precondition(lambda self: self.world.states["contact_request"])
    @rule(
        number=st.integers(0, 99),
        who=OTHERS_PICKED,
        action=st.sampled_from(["approve", "approve", "approve", "reject", "cancel"]),
        scope=SCOPES,
        end_s=ENDS_S,
    )
    def answers(self, number: int, who: Who, action: str, scope: dict[str, Any] | None, end_s: int | None) -> None:
        """Anybody answers one of the latest requests; most may not."""
        latest = requests(self.world)[-5:]
        request_id = latest[number % len(latest)].id
        if action == "approve":
            self._approve(who, request_id, scope, end_s)
        else:
            self._try(lambda: answer(self.world, who, action, request_id))

    @precondition(lambda self: self.world.states["contact"])
    @rule(number=st.integers(0, 99), who=OTHERS_PICKED)
    def removes(self, number: int, who: Who) -> None:
        """Anybody ends one of the latest contacts; only its two and their owners may."""
        latest = contacts(self.world)[-5:]
        contact = latest[number % len(latest)]
        reply = self._try(lambda: self.world.call(who, "remove", contact_id=contact.id))
        if reply is not None:
            owners = {contact.requester.user_id, contact.recipient.user_id}
            assert who.id in {contact.requester_id, contact.recipient_id, *owners}
            del self.consents[frozenset((contact.requester_id, contact.recipient_id))]

    @rule(who=OTHERS_PICKED, whom=OTHERS_PICKED, end_s=ENDS_S)
    def blocks_another(self, who: Who, whom: Who, end_s: int | None) -> None:
        expires_at = None if end_s is None else self.world.now + timedelta(seconds=end_s)
        if self._try(lambda: block(self.world, who, whom, expires_at=expires_at)) is not None:
            self.blocks[who.id, whom.id] = expires_at
            self.consents.pop(frozenset((who.id, whom.id)), None)

    @rule(who=OTHERS_PICKED, whom=OTHERS_PICKED)
    def unblocks(self, who: Who, whom: Who) -> None:
        if self._try(lambda: unblock(self.world, who, whom)) is not None:
            del self.blocks[who.id, whom.id]

    @rule(who=AGENT_PICKED, whom=AGENT_PICKED, scope=SCOPES, end_s=ENDS_S)
    def befriends(self, who: Player, whom: Player, scope: dict[str, Any] | None, end_s: int | None) -> None:
        """One asks, and the other one approves at once."""
        reply = self._try(lambda: ask(self.world, who, whom))
        if reply is not None and reply["status"] == RequestPhase.APPROVED:
            self._consent(reply["id"], {}, None)
        elif reply is not None:
            self._approve(whom, reply["id"], scope, end_s)

    @rule(who=AGENT_PICKED, whom=AGENT_PICKED, kind=KINDS)
    def opens(self, who: Player, whom: Player, kind: str) -> None:
        self._open(who, whom, kind)

    @precondition(lambda self: self.world.states["contact"])
    @rule(number=st.integers(0, 99), kinds=st.lists(KINDS, min_size=1, max_size=3), is_requester=st.booleans())
    def opens_with_a_contact(self, number: int, kinds: list[str], *, is_requester: bool) -> None:
        """One of the two of one of the latest contacts opens something with the other, or tries to."""
        latest = contacts(self.world)[-5:]
        contact = latest[number % len(latest)]
        ids = (contact.requester_id, contact.recipient_id)
        two = [who for id_ in (ids if is_requester else ids[::-1]) for who in AGENTS if who.id == id_]
        for kind in kinds if len(two) == 2 else ():
            self._open(two[0], two[1], kind)

    @precondition(lambda self: self.world.states["task"])
    @rule(number=st.integers(0, 99))
    def works(self, number: int) -> None:
        """A provider begins; who has begun goes on whatever becomes of the contact."""
        pending = [task for task in self.world.states["task"].values() if task.status == "pending"]
        if pending:
            task = pending[number % len(pending)]
            provider = next(who for who in AGENTS if who.id == task.provider_agent_id)
            self.world.push(provider, f"task:{task.id}", "progress", {"percent": 1})

    @rule(seconds=DELAYS_S, run_timers=st.booleans())
    def waits(self, seconds: int, *, run_timers: bool) -> None:
        """Time passes; timers may be late."""
        self.world.advance(seconds, run_timers=run_timers)

    # What always holds.

    @invariant()
    def both_sides_agree(self) -> None:
        ties = self.world.book.ties()
        for (a_id, b_id), tie in ties.items():
            other = ties.get((b_id, a_id), NO_TIE)
            assert msgspec.structs.replace(tie, scope=None) == other.mirrored
        assert {frozenset(two) for two, tie in ties.items() if tie.is_contact} == {
            two for two in self.consents if self._is_consent(*two)
        }
        assert {two for two, tie in ties.items() if tie.has_blocked} == {
            two for two in self.blocks if self._is_block(*two)
        }

    @invariant()
    def what_was_told_is_what_is_stored(self) -> None:
        """Who has listened since the beginning knows its contacts, and which requests are pending."""
        for id_, ear in self.ears.items():
            known: set[str] = set()
            asked: set[str] = set()
            for heard in ear.heard:
                told = {heard.payload["id"]}
                if heard.event == "contact_added":
                    known |= told
                elif heard.event == "contact_removed":
                    assert told <= known
                    known -= told
                elif heard.event == "contact_request_received":
                    asked |= told
                elif heard.event == "contact_request_updated":
                    asked -= told
            active = {one.id for one in contacts(self.world) if one.status is Standing.ACTIVE and one.has(id_)}
            pending = {
                one.id for one in requests(self.world) if one.status is RequestPhase.PENDING and one.recipient_id == id_
            }
            assert (known, asked) == (active, pending)

    @invariant()
    def the_ties_that_were_told_are_those_that_stand(self) -> None:
        """As soon as the timers have run, who has heard of every changed tie knows them all."""
        if any(due_at <= self.world.now for due_at in self.world.timers.values()):
            return
        known: dict[tuple[str, str], Tie] = {}
        for told in self.world.retied:
            known[told.a_id, told.b_id] = msgspec.structs.replace(told.tie, scope=None)
            known[told.b_id, told.a_id] = told.tie.mirrored
        stand = {two: msgspec.structs.replace(tie, scope=None) for two, tie in self.world.book.ties().items()}
        assert {two: tie for two, tie in known.items() if tie != NO_TIE} == stand

    @invariant()
    def what_is_final_stays_as_it_is(self) -> None:
        for store in ("contact_request", "contact", "block"):
            for id_, state in self.world.states[store].items():
                if state.status not in {RequestPhase.PENDING, Standing.ACTIVE}:
                    assert self.final.setdefault(id_, state) == state

    @invariant()
    def nothing_waits_between_strangers(self) -> None:
        """What has not begun is open only between two who need no contact, or have one that has not been ended."""
        for store, status in (("negotiation", "open"), ("task", "pending")):
            for state in self.world.states[store].values():
                client, provider = state.client_agent_id, state.provider_agent_id
                if state.status == status:
                    assert self._is_known(client, provider) or self._is_joined(client, provider)
                    assert not self._is_block(client, provider)
                    assert not self._is_block(provider, client)

    @invariant()
    def money_is_conserved(self) -> None:
        self.world.require_balance()

    # How it is worked out here.

    def _open(self, who: Player, whom: Player, kind: str) -> None:
        """The gate says what consent says, and nothing else keeps it from opening."""
        expected = self._gate(who, whom, kind)
        fields: dict[str, Any] = {"provider_agent_id": whom.id, "capability": "translate"}
        acts: dict[str, Callable[[], Any]] = {
            "negotiation": lambda: self.world.open_negotiation(who, **fields),
            "task": lambda: self.world.open_task(who, **fields, max_price=PRICE),
        }
        reasons: list[str] = []
        reply = self._try(acts[kind], reasons)
        assert (reply is None, reasons) == ((False, []) if expected is None else (True, [expected]))

    def _try(self, act: Callable[[], Any], reasons: list[str] | None = None) -> Any:
        """The answer; None where it is refused, for a reason that is added to those: then nothing has changed."""
        before = self.world.everything()
        try:
            return act()
        except Refusal as refusal:
            assert self.world.everything() == before
            if reasons is not None:
                reasons.append(refusal.reason)
            return None

    def _approve(self, who: Who, request_id: str, scope: dict[str, Any] | None, end_s: int | None) -> None:
        """Try to approve, for some seconds and within some scope, if there is one."""
        expires_at = None if end_s is None else self.world.now + timedelta(seconds=end_s)
        given = None if scope is None else scope if expires_at is None else scope | {"expires_at": expires_at}
        if self._try(lambda: answer(self.world, who, "approve", request_id, scope=given)) is not None:
            self._consent(request_id, given or {}, None if given is None else expires_at)

    def _consent(self, request_id: str, scope: dict[str, Any], expires_at: datetime | None) -> None:
        asked = self.world.states["contact_request"][request_id]
        two = frozenset((asked.requester_id, asked.recipient_id))
        self.consents[two] = Consent(asked.requester_id, scope, expires_at)

    def _gate(self, who: Player, whom: Player, kind: str) -> str | None:
        if who is whom:
            return "same_agent"
        if self._is_block(whom.id, who.id):
            return "not_found"
        if self._is_block(who.id, whom.id):
            return "blocked_by_you"
        if self._is_known(who.id, whom.id):
            return None
        if not self._is_consent(who.id, whom.id):
            return "contact_required"
        consent = self.consents[frozenset((who.id, whom.id))]
        scope = consent.scope if consent.requester_id == who.id else {}
        is_within = (
            kind in scope.get("kinds", [kind])
            and self._open_count(who.id, whom.id) < scope.get("max_open", 1_000)
            and (kind == "negotiation" or scope.get("max_price", PRICE) >= PRICE)
        )
        return None if is_within else "contact_scope_exceeded"

    def _is_known(self, who_id: str, whom_id: str) -> bool:
        """Whether the one needs no contact with the other."""
        who, whom = self.world.agent(who_id), self.world.agent(whom_id)
        is_one_house = who.owner_id == whom.owner_id
        return is_one_house or whom.is_global or (None is not whom.organisation_id == who.organisation_id)

    def _is_consent(self, one_id: str, other_id: str) -> bool:
        consent = self.consents.get(frozenset((one_id, other_id)))
        return consent is not None and self._is_ahead(consent.expires_at)

    def _is_block(self, blocker_id: str, blocked_id: str) -> bool:
        two = (blocker_id, blocked_id)
        return two in self.blocks and self._is_ahead(self.blocks[two])

    def _is_ahead(self, end: datetime | None) -> bool:
        return end is None or self.world.now < end

    def _is_joined(self, one_id: str, other_id: str) -> bool:
        """Whether the two have a contact that nothing has ended yet, also if its timer is late."""
        return any(
            contact.status is Standing.ACTIVE and contact.has(one_id) and contact.has(other_id)
            for contact in contacts(self.world)
        )

    def _open_count(self, client_id: str, provider_id: str) -> int:
        unfinished = {"open", "pending", "in_progress"}
        return sum(
            (state.client_agent_id, state.provider_agent_id) == (client_id, provider_id) and state.status in unfinished
            for store in ("negotiation", "task")
            for state in self.world.states[store].values()
        )


Consenting.TestCase.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
TestConsenting = Consenting.TestCase
