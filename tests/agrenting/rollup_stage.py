"""A market without sockets, whose writer is asked batch by batch: what the sums of analytics are tried on.

Alice has a client and a worker, so that some deals are within one house; Bob has a worker, and Carol a client.
"""

import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from agrenting import registry
from agrenting.api.task_decisions import DECIDE
from agrenting.clock import to_ms
from agrenting.config import Settings
from agrenting.db import agents, rollup_doctor, rollups
from agrenting.db.changes import set_timer
from agrenting.db.commit import GroupCommit, Outcome, StorageUnavailable, Unit
from agrenting.db.database import open_writer
from agrenting.db.following import Follower
from agrenting.db.transaction import WriterTx
from agrenting.deciding import THE_HOUSE, Command, Done, decide
from agrenting.ids import new_id, new_token
from agrenting.market import fix_market
from channels import discovery, negotiation, payment, task
from channels.changes import Timer
from channels.errors import Refusal
from channels.handlers import Context, Empty, Handler
from channels.histograms import bucket_of
from channels.identity import Identity
from channels.mail_sending import SEND
from channels.payment_opening import ACCEPT, OPEN
from channels.registration import AgentDraft, CapabilityDraft
from channels.routes import Routes
from crypto import format_public_key, offer_message, public_key_of, sign
from tests.agrenting.api.market import START
from tests.agrenting.rollup_oracle import Oracle
from tests.agrenting.test_commit import Fragile

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
FOR_EVER = 2**62
DEPOSIT = 1_000_000
PRICES = {"translate": 1_000, "read": 0}
TABLES = {
    "rollups": "SELECT * FROM rollups",
    "rollup_revenue": "SELECT * FROM rollup_revenue",
    "rollup_latencies": "SELECT * FROM rollup_latencies",
    "capability_totals": "SELECT * FROM capability_totals",
}
TEAM = (("alice", "Client"), ("alice", "Worker"), ("bob", "Worker"), ("carol", "Client"))


class Member(msgspec.Struct, frozen=True):
    """An agent, whose owner it is, and its signing key."""

    id: str
    owner_id: str
    seed: bytes

    @property
    def identity(self) -> Identity:
        """Who it is."""
        return Identity(kind="agent", user_id=self.owner_id, agent_id=self.id, handle=self.id, key_id="")


