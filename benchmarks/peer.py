"""The peer: a bare picows server that answers joins and echoes and fans shouts out, and nothing else.

`python -m benchmarks.peer` prints its address once it listens.
"""

import msgspec
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server


class Frame(msgspec.Struct, array_like=True, gc=False):
    """A Phoenix V2 frame, its payload raw."""

    join_ref: str | None
    ref: str | None
    topic: str
    event: str
    payload: msgspec.Raw


_decode = msgspec.json.Decoder(Frame).decode
_encode = msgspec.json.Encoder().encode
EMPTY = msgspec.Raw(b"{}")

subscribers: dict[WSTransport, None] = {}


class Answering(WSListener):
    """One connection."""

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """It is gone."""
        subscribers.pop(transport, None)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Answer a frame."""
        if frame.msg_type != WSMsgType.TEXT:
            if frame.msg_type == WSMsgType.CLOSE:
                transport.send_close(frame.get_close_code())
                transport.disconnect()
            return
        message = _decode(frame.get_payload_as_bytes())
        if message.event == "shout":
            told = _encode((None, None, message.topic, "shout", message.payload))
            for subscriber in subscribers:
                subscriber.send(WSMsgType.TEXT, told)
            return
        if message.event == "phx_join":
            subscribers[transport] = None
        response = EMPTY if message.event == "phx_join" else message.payload
        reply = (message.join_ref, message.ref, message.topic, "phx_reply", {"status": "ok", "response": response})
        transport.send(WSMsgType.TEXT, _encode(reply))


async def serve() -> None:
    """Serve for ever on a free port."""

    def listener(_request: WSUpgradeRequest) -> WSListener:
        return Answering()

    server = await ws_create_server(listener, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    print(f"listening on http://127.0.0.1:{port}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve())
