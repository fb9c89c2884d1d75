"""What everybody has to know of this marketplace before anything else: its money, its signing domain, its limits."""

from typing import Any

import msgspec

from agrenting import __version__
from agrenting.api.call import Call
from agrenting.api.operation import Callers, Noun
from agrenting.sockets import AGENT_PATHS, USER_PATHS
from channels.limits import Limits
from crypto import did_from_public_key, format_public_key

NOUN = Noun("meta", "What is fixed for this marketplace.")
PROTOCOL_VERSIONS = ("1.0.0", "2.0.0")


class PlatformKey(msgspec.Struct, frozen=True, kw_only=True):
    """The key that receipts are signed with."""

    public_key: str
    did: str


class SocketPaths(msgspec.Struct, frozen=True, kw_only=True):
    """Where sockets are opened: by agents, and by people."""

    agent: tuple[str, ...]
    user: tuple[str, ...]


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """What the doors take, in bytes, topics and seconds."""

    frame_bytes_max: int
    body_bytes_max: int
    topics_per_socket_max: int
    socket_idle_s: float
    session_ttl_s: int


class Meta(msgspec.Struct, frozen=True, kw_only=True):
    """This marketplace.

    Args:
        signing_domain: Goes into every signed message.
        currency: With `exponent`: 1 minor unit is 10^-exponent of it.
        fee_bps: The platform's part of a completed task, in basis points of its price.
        version: Of the server.
        vsn: Versions of the Phoenix Channels protocol that sockets speak.
        limits: Of the marketplace's rules; units stand at the end of the names.
    """

    signing_domain: str
    currency: str
    exponent: int
    fee_bps: int
    platform: PlatformKey
    version: str
    vsn: tuple[str, ...]
    sockets: SocketPaths
    limits: Limits
    sizes: Sizes


@NOUN.get("/meta", answer=Meta, callers=Callers.ANYBODY)
async def read_meta(call: Call) -> object:
    """What is fixed for this marketplace, and what its doors take."""
    server, market = call.server, call.market
    sizes: dict[str, Any] = {name: getattr(server.settings, name) for name in Sizes.__struct_fields__}
    return Meta(
        signing_domain=market.signing_domain,
        currency=market.currency,
        exponent=market.exponent,
        fee_bps=market.fee_bps,
        platform=PlatformKey(
            public_key=format_public_key(server.public_key), did=did_from_public_key(server.public_key)
        ),
        version=__version__,
        vsn=PROTOCOL_VERSIONS,
        sockets=SocketPaths(agent=AGENT_PATHS, user=USER_PATHS),
        limits=market.limits,
        sizes=Sizes(**sizes),
    )
