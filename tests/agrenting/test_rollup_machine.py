"""The sums of analytics under random lives: after every step they are what the sources say, however much was folded.

Deals within one house and between houses, paid from escrow or as they stream, disputed and settled after their end,
bargained over, and messages; steps that are refused, and commits that fail, leave no trace. Folds come at any time.
"""

import shutil
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from channels import discovery
from tests import paying
from tests.agrenting.rollup_stage import PRICES, TEAM, Stage

MEMBERS = st.integers(0, len(TEAM) - 1)
PICKS = st.integers(0, 99)
STEPS = 30


class RollupMachine(RuleBasedStateMachine):
    """One market."""

    empty: ClassVar[Path]

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / "market.sqlite3"
        shutil.copy(self.empty, path)
        self.stage = Stage(path)
        self.team = self.stage.team
        self.tasks: list[dict[str, Any]] = []
        self.sessions: list[dict[str, Any]] = []
        self.channels: dict[tuple[int, int], dict[str, Any]] = {}

    def teardown(self) -> None:
        self.stage.fold()
        assert self.stage.doctor() == []
        self.stage.connection.close()
        self.folder.cleanup()

    # Tasks.

    @rule(
        client=MEMBERS,
        provider=MEMBERS,
        capability=st.sampled_from([*PRICES]),
        hold_seconds=st.sampled_from([0, 600, 7_200, 86_400]),
    )
    def hire(self, client: int, provider: int, capability: str, hold_seconds: int) -> None:
        opened = self.stage.hire(self.team[client], self.team[provider], capability, hold_seconds=hold_seconds)
        if opened is not None:
            self.tasks.append(opened)

    @precondition(lambda self: self.tasks)
    @rule(pick=PICKS, event=st.sampled_from(["progress", "output", "complete", "complete", "error", "cancel"]))
    def work(self, pick: int, event: str) -> None:
        task = self.tasks[-1 - pick % len(self.tasks)]
        provider = self._member(task["provider_agent_id"])
        if event == "output":
            self.stage.act(task["id"], "output_stream", {"seq": 0, "chunk": "hello"}, provider)
            closing = {"checksum": sha256(b"hello").hexdigest(), "total_size": 5}
            self.stage.act(task["id"], "output_complete", closing, provider)
            return
        payload = {
            "progress": {"percent": 1},
            "complete": {"result": {"n": 1}},
            "error": {"type": "tired"},
            "cancel": {"reason": ""},
        }
        who = self._member(task["client_agent_id"]) if event == "cancel" and pick % 2 else provider
        self.stage.act(task["id"], event, payload[event], who)

    @precondition(lambda self: self.tasks)
    @rule(pick=PICKS)
    def finish(self, pick: int) -> None:
        """Begin, take a while, and hand over."""
        task = self.tasks[-1 - pick % len(self.tasks)]
        provider = self._member(task["provider_agent_id"])
        self.stage.act(task["id"], "progress", {"percent": 1}, provider)
        self.stage.advance(seconds=pick)
        self.stage.act(task["id"], "complete", {"result": {"n": 1}}, provider)

    @precondition(lambda self: self.tasks)
    @rule(pick=PICKS, decision=st.sampled_from(["client", "provider", "split"]), minutes=st.sampled_from([0, 1, 130]))
    def dispute_and_settle(self, pick: int, decision: str, minutes: int) -> None:
        """Some time after its end, a decision lands where that was."""
        self.finish(pick)
        self.stage.advance(minutes=minutes)
        self.judge(pick, "dispute")
        self.stage.require_exact()
        self.settle(pick, decision)

    @precondition(lambda self: self.tasks)
    @rule(pick=PICKS, event=st.sampled_from(["release", "dispute", "dispute"]))
    def judge(self, pick: int, event: str) -> None:
        task = self.tasks[-1 - pick % len(self.tasks)]
        payload = {"reason": "bad"} if event == "dispute" else {}
        self.stage.act(task["id"], event, payload, self._member(task["client_agent_id"]))

    @precondition(lambda self: self.tasks)
    @rule(pick=PICKS, decision=st.sampled_from(["client", "provider", "split"]))
    def settle(self, pick: int, decision: str) -> None:
        fields = {"client_bps": 3_333} if decision == "split" else {}
        self.stage.settle(self.tasks[-1 - pick % len(self.tasks)]["id"], decision, **fields)

    @rule(client=MEMBERS, provider=MEMBERS)
    def lose_a_commit(self, client: int, provider: int) -> None:
        """Nothing of a batch that cannot be stored counts, nor does it disturb what comes after."""
        stage = self.stage
        body = {"provider_agent_id": self.team[provider].id, "capability": "read", "max_price": 0}
        before = stage.tables()
        hiring = stage.command(discovery.HANDLERS["open_task"], discovery.TOPIC, body, self.team[client].identity)
        stage.lose(hiring)
        assert stage.tables() == before

    # Negotiations, transfers, messages.

    @rule(client=MEMBERS, provider=MEMBERS)
    def negotiate(self, client: int, provider: int) -> None:
        opened = self.stage.negotiate(self.team[client], self.team[provider])
        if opened is not None:
            self.sessions.append(opened)

    @precondition(lambda self: self.sessions)
    @rule(pick=PICKS)
    def reject(self, pick: int) -> None:
        session = self.sessions[pick % len(self.sessions)]
        self.stage.bargain(session["id"], "reject", {"reason": "no"}, self._member(session["provider_agent_id"]))

    @precondition(lambda self: self.sessions)
    @rule(pick=PICKS)
    def agree(self, pick: int) -> None:
        """Both offer the same."""
        session = self.sessions[pick % len(self.sessions)]
        for side in ("client_agent_id", "provider_agent_id"):
            member = self._member(session[side])
            body = self.stage.offer(session["id"], member, amount=700)
            self.stage.bargain(session["id"], "offer", body, member)

    @rule(payer=MEMBERS, payee=MEMBERS, amount=st.sampled_from([1, 5, 100]))
    def pay(self, payer: int, payee: int, amount: int) -> None:
        channel = self._channel(payer, payee)
        if channel is not None:
            self._transfer(channel, payer, payee, amount, None)

    @rule(client=MEMBERS, provider=MEMBERS, amount=st.sampled_from([1_000, 2_500]))
    def hire_and_pay_as_it_streams(self, client: int, provider: int, amount: int) -> None:
        channel = self._channel(client, provider)
        if channel is None:
            return
        price = {"amount": 1_000, "per": "chunk"}
        opened = self.stage.hire(
            self.team[client], self.team[provider], stream_price=price, channel_id=channel["channel_id"]
        )
        if opened is not None:
            self.tasks.append(opened)
            self._transfer(channel, client, provider, amount, opened["id"])

    @rule(sender=MEMBERS, receiver=MEMBERS)
    def write(self, sender: int, receiver: int) -> None:
        self.stage.write(self.team[sender], self.team[receiver])

    # Time.

    @rule(minutes=st.sampled_from([0.01, 0.9, 7, 61, 200, 1_500]))
    def wait(self, minutes: float) -> None:
        self.stage.advance(minutes=minutes)

    @rule()
    def fold(self) -> None:
        self.stage.fold()

    @invariant()
    def sums_are_exact(self) -> None:
        self.stage.require_exact()

    @invariant()
    def the_doctor_finds_nothing(self) -> None:
        assert self.stage.doctor() == []

    # How it is done.

    def _member(self, agent_id: str) -> Any:
        return next(member for member in self.team if member.id == agent_id)

    def _channel(self, payer: int, payee: int) -> dict[str, Any] | None:
        pair = (min(payer, payee), max(payer, payee))
        if payer != payee and pair not in self.channels:
            opened = self.stage.open_channel(self.team[pair[0]], self.team[pair[1]])
            if opened is not None:
                self.channels[pair] = opened
        return self.channels.get(pair)

    def _transfer(self, channel: dict[str, Any], payer: int, payee: int, amount: int, task_id: str | None) -> None:
        """Proposed and acknowledged; where the payer has not so much, there is nothing to sign."""
        channel_id, one, other = channel["channel_id"], self.team[payer], self.team[payee]
        fresh = self.stage.joined_channel(channel_id, one)
        if fresh["balance_a" if fresh["agent_a_id"] == one.id else "balance_b"] < amount:
            return
        proposal = paying.proposal(fresh, one.seed, from_agent_id=one.id, amount=amount, task_id=task_id)
        proposed = self.stage.pay(channel_id, "propose_transfer", proposal, one)
        if proposed is not None:
            pending = proposed["pending_proposal"]
            body = paying.acknowledgement(proposed, other.seed, pending)
            assert self.stage.pay(channel_id, "acknowledge_transfer", body, other) is not None


def _run(empty: Path, *, examples: int) -> None:
    RollupMachine.empty = empty
    run_state_machine_as_test(
        RollupMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        ),
    )


@pytest.mark.timeout(600)
def test_after_every_step_the_sums_are_what_the_sources_say(empty: Path) -> None:
    _run(empty, examples=12)


@pytest.mark.long
@pytest.mark.timeout(3_600)
def test_after_every_step_of_many_lives_the_sums_are_what_the_sources_say(empty: Path) -> None:
    _run(empty, examples=500)
