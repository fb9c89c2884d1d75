"""The load: picows clients that keep so many requests in flight, or count deliveries."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

WITHIN_S = 30.0


@dataclass(frozen=True)
class Script:
    """What a client says: the topic it joins, and the event it pushes again and again (empty: none)."""

    topic: str
    event: str = ""
    payload: str = '{"text":"sixteen letters!"}'
    key: str = ""


class Client(WSListener):
    """One socket: joins, then pushes anew for each reply; counts replies and deliveries."""

    def __init__(self, script: Script, in_flight: int) -> None:
        self.script = script
        self.in_flight = in_flight
        self.joined = asyncio.get_running_loop().create_future()
        self.replies = 0
        self.errors = 0
        self.deliveries = 0
        self.is_pushing = False
        self.on_delivery: Callable[[], None] | None = None
        self.transport: WSTransport
        self._frame = f'["1","2","{script.topic}","{script.event}",{script.payload}]'.encode()
        self._delivered = b'"shout"'

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Join."""
        self.transport = transport
        transport.send(WSMsgType.TEXT, f'["1","1","{self.script.topic}","phx_join",{{"presence":false}}]'.encode())

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:  # noqa: ARG002 - picows hands it over
        """Count what came, and push again."""
        payload = frame.get_payload_as_bytes()
        if b'"phx_reply"' not in payload[:160]:
            if self._delivered in payload[:160]:
                self.deliveries += 1
                if self.on_delivery is not None:
                    self.on_delivery()
            return
        if not self.joined.done():
            self.joined.set_result(payload)
            return
        self.replies += 1
        if b'"status":"error"' in payload:
            self.errors += 1
        if self.is_pushing:
            self.push()

    def push(self) -> None:
        """Push once."""
        self.transport.send(WSMsgType.TEXT, self._frame)

    def start(self) -> None:
        """Keep so many in flight from now on."""
        self.is_pushing = True
        for _ in range(self.in_flight):
            self.push()


async def connect(url: str, scripts: list[Script], in_flight: int = 1) -> list[Client]:
    """Open a socket for each script, all joined."""
    clients = [Client(script, in_flight) for script in scripts]
    await join(url, clients)
    return clients


async def join(url: str, clients: Sequence[Client]) -> None:
    """Open the socket of each client, and wait until all have joined."""
    address = url.replace("http", "ws", 1) + "/socket/websocket?vsn=2.0.0"
    for made in clients:
        headers = {"x-api-key": made.script.key} if made.script.key else {}
        await ws_connect(_answering(made), address, extra_headers=headers)
    answers = await asyncio.wait_for(asyncio.gather(*(made.joined for made in clients)), WITHIN_S)
    refused = [answer for answer in answers if b'"status":"ok"' not in answer]
    if refused:
        raise RuntimeError(f"a join was refused: {refused[0].decode()}")


def _answering(client: Client) -> Callable[[], WSListener]:
    return lambda: client


async def disconnect(clients: Sequence[Client]) -> None:
    """Close every socket."""
    for client in clients:
        client.is_pushing = False
        client.transport.disconnect()
    await asyncio.gather(*(client.transport.wait_disconnected() for client in clients), return_exceptions=True)
