"""Band's own SDK from PyPI, unmodified and pointed at our server: who plays in its tests, and what they hear.

What the tests need of the SDK is imported here alone: without the package all of them are skipped with a reason, which
CI turns into a failure.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

import pytest

try:
    from band.agent import Agent
    from band.client.rest import NO_RETRY_REQUEST_OPTIONS, AsyncRestClient, aclose_rest_client
    from band.client.streaming import WebSocketClient
    from band.core.exceptions import AgentAlreadyRunningError, MessagePostError
    from band.core.settlement import SettlementResult
    from band.core.simple_adapter import SimpleAdapter
    from band.core.types import ConflictPolicy
    from band.platform.link import BandLink
    from band.runtime.contact_tools import ContactTools
    from band.runtime.contacts import ContactEventConfig, ContactEventStrategy
    from band.runtime.tools import AgentTools, HumanTools
    from band_rest import (
        AddAgentContactResponseData,
        AgentActivityDetail,
        AgentContact,
        AgentRegisterRequest,
        BadRequestError,
        ChatEventRequest,
        ChatMessage,
        ChatMessageRequest,
        ChatParticipant,
        ChatParticipantDetails,
        ChatRoom,
        ChatRoomRequest,
        ConflictError,
        ContactRequest,
        ForbiddenError,
        MeChatRoom,
        MessageSentResponse,
        MessageStatusResponse,
        NotFoundError,
        ParticipantRequest,
        Peer,
        ReceivedContactRequest,
        SentContactRequest,
        UnauthorizedError,
        UnprocessableEntityError,
    )
    from band_rest.agent_api_activity.client import AsyncAgentApiActivityClient
    from band_rest.agent_api_chats.client import AsyncAgentApiChatsClient
    from band_rest.agent_api_chats.types import RenameAgentChatRequestChat as NewTitle
    from band_rest.agent_api_contacts.client import AsyncAgentApiContactsClient
    from band_rest.agent_api_context.client import AsyncAgentApiContextClient
    from band_rest.agent_api_events.client import AsyncAgentApiEventsClient
    from band_rest.agent_api_identity.client import AsyncAgentApiIdentityClient
    from band_rest.agent_api_messages.client import AsyncAgentApiMessagesClient
    from band_rest.agent_api_participants.client import AsyncAgentApiParticipantsClient
    from band_rest.agent_api_peers.client import AsyncAgentApiPeersClient
    from band_rest.core.api_error import ApiError
    from band_rest.human_api_agents.client import AsyncHumanApiAgentsClient
    from band_rest.human_api_chats.client import AsyncHumanApiChatsClient
    from band_rest.human_api_chats.types import CreateMyChatRoomRequestChat as MyNewChat
    from band_rest.human_api_contacts.client import AsyncHumanApiContactsClient
    from band_rest.human_api_contacts.types import CreateContactRequestRequestContactRequest as Invitation
    from band_rest.human_api_messages.client import AsyncHumanApiMessagesClient
    from band_rest.human_api_participants.client import AsyncHumanApiParticipantsClient
    from band_rest.human_api_peers.client import AsyncHumanApiPeersClient
    from band_rest.human_api_profile.client import AsyncHumanApiProfileClient
    from band_rest.human_api_profile.types import UpdateMyProfileRequestUser as Profile
    from band_rest.types import ChatMessageRequestMentionsItem as Mention
    from band_sdk_core import validate_event_payload
except ImportError as missing:
    pytest.skip(f"band-sdk is missing ({missing}): `make test` installs it", allow_module_level=True)

from phoenix_channels_python_client.client import PHXChannelsClient
from phoenix_channels_python_client.exceptions import PHXConnectionError, PHXTopicError
from phoenix_channels_python_client.phx_messages import ChannelMessage
from phoenix_channels_python_client.protocol_handler import PhoenixChannelsProtocolVersion

from tests.system.harness import MarketProcess

__all__ = [
    "ADDED",
    "ONCE",
    "RECEIVED",
    "REMOVED",
    "UPDATED",
    "Agent",
    "AgentActivityDetail",
    "AgentAlreadyRunningError",
    "AgentRegisterRequest",
    "AgentTools",
    "ApiError",
    "AsyncAgentApiActivityClient",
    "AsyncAgentApiChatsClient",
    "AsyncAgentApiContextClient",
    "AsyncAgentApiEventsClient",
    "AsyncAgentApiMessagesClient",
    "AsyncAgentApiParticipantsClient",
    "AsyncHumanApiChatsClient",
    "AsyncHumanApiMessagesClient",
    "AsyncHumanApiParticipantsClient",
    "BadRequestError",
    "BandLink",
    "ChatEventRequest",
    "ChatMessage",
    "ChatMessageRequest",
    "ChatParticipant",
    "ChatParticipantDetails",
    "ChatRoom",
    "ChatRoomRequest",
    "ConflictError",
    "ConflictPolicy",
    "ContactEventConfig",
    "ContactEventStrategy",
    "ContactTools",
    "Ear",
    "ForbiddenError",
    "HumanTools",
    "Invitation",
    "MeChatRoom",
    "Mention",
    "MessagePostError",
    "MessageSentResponse",
    "MessageStatusResponse",
    "MyNewChat",
    "NewTitle",
    "NotFoundError",
    "PHXConnectionError",
    "PHXTopicError",
    "ParticipantRequest",
    "Peer",
    "Player",
    "Profile",
    "SettlementResult",
    "SimpleAdapter",
    "Stage",
    "UnauthorizedError",
    "UnprocessableEntityError",
    "WebSocketClient",
    "aclose_rest_client",
    "present",
    "served",
    "validate_event_payload",
]

RECEIVED = "contact_request_received"
UPDATED = "contact_request_updated"
ADDED = "contact_added"
REMOVED = "contact_removed"
ONCE = NO_RETRY_REQUEST_OPTIONS
"""The SDK's client would try a 409 three times, over three seconds."""

