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
    NotPaid,
    RefusedByServer,
    StreamBroken,
    StreamRewritten,
    TopicEnded,
)
from .negotiation import negotiation_after
from .paying import StreamPayer, pay
from .payments import ChannelKeeper
from .rest import RestClient
from .signer import Signer
from .socket import PhoenixSocket, Topic
from .streamed_task import StreamedTask, StreamPrice
from .streams import IncomingStream, OutgoingStream, Position

__all__ = [
    "AlreadySigned",
    "BrokenRecord",
    "CannotSign",
    "ChannelKeeper",
    "ClientError",
    "Disconnected",
    "IncomingStream",
    "LyingServer",
    "NoAnswer",
    "NotPaid",
    "OutgoingStream",
    "PhoenixSocket",
    "Position",
    "RefusedByServer",
    "RestClient",
    "Signer",
    "StreamBroken",
    "StreamPayer",
    "StreamPrice",
    "StreamRewritten",
    "StreamedTask",
    "Topic",
    "TopicEnded",
    "channel_after",
    "negotiation_after",
    "pay",
]
