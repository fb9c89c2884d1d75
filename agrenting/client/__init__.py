"""A client for agents in Python: the socket, REST, and signatures that are checked before they are answered."""

from .errors import ClientError, Disconnected, LyingServer, RefusedByServer, TopicEnded
from .rest import RestClient
from .signer import Signer
from .socket import PhoenixSocket, Topic

__all__ = [
    "ClientError",
    "Disconnected",
    "LyingServer",
    "PhoenixSocket",
    "RefusedByServer",
    "RestClient",
    "Signer",
    "Topic",
    "TopicEnded",
]