WITHIN_S = 30.0
_numbers = itertools.count(1)
T = TypeVar("T")


def present(value: T | None) -> T:
    """What the SDK's models call optional, and a server of the contract always sends."""
    assert value is not None
    return value


@contextmanager
def served(folder: Path, **settings: str) -> Iterator[MarketProcess]:
    """A running server for the tests of one file: each of them makes its own users and agents."""
    market = MarketProcess(folder / "var", **settings).start()
    try:
        yield market
    finally:
        code = market.stop()
    assert code == 0, "\n".join(market.log)


class Ear:
    """What one side is told on its contacts topic, in order."""

    def __init__(self) -> None:
        self._told: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()

    def on(self, event: str) -> Callable[[Any], Awaitable[None]]:
        """A callback that hears an event of that name."""

        async def hear(payload: Any) -> None:
            await self._told.put((event, payload))

        return hear

    async def hear_message(self, message: ChannelMessage) -> None:
        """A callback that hears every event of a topic, as it is on the wire."""
        await self._told.put((str(message.event), message.payload))

    async def any(self) -> tuple[str, Any]:
        """The next event, and its payload."""
        async with asyncio.timeout(WITHIN_S):
            return await self._told.get()

    async def next(self, event: str) -> Any:
        """The payload of the next event, which is of that name: nothing else came before it."""
        told, payload = await self.any()
        assert told == event, f"{told} came before {event}: {payload}"
        return payload


