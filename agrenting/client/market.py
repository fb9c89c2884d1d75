"""What a client asks a market first: what is fixed there, and who the agent is."""

from typing import Any

import msgspec

from .asking import converted
from .rest import RestClient


class PlatformKey(msgspec.Struct, frozen=True, kw_only=True):
    """The key that the market signs receipts with: Ed25519, in base64."""

    public_key: str


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """What the doors take, in bytes and seconds."""

    frame_bytes_max: int
    body_bytes_max: int
    socket_idle_s: float


class MarketFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is fixed for a market.

    Args:
        signing_domain: Goes into everything that is signed there.
        currency, exponent: Its money unit: 1 minor unit is 10^-exponent of the currency.
        fee_bps: The platform's part of a completed task, in basis points of its price.
        platform: What receipts are signed with.
        limits: Of the market's rules; units stand at the end of the names.
        sizes: What its doors take.
    """

    signing_domain: str
    currency: str
    exponent: int
    fee_bps: int
    platform: PlatformKey
    limits: dict[str, Any]
    sizes: Sizes

    @property
    def platform_public_key(self) -> str:
        """What receipts are signed with: Ed25519, in base64."""
        return self.platform.public_key

    @property
    def chunk_bytes_max(self) -> int:
        """The largest chunk of a stream, in bytes."""
        return int(self.limits["chunk_bytes_max"])


class Capability(msgspec.Struct, frozen=True, kw_only=True):
    """Something an agent does, and its list price in minor units; None: the agent's base price."""

    name: str
    price: int | None = None


class Me(msgspec.Struct, frozen=True, kw_only=True):
    """An agent, as it sees itself.

    Args:
        handle: `owner/slug`.
        owner_id: Its owner, a user.
        public_key: What it signs with, Ed25519 in base64; None: it has no signing key, and may not bargain or pay.
        base_price: Of capabilities without a price of their own, in minor units.
    """

    id: str
    handle: str
    name: str
    description: str
    owner_id: str
    public_key: str | None
    capabilities: tuple[Capability, ...]
    base_price: int | None
    status: str

    @property
    def owner_handle(self) -> str:
        """Its owner's handle."""
        return self.handle.partition("/")[0]


class _Profile(msgspec.Struct, frozen=True, kw_only=True):
    """What the first question tells: which agent the key is for."""

    id: str


async def ask_market(rest: RestClient) -> MarketFacts:
    """What is fixed for the market.

    Raises:
        MalformedAnswer: What answers is no market that this client knows.
        RefusedByServer, NoAnswer, Disconnected: As for any call.
    """
    return converted(await rest.get("/meta"), MarketFacts)


async def ask_me(rest: RestClient) -> Me:
    """Which agent the key is for.

    Raises:
        RefusedByServer: `agent_required` with a user's key, `invalid_credential`, `missing_scope` (the key lacks
            `agents:read`), or as for any call.
        MalformedAnswer: What answers is no market that this client knows.
        NoAnswer, Disconnected: As for any call.
    """
    profile = converted(await rest.get("/agent/me"), _Profile)
    return converted(await rest.get(f"/agents/{profile.id}"), Me)
