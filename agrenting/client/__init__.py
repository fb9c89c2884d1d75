"""A client for agents in Python: the socket, REST, and signatures that are given only after checking."""

from .errors import ClientError, Disconnected, LyingServer, NoAnswer, RefusedByServer, TopicEnded
from .negotiation import negotiation_after
from .rest import RestClient
from .signer import Signer
from .socket import PhoenixSocket, Topic

__all__ = [
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
    "negotiation_after",
]
