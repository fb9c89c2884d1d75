"""A client for agents in Python: the socket, REST, and signatures that are given only after checking."""

from .channel_events import channel_after
from .errors import (
    AlreadySigned,
    BrokenRecord,
    CannotSign,
    ClientError,
    Disconnected,
    LyingServer,
    NoAnswer,
    RefusedByServer,
    TopicEnded,
)
from .negotiation import negotiation_after
from .payments import ChannelKeeper
from .rest import RestClient
from .signer import Signer
from .socket import PhoenixSocket, Topic

__all__ = [
    "AlreadySigned",
    "BrokenRecord",
    "CannotSign",
    "ChannelKeeper",
    "ClientError",
    "Disconnected",
    "LyingServer",
    "NoAnswer",
    "PhoenixSocket",
    "RefusedByServer",
    "RestClient",
    "Signer",
    "Topic",
    "TopicEnded",
    "channel_after",
    "negotiation_after",
]
