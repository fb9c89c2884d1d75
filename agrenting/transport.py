"""The WebSocket transport: uvicorn's sans-I/O protocol, with each message handed to a callback and writes joined.

uvicorn would put a queue, a task switch and an event dictionary between a message and the hub, and one write per frame
after it. Here a message is a plain call, and the frames of one loop turn leave in one write. Handshake, parsing, size
limits, fragmentation, UTF-8 and pings stay uvicorn's and `websockets`'.

The ASGI application finds the protocol in `scope["extensions"]["agrenting.socket"]`.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request
from websockets.protocol import State

from agrenting.api.errors import JSON, MALFORMED, Malformed, error_body

EXTENSION: Final = "agrenting.socket"
CLOSE_GRACE_S: Final = 2.0
"""How long a peer may take to answer a close, or to read what is before it, until the connection is cut."""

CLOSE_REASON_BYTES_MAX: Final = 123
SMALL, MEDIUM = 126, 65_536

OnMessage = Callable[[str | bytes], None]


def _nothing() -> None:
    """Before there is a connection, a ping is told to nobody."""


def frame_bytes(message: str | bytes) -> bytes:
    """One unmasked, unfragmented frame: text for str, binary for bytes. Source: RFC 6455, 5.2."""
    if isinstance(message, str):
        opcode, payload = 0x81, message.encode()
    else:
        opcode, payload = 0x82, message
    size = len(payload)
    if size < SMALL:
        return bytes((opcode, size)) + payload
    if size < MEDIUM:
        return bytes((opcode, 126, size >> 8, size & 0xFF)) + payload
    return bytes((opcode, 127)) + size.to_bytes(8, "big") + payload


class HubProtocol(WebSocketsSansIOProtocol):
    """One WebSocket connection, for the hub: `serve` a callback, `send` messages, `close_with` a code."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._on_message: OnMessage | None = None
        self._on_ping: Callable[[], None] = _nothing
        self._outbox: list[bytes] = []
        self._is_flush_due = False
        self._is_reading = True
        self.outbox_bytes = 0
        self.is_full = False
        self._drained: list[asyncio.Future[None]] = []

    def handle_connect(self, event: Request) -> None:
        """Tell the application of us, before its task first runs."""
        super().handle_connect(event)
        scope: Any = getattr(self, "scope", None)
        if scope is not None:
            scope["extensions"][EXTENSION] = self

    def serve(self, on_message: OnMessage, on_ping: Callable[[], None]) -> None:
        """From now on hand every message to `on_message`, at once; tell `on_ping` of pings, which are answered here."""
        self._on_message, self._on_ping = on_message, on_ping
        disconnects: list[Any] = []
        while not self.queue.empty():  # What came together with the handshake.
            event: Any = self.queue.get_nowait()
            if event["type"] == "websocket.receive":
                text = event.get("text")
                on_message(event["bytes"] if text is None else text)
            else:
                disconnects.append(event)
        for event in disconnects:
            self.queue.put_nowait(event)
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()

    def handle_ping(self) -> None:
        """Answer a ping; it is a sign of life."""
        super().handle_ping()
        self._on_ping()

    def send_receive_event_to_app(self) -> None:
        """A whole message has come."""
        if self._on_message is None:
            super().send_receive_event_to_app()
            return
        message = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
        self.frames = []
        if self.close_sent:
            return
        if self.curr_msg_data_type == "bytes":
            self._on_message(bytes(message))
            return
        try:
            text = str(message, "utf-8")
        except UnicodeDecodeError:
            self.conn.fail(1007, "text that is not UTF-8")
            self.handle_parser_exception()
            return
        self._on_message(text)

    def data_received(self, data: bytes) -> None:
        """Bytes of the peer; a handshake that cannot be read is answered, which uvicorn leaves to us."""
        self._is_flush_due = True  # What is answered to these bytes leaves once, at their end.
        super().data_received(data)
        self.flush()
        if not self.handshake_initiated and self.conn.handshake_exc is not None:
            self._refuse_handshake()

    def _refuse_handshake(self) -> None:
        body = error_body(Malformed("malformed", "This handshake cannot be read: a line of it is too long."))
        head = f"HTTP/1.1 {MALFORMED} Bad Request\r\nContent-Type: {JSON}\r\nContent-Length: {len(body)}\r\n"
        self.transport.write(f"{head}Connection: close\r\n\r\n".encode() + body)
        self.transport.close()

    async def send(self, message: Any) -> None:
        """ASGI's `send`, for the handshake alone."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body":
            self.handshake_complete = True  # A refusal completes it too; uvicorn would log an error.

    def send_message(self, message: str | bytes) -> None:
        """Queue a message; all of one loop turn leave in one write."""
        self.send_frame(frame_bytes(message))

    def send_frame(self, frame: bytes) -> None:
        """Queue a frame that `frame_bytes` made."""
        if self.close_sent or self.disconnected:
            return
        self._outbox.append(frame)
        self.outbox_bytes += len(frame)
        if not self._is_flush_due and not self.is_full:
            self._is_flush_due = True
            self.loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what is queued, unless the peer does not read."""
        self._is_flush_due = False
        if self.is_full or not self._outbox or self.close_sent or self.disconnected:
            return
        outbox, self._outbox, self.outbox_bytes = self._outbox, [], 0
        self.transport.write(outbox[0] if len(outbox) == 1 else b"".join(outbox))

    def pause_writing(self) -> None:
        """The peer does not read: what is sent now waits in our outbox."""
        super().pause_writing()
        self.is_full = True

    def resume_writing(self) -> None:
        """The peer reads again."""
        super().resume_writing()
        self.is_full = False
        self.flush()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        super().connection_lost(exc)
        self._wake()

    async def drained(self) -> None:
        """Return once the peer has read so far that more can be written, or is gone."""
        while True:  # Who was woken before may have filled it again.
            self.flush()
            if not self.is_full or self.close_sent or self.disconnected:
                return
            waiting: asyncio.Future[None] = self.loop.create_future()
            self._drained.append(waiting)
            await waiting

    def _wake(self) -> None:
        waiting, self._drained = self._drained, []
        for one in waiting:
            if not one.done():
                one.set_result(None)

    def hold_reading(self) -> None:
        """Read no more from this peer until `resume_reading`: too much of it is under way."""
        if self._is_reading and not self.transport.is_closing():
            self._is_reading = False
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        if not self._is_reading and not self.transport.is_closing():
            self._is_reading = True
            self.transport.resume_reading()

    def close_with(self, code: int, reason: str) -> None:
        """Send what is queued and a close frame; cut the connection if the peer takes too long to answer."""
        if self.close_sent or self.disconnected or self.conn.state is not State.OPEN:
            return
        if not self.is_full:
            self.flush()
        self._outbox.clear()
        self.outbox_bytes = 0
        self.conn.send_close(code, reason.encode()[:CLOSE_REASON_BYTES_MAX].decode(errors="ignore"))
        self.close_sent = True
        self._wake()
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.resume_reading()
        self.close_timer = self.loop.call_later(CLOSE_GRACE_S, self._cut)
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})

    def _cut(self) -> None:
        self.close_timer = None
        self.transport.abort()
