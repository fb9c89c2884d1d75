"""A private channel in play, without a database: handlers are decided on what they load, and carried out in memory.

Alice owns it. Each agent may have several instances: programs that call themselves something.
"""

from collections.abc import Mapping
from datetime import timedelta
from itertools import count
from typing import Any

import msgspec

from channels import private
from channels.agents import AgentStatus
from channels.changes import DropContexts, Insert, Save, StoreContext, Timer
from channels.contacts import NO_TIE, Tie
from channels.handlers import Context, Decision, Empty, Handler
from channels.identity import Identity
from channels.limits import Market
from channels.private_ends import CLOSE, GONE
from channels.private_invitations import Invite
from channels.private_rules import Creating, PrivateContext, PrivateEntry
from channels.private_state import PrivateChannel
from channels.told import Told
from channels.wire import decode_payload
from tests.channels.roles import ALICE, BOB, CAROL, MALLORY, MARKET, NOW, Player
from tests.channels.world import THE_HOUSE

DOORS: Mapping[str, Handler] = {
    **private.HANDLERS,
    "join": private.JOIN,
    "enter": private.ENTER,
    "create": private.CREATE,
    "create_seated": private.CREATE_SEATED,
    "close": CLOSE,
    "gone": GONE,
}
"""What may happen, by a short name."""


class PrivatePlay:
    """Channels, their contexts and clocks, and all that was told."""

    def __init__(self, market: Market = MARKET) -> None:
        self.now = NOW
        self.market = market
        self.channels: dict[str, PrivateChannel] = {}
        self.contexts: dict[str, dict[str, Any]] = {}
        self.timers: dict[str, Timer] = {}
        self.told: list[Told] = []
        self.ties: dict[str, Tie] = {}
        self.inactive: set[str] = set()
        self.holders: dict[str, str] = {}
        """Instance id → the agent whose program has it right now."""
        self.last = Decision()
        self._ids = count(1)

    # What is done.

    def create(self, owner: Player = ALICE) -> str:
        """A channel in which nobody sits; its id."""
        self.do(owner, "create", topic="agents:discovery")
        channel_id: str = self.last.reply["channel"]["id"]
        return channel_id

    def do(
        self,
        who: Player | Identity,
        what: str,
        payload: Mapping[str, Any] | None = None,
        *,
        topic: str = "",
        at: str = "one",
    ) -> Any:
        """One event; its reply as it is told. `at` is the sending instance."""
        handler = DOORS[what]
        request = decode_payload(msgspec.Raw(msgspec.json.encode(payload or {})), handler.request)
        return self.decide(who, handler, request, topic=topic, at=at)

    def decide(self, who: Player | Identity, handler: Handler, request: Any, *, topic: str, at: str = "one") -> Any:
        context = self.context(who, topic=topic, at=at)
        before = self.channels.get(topic)
        self.last = handler.decide(self._loaded(handler, request, context), request, context)
        assert self.channels.get(topic) is before, "deciding changes nothing"
        self.carry_out(self.last, topic)
        return msgspec.json.decode(msgspec.json.encode(self.last.reply))

    def invite(self, channel_id: str, **fields: Any) -> str:
        """A token of Alice's."""
        reply = self.do(ALICE, "createPrivateChannelInvitation", fields, topic=channel_id)
        token: str = reply["invitationToken"]
        return token

    def seat(self, channel_id: str, who: Player, *, at: str = "one") -> None:
        """Somebody comes in, with a fresh token unless it is Alice."""
        payload = {} if who is ALICE else {"token": self.invite(channel_id)}
        self.do(who, "enter", payload, topic=channel_id, at=at)

    def gone(self, channel_id: str, who: Player, *, at: str = "one") -> None:
        self.do(THE_HOUSE, "gone", {"agent_id": who.id, "instance_id": at}, topic=channel_id)

    def advance(self, seconds: float) -> None:
        """Time passes, and due clocks run."""
        self.now += timedelta(seconds=seconds)
        for timer in [one for one in self.timers.values() if one.due_at is not None and one.due_at <= self.now]:
            del self.timers[timer.topic]
            clock = private.TIMERS[timer.kind]
            context = self.context(THE_HOUSE, topic=timer.topic)
            self.last = clock(self._loaded(private.JOIN, Empty(), context), context)
            self.carry_out(self.last, timer.topic)

    # What stands.

    def seats(self, channel_id: str) -> list[tuple[str, str]]:
        return [(one.agent_id, one.instance_id) for one in self.channels[channel_id].members]

    def tokens(self, channel_id: str) -> list[str]:
        return [one.token for one in self.channels[channel_id].invitations]

    def everything(self) -> Any:
        """All that a refusal leaves as it was."""
        return dict(self.channels), dict(self.contexts), dict(self.timers), list(self.told)

    def context(self, who: Player | Identity, *, topic: str, at: str = "one") -> Context:
        return Context(
            sender=who.identity if isinstance(who, Player) else who,
            now=self.now,
            market=self.market,
            new_id=lambda: f"id-{next(self._ids)}",
            new_token=lambda: f"token-{next(self._ids)}",
            topic=topic,
            instance_id=at,
            holder_of=self.holders.get,
        )

    def _loaded(self, handler: Handler, request: Any, context: Context) -> Any:
        channel, sender = self.channels.get(context.topic), context.sender
        match handler.loads:
            case "private_channel":
                return channel
            case "private_creating":
                owner = ALICE.agent if sender.agent_id == ALICE.id else _agent_of(sender)
                is_active = sender.agent_id not in self.inactive
                agent = owner if is_active else msgspec.structs.replace(owner, status=AgentStatus.SUSPENDED)
                own = [one for one in self.channels.values() if one.owner_agent_id == sender.agent_id and one.is_open]
                return Creating(owner=agent, open_count=len(own))
            case "private_context":
                found = [told for type_, told in self.contexts.items() if request.context_type in {None, type_}]
                return PrivateContext(channel=channel, context=found[-1] if found else None)
            case _:
                return PrivateEntry(
                    channel=channel,
                    owner=ALICE.agent.party,
                    tie=self.ties.get(sender.agent_id or "", NO_TIE),
                    is_active=sender.agent_id not in self.inactive,
                    guest_agent_id=_agent_in(request),
                )

    def carry_out(self, decision: Decision, topic: str) -> None:
        if decision.state is not None:
            self.channels[topic] = decision.state
        for change in decision.changes:
            match change:
                case Insert():
                    self.channels[change.id] = change.state
                case Save():
                    assert self.channels[change.id] == change.before
                    self.channels[change.id] = change.state
                case Timer(due_at=None):
                    self.timers.pop(change.topic, None)
                case Timer():
                    self.timers[change.topic] = change
                case StoreContext():
                    self.contexts.pop(change.context["type"], None)
                    self.contexts[change.context["type"]] = change.context
                case DropContexts():
                    self.contexts.clear()
                case _:
                    raise AssertionError(change)
        self.told += decision.broadcasts


def user_of(who: Player, **fields: Any) -> Identity:
    """The user to whom an agent belongs, acting for itself."""
    return Identity(kind="user", user_id=who.agent.owner_id, handle=who.agent.name, key_id="key", **fields)


def _agent_in(request: Any) -> str | None:
    """The agent that an invitation is for."""
    named = request.instance_id if isinstance(request, Invite) else None
    return named if named in {one.id for one in (ALICE, BOB, CAROL, MALLORY)} else None


def _agent_of(sender: Identity) -> Any:
    return msgspec.structs.replace(ALICE.agent, id=sender.agent_id, owner_id=sender.user_id)