class Stage:
    """One database, its writer, and four agents: new ones, or those of a stage before."""

    def __init__(self, path: Path, *, team: list[Member] | None = None) -> None:
        self.now = START
        self.connection: sqlite3.Connection = open_writer(path, busy_timeout_s=5.0)
        self.connection.execute("PRAGMA synchronous=OFF")  # Nothing pulls the plug here.
        self.fragile = Fragile(self.connection)
        given: Any = self.fragile
        self.commits = GroupCommit(given, batch_max=512)
        self.follower = self.commits.follower = Follower(lambda: self.now)
        self.routes = Routes()
        self.market = self.change(lambda tx: fix_market(tx, Settings(data_dir=str(path.parent))))
        self.follower.market = self.market
        self.team = self._make_team() if team is None else team

    def _make_team(self) -> list[Member]:
        for owner in ("alice", "bob", "carol"):
            self.change(self._user(owner))
        return [self.change(self._member(owner, name, seed)) for seed, (owner, name) in enumerate(TEAM, start=1)]

    def _user(self, handle: str) -> Any:
        return lambda tx: registry.create_user(
            tx, handle, organisation=None, is_operator=False, now=self.now, market=self.market
        )

    def _member(self, owner: str, name: str, number: int) -> Any:
        seed = bytes([number]) * 32
        draft = AgentDraft(
            name=name,
            description=f"{name} of {owner}",
            capabilities=tuple(CapabilityDraft(name=one, price=price) for one, price in PRICES.items()),
            public_key=format_public_key(public_key_of(seed)),
            is_global=True,
        )

        def make(tx: WriterTx) -> Member:
            agent, _key, _told = registry.create_agent(
                tx,
                registry.require_user(tx, owner),
                draft,
                organisation=None,
                by_operator=True,
                maker=None,
                now=self.now,
                market=self.market,
            )
            registry.deposit(tx, agent, DEPOSIT, memo="test", now=self.now)
            return Member(agent.id, agent.owner_id, seed)

        return make

    # What is done.

    def batch(self, *units: Any) -> list[Outcome]:
        """Run units in one commit; what became of each."""
        made = [Unit(unit, lambda _outcome, _error: None) for unit in units]
        return self.commits._commit(made)  # noqa: SLF001 - the writer's own step, without its thread

    def change(self, unit: Any) -> Any:
        """Run one unit.

        Raises:
            Exception: What it raised.
        """
        (outcome,) = self.batch(unit)
        if outcome.error is not None:
            raise outcome.error
        return outcome.outcome

    def command(self, handler: Handler, topic: str, payload: Any, who: Identity = THE_HOUSE) -> Any:
        """A unit that decides an event."""
        request = msgspec.convert(payload, handler.request)
        command = Command(handler=handler, topic=topic, request=request, sender=who)
        context = Context(sender=who, now=self.now, market=self.market, new_id=new_id, new_token=new_token, topic=topic)
        return lambda tx: decide(tx, command, context)

    def try_(self, handler: Handler, topic: str, payload: Any, who: Member | None = None) -> Any:
        """The reply to an event; None where it is refused."""
        try:
            done: Done = self.change(self.command(handler, topic, payload, THE_HOUSE if who is None else who.identity))
        except Refusal:
            return None
        return msgspec.to_builtins(done.decision.reply)

    def hire(self, client: Member, provider: Member, capability: str = "translate", **fields: Any) -> Any:
        """A task's snapshot, or None."""
        body = {"provider_agent_id": provider.id, "capability": capability, **fields}
        if "stream_price" not in body:
            body.setdefault("max_price", PRICES["translate"])
        return self.try_(discovery.HANDLERS["open_task"], discovery.TOPIC, body, client)

    def act(self, task_id: str, event: str, payload: Any, who: Member) -> Any:
        """An event of a task; its reply, or None."""
        return self.try_(task.HANDLERS[event], f"task:{task_id}", payload, who)

    def settle(self, task_id: str, decision: str, **fields: Any) -> Any:
        """An operator's decision."""
        return self.try_(DECIDE, f"task:{task_id}", {"decision": decision, "reason": "so it is", **fields})

    def negotiate(self, client: Member, provider: Member) -> Any:
        """A new session, or None."""
        body = {"provider_agent_id": provider.id, "capability": "translate"}
        return self.try_(discovery.HANDLERS["open_negotiation"], discovery.TOPIC, body, client)

    def bargain(self, session_id: str, event: str, payload: Any, who: Member) -> Any:
        """An event of a session, or None."""
        return self.try_(negotiation.HANDLERS[event], f"negotiation:{session_id}", payload, who)

    def offer(self, session_id: str, member: Member, *, amount: int) -> Any:
        """The body of a signed offer, as the session stands."""
        session = self.try_(negotiation.JOIN, f"negotiation:{session_id}", {}, member)
        message = offer_message(
            signing_domain=self.market.signing_domain,
            session_id=session_id,
            agent_id=member.id,
            round_number=session["next_round"],
            amount=amount,
            answered_digest=session["offers"][-1]["digest"] if session["offers"] else session["session_digest"],
        )
        return {"amount": amount, "signature": sign(member.seed, message), "round": session["next_round"]}

    def joined_channel(self, channel_id: str, member: Member) -> Any:
        """A channel as its party sees it."""
        return self.try_(payment.JOIN, f"payment:{channel_id}", {}, member)

    def open_channel(self, opener: Member, other: Member, **fields: Any) -> Any:
        """An open channel, or None."""
        body = {"counterparty_agent_id": other.id, "deposit": 50_000, **fields}
        opened = self.try_(OPEN, discovery.TOPIC, body, opener)
        return self.try_(ACCEPT, f"payment:{opened['channel_id']}", {"deposit": 5_000}, other) if opened else None

    def pay(self, channel_id: str, event: str, payload: Any, who: Member) -> Any:
        """An event of a channel, or None."""
        return self.try_(payment.HANDLERS[event], f"payment:{channel_id}", payload, who)

    def write(self, sender: Member, receiver: Member) -> Any:
        """A message."""
        body = {"type": "collaboration", "payload": "hello", "to_agent_id": receiver.id}
        return self.try_(SEND, f"messages:{sender.id}", body, sender)

    def delete(self, member: Member) -> None:
        """An agent is no more."""
        self.change(lambda tx: agents.delete(tx, member.id))

    def advance(self, **step: float) -> None:
        """Let time pass, and run what is due, in order."""
        self.now += timedelta(**step)
        while due := self.connection.execute(
            "SELECT topic, kind FROM timers WHERE due_at <= ? ORDER BY due_at LIMIT 1", (to_ms(self.now),)
        ).fetchone():
            self.change(lambda tx, due=due: self._ring(tx, *due))

    def _ring(self, tx: WriterTx, topic: str, kind: str) -> None:
        set_timer(tx, Timer(kind, topic, None))
        self.command(self.routes.clock(topic, kind), topic, Empty())(tx)

    def lose(self, *units: Any) -> None:
        """Run units in a commit that fails."""
        self.fragile.failing = {"COMMIT"}
        outcomes = self.batch(*units)
        self.fragile.failing = set()
        assert all(isinstance(one.error, StorageUnavailable) for one in outcomes)

    def fold(self) -> int:
        """Fold all that is past; in how many steps."""
        steps = 1
        while self.change(lambda tx: rollups.fold(tx, self.now)):
            steps += 1
        return steps

    # What can be seen.

    def tables(self) -> dict[str, list[Any]]:
        """All sums as they are stored."""
        return {name: self.connection.execute(question).fetchall() for name, question in TABLES.items()}

    def doctor(self) -> list[str]:
        """What is wrong with the sums."""
        return rollup_doctor.doctor(WriterTx(self.connection, {}), messages_since=START)

    def require_exact(self) -> None:
        """Whatever is asked of any scope over any time is what the sources say."""
        oracle, tx = Oracle(self.connection), WriterTx(self.connection, {})
        end = to_ms(self.now) - to_ms(self.now) % DAY_MS + DAY_MS
        hour = to_ms(self.now) - to_ms(self.now) % HOUR_MS + HOUR_MS
        minute = to_ms(self.now) - to_ms(self.now) % MINUTE_MS + MINUTE_MS
        times = (
            (0, FOR_EVER, rollups.ALL_TIME),
            (end - DAY_MS, end, rollups.DAY),
            (end - 7 * DAY_MS, end, rollups.DAY),
            (hour - DAY_MS, hour, rollups.HOUR),
            (minute - HOUR_MS, minute, rollups.MINUTE),
        )
        for scope in oracle.scopes():
            for since, until, span in times:
                over = {"since": since, "until": until}
                found = {k: v for k, v in rollups.sums(tx, scope, **over, span=span).items() if v}
                assert found == oracle.sums(scope, **over), (scope, since, until, span)
                assert rollups.latencies(tx, scope, **over, span=span) == oracle.latencies(scope, bucket_of, **over)
                for kind in ("capability", "counterparty"):
                    by = [] if scope == "global" else oracle.revenue(scope, kind, **over)
                    assert rollups.revenue_by(tx, scope, kind, **over, span=span) == by
            over = {"since": hour - 2 * DAY_MS, "until": hour}
            assert rollups.heatmap(tx, scope, **over) == oracle.heatmap(scope, **over)
            self._require_series(tx, oracle, scope, hour)
        stored = {row[:2]: row[2:] for row in self.connection.execute(
            "SELECT capability, agent_id, completed, failed, execution_ms, executions FROM capability_totals"
        ).fetchall() if any(row[2:])}  # fmt: skip
        assert stored == oracle.totals()

    def _require_series(self, tx: WriterTx, oracle: Oracle, scope: str, until: int) -> None:
        since, columns = until - DAY_MS, ("tasks_total", "tasks_completed", "revenue_gross", "transfers_in")
        rows = rollups.series(tx, scope, since=since, until=until, span=rollups.HOUR, columns=columns)
        found = {row[0]: row[1:] for row in rows}
        for start in range(since, until, HOUR_MS):
            sums = oracle.sums(scope, since=start, until=start + HOUR_MS)
            assert found.get(start, (0,) * 4) == tuple(sums.get(name, 0) for name in columns), (scope, start)
        told = rollups.latency_series(tx, scope, since=since, until=until, span=rollups.HOUR)
        for start in range(since, until, HOUR_MS):
            assert told.get(start, {}) == oracle.latencies(scope, bucket_of, since=start, until=start + HOUR_MS)