class Player:
    """A user or an agent: its credential, and the SDK's REST client with it."""

    def __init__(self, fields: dict[str, Any], url: str, owner: "Player | None" = None) -> None:
        self.id: str = fields["id"]
        self.handle: str = fields["handle"]
        self.key: str = fields["api_key"]
        self.rest = AsyncRestClient(api_key=self.key, base_url=url, timeout=WITHIN_S)
        self._owner = owner
        # The doors of agents, then those of users. The SDK's properties carry no types; its classes do.
        self.identity: AsyncAgentApiIdentityClient = self.rest.agent_api_identity
        self.contacts: AsyncAgentApiContactsClient = self.rest.agent_api_contacts
        self.peers: AsyncAgentApiPeersClient = self.rest.agent_api_peers
        self.my_profile: AsyncHumanApiProfileClient = self.rest.human_api_profile
        self.my_agents: AsyncHumanApiAgentsClient = self.rest.human_api_agents
        self.my_contacts: AsyncHumanApiContactsClient = self.rest.human_api_contacts
        self.my_peers: AsyncHumanApiPeersClient = self.rest.human_api_peers

    @property
    def owner(self) -> "Player":
        """Whose agent this is."""
        return present(self._owner)

    # What agents say, tried once.

    async def ask(self, other: "Player", message: str = "Let us work together") -> AddAgentContactResponseData:
        """Ask for contact."""
        answer = await self.contacts.add_agent_contact(handle=other.handle, message=message, request_options=ONCE)
        return present(answer.data)

    async def answer(self, action: str, request_id: str) -> str:
        """Approve, reject or cancel; the request's state after it."""
        answer = await self.contacts.respond_to_agent_contact_request(
            action=action, request_id=request_id, request_options=ONCE
        )
        assert present(answer.data).id == request_id
        return str(present(answer.data).status)

    async def answer_as_user(self, action: str, request_id: str) -> str:
        """Approve, reject or cancel through the doors of users; the request's state after it."""
        doors: dict[str, Callable[..., Awaitable[Any]]] = {
            "approve": self.my_contacts.approve_contact_request,
            "reject": self.my_contacts.reject_contact_request,
            "cancel": self.my_contacts.cancel_contact_request,
        }
        answer = await doors[action](request_id, request_options=ONCE)
        assert answer.data.id == request_id
        return str(answer.data.status)

    async def befriend(self, other: "Player") -> None:
        """Ask for contact, which the other one approves."""
        asked = await self.ask(other)
        assert await other.answer("approve", asked.id) == "approved"

    async def invite(self, other: "Player", message: str | None = None) -> ContactRequest:
        """Ask for contact as a user, tried once."""
        invitation = Invitation(recipient_handle=other.handle, message=message)
        return (await self.my_contacts.create_contact_request(contact_request=invitation, request_options=ONCE)).data

    async def received(self) -> list[ReceivedContactRequest]:
        """Pending requests to it."""
        answer = await self.contacts.list_agent_contact_requests()
        return present(present(answer.data).received)

    async def sent(self, status: str | None = None) -> list[SentContactRequest]:
        """Its own requests: pending ones, unless a state is named."""
        answer = await self.contacts.list_agent_contact_requests(sent_status=status)
        return present(present(answer.data).sent)

    async def friends(self) -> dict[str, AgentContact]:
        """Handle → contact; its owner, who is one from the start, is left out."""
        answer = await self.contacts.list_agent_contacts(page_size=100)
        rows = present(answer.data)
        assert self.owner.handle in {row.handle for row in rows}
        return {row.handle: row for row in rows if row.handle != self.owner.handle}


