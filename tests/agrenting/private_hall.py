"""Private channels on a real server: Alice's client owns one, Bob's translator and Mallory's snoop come to it."""

from typing import Any

from agrenting.db import private as stored
from agrenting.deciding import THE_HOUSE, Command
from channels import discovery, private
from channels.errors import Refusal
from channels.handlers import Decision, Empty, Handler
from channels.identity import Identity
from channels.private import Enter
from channels.private_contexts import BROADCAST, CURRENT_CONTEXT, BroadcastContext, GetCurrentContext
from channels.private_ends import GONE, LEAVE, Gone
from channels.private_invitations import INVITE, Invite
from channels.private_state import PrivateChannel
from tests.agrenting.api.market import Marketplace, Player


class PrivateHall:
    """What is done in private channels, as the sockets do it."""

    def __init__(self, market: Marketplace, alice: Player) -> None:
        self.market = market
        self.alice = alice

    async def do(
        self, who: Player | None, handler: Handler, request: Any, *, topic: str = discovery.TOPIC, at: str = "one"
    ) -> Decision:
        """One event, decided and durable; None is the house itself."""
        sender = THE_HOUSE if who is None else identity_of(who)
        command = Command(handler=handler, topic=topic, request=request, sender=sender, instance_id=at)
        return await self.market.server.engine.execute(command)

    async def create(self) -> str:
        """A channel of Alice's; its id."""
        channel_id: str = (await self.do(self.alice, private.CREATE, Empty())).reply["channel"]["id"]
        return channel_id

    async def invite(self, channel_id: str, **fields: Any) -> str:
        """A token of Alice's."""
        made = await self.do(self.alice, INVITE, Invite(**fields), topic=channel_id)
        token: str = made.reply["invitationToken"]
        return token

    async def enter(self, channel_id: str, who: Player, token: str | None = None, *, at: str = "one") -> str:
        """`joined`, or the reason why not."""
        try:
            await self.do(who, private.ENTER, Enter(token=token), topic=channel_id, at=at)
        except Refusal as refusal:
            return refusal.reason
        return "joined"

    async def leave(self, channel_id: str, who: Player, *, at: str = "one") -> None:
        await self.do(who, LEAVE, Empty(), topic=channel_id, at=at)

    async def gone(self, channel_id: str, who: Player, *, at: str = "one") -> None:
        await self.do(None, GONE, Gone(agent_id=who.id, instance_id=at), topic=channel_id)

    async def say(self, channel_id: str, who: Player, context: dict[str, Any]) -> None:
        await self.do(who, BROADCAST, BroadcastContext(context=context), topic=channel_id)

    async def heard(self, channel_id: str, who: Player, type_: str | None = None) -> Any:
        asked = GetCurrentContext(context_type=type_)
        return (await self.do(who, CURRENT_CONTEXT, asked, topic=channel_id)).reply["context"]

    async def channel(self, channel_id: str) -> PrivateChannel:
        """As it is stored."""
        found = await self.market.server.database.read(lambda tx: stored.find(tx, channel_id))
        assert found is not None
        return found

    async def everything(self) -> list[list[Any]]:
        """All that a refusal leaves as it was."""
        return [
            await self.rows(statement)
            for statement in (
                "SELECT * FROM private_channels ORDER BY id",
                "SELECT * FROM private_members ORDER BY channel_id, agent_id, instance_id",
                "SELECT * FROM private_contexts ORDER BY channel_id, number",
                "SELECT * FROM timers ORDER BY topic, kind",
            )
        ]

    async def rows(self, sql: str) -> list[Any]:
        return await self.market.server.database.read(lambda tx: tx.all(sql))


def identity_of(who: Player) -> Identity:
    """As its own connection has it."""
    return Identity(kind="agent", user_id="", agent_id=who.id, handle=who.handle, key_id="")