class Stage:
    """Who plays in one test. On the way out every connection is closed, and the SDK has dropped no push."""

    def __init__(self, market: MarketProcess) -> None:
        self.market = market
        self.socket_url = market.url.replace("http", "ws", 1) + "/api/v1/socket/websocket"
        self.user_socket_url = market.url.replace("http", "ws", 1) + "/user_socket/websocket"
        self._stack = AsyncExitStack()
        self._sockets: list[WebSocketClient] = []
        self._links: list[BandLink] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_failure: object) -> None:
        sockets = [*self._sockets, *(link._ws for link in self._links if link._ws is not None)]  # noqa: SLF001 - the count stands there alone.
        dropped = [socket.validation_error_count for socket in sockets]
        await self._stack.aclose()
        assert not any(dropped), "the SDK's own validator has refused a payload; see its log"

    def user(self, name: str = "olga", *options: str) -> Player:
        """A user of a handle that begins like that."""
        return self._player(self.market.user(f"{name}-{next(_numbers)}", *options))

    def agent(self, name: str = "bob", *, owner: Player | None = None, called: str = "Helper", **fields: Any) -> Player:
        """An agent, of a new user unless one is named. Registered by REST: then nothing is told of it later on.

        A global one is registered by the operator.
        """
        owner = owner or self.user(name)
        body = {"name": called, "description": f"{called} of {name}", **fields}
        is_global = fields.get("is_global", False)
        if is_global:
            body["owner"] = owner.handle
        with self.market.rest(self.market.operator_key if is_global else owner.key) as rest:
            answer = rest.post("/api/v1/agents", json=body)
        assert answer.status_code == 201, answer.text
        return self._player(answer.json()["data"], owner)

    def known(self, fields: dict[str, Any], owner: Player | None = None) -> Player:
        """Somebody who was registered in another way."""
        return self._player(fields, owner)

    async def socket(self, player: Player) -> WebSocketClient:
        """The SDK's own socket, open."""
        client = WebSocketClient(self.socket_url, player.key, player.id)
        await self._stack.enter_async_context(client)
        self._sockets.append(client)
        return client

    async def listen(self, agent: Player) -> Ear:
        """An agent's socket on its contacts topic: payloads are what the SDK has made of them."""
        ear, socket = Ear(), await self.socket(agent)
        await socket.join_agent_contacts_channel(
            agent.id,
            on_contact_request_received=ear.on(RECEIVED),
            on_contact_request_updated=ear.on(UPDATED),
            on_contact_added=ear.on(ADDED),
            on_contact_removed=ear.on(REMOVED),
        )
        return ear

    async def user_socket(self, user: Player) -> PHXChannelsClient:
        """A user's socket. The SDK has no client of its own for it; this is the one underneath."""
        return await self._stack.enter_async_context(self.plain_client(self.user_socket_url, user.key))

    def plain_client(self, url: str, key: str) -> PHXChannelsClient:
        """The client that the SDK stands on, not connected, and which says at once that it was refused."""
        return PHXChannelsClient(
            url,
            key,
            protocol_version=PhoenixChannelsProtocolVersion.V2,
            auto_reconnect=False,
            additional_headers={"x-api-key": key},
        )

    async def listen_as_user(self, user: Player) -> Ear:
        """A user's socket on its contacts topic: payloads as they are on the wire."""
        ear, client = Ear(), await self.user_socket(user)
        await client.subscribe_to_topic(f"user_contacts:{user.id}", ear.hear_message)
        return ear

    async def link(self, agent: Player) -> BandLink:
        """The SDK's link, connected."""
        link = BandLink(agent.id, agent.key, ws_url=self.socket_url, rest_url=self.market.url)
        self._links.append(link)
        self._stack.push_async_callback(aclose_rest_client, link.rest)
        await link.connect()
        self._stack.push_async_callback(link.disconnect)
        return link

    async def run(
        self,
        agent: Player,
        contact_config: ContactEventConfig | None = None,
        *,
        adapter: SimpleAdapter[Any] | None = None,
        **options: Any,
    ) -> Agent:
        """The SDK's runtime, started; its adapter is never asked for anything, unless one is given.

        `options` are those of `Agent.create`.
        """
        running = Agent.create(
            adapter=adapter or Idle(),
            agent_id=agent.id,
            api_key=agent.key,
            ws_url=self.socket_url,
            rest_url=self.market.url,
            contact_config=contact_config,
            **options,
        )
        await running.start()
        self._links.append(running.runtime.link)
        self._stack.push_async_callback(aclose_rest_client, running.runtime.link.rest)
        self._stack.push_async_callback(running.stop)
        return running

    def _player(self, fields: dict[str, Any], owner: Player | None = None) -> Player:
        player = Player(fields, self.market.url, owner)
        self._stack.push_async_callback(aclose_rest_client, player.rest)
        return player


class Idle(SimpleAdapter[Any]):
    """An adapter of nothing."""

    async def on_message(self, *args: Any, **options: Any) -> None:
        raise AssertionError("there are no rooms, so no message can come")
