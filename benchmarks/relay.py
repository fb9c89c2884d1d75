"""The peer of streams: a bare relay on our own transport, which hands each message on as it came, and nothing else.

The same uvicorn, event loop and `HubProtocol` as ours; but no Phoenix, no sessions, no rules, no limits, no database,
no acknowledgement. Sockets are paired in the order in which they come. `python -m benchmarks.relay` prints its address.
"""

from typing import Any

import uvicorn

from agrenting.serve import listen, spare_the_collector
from agrenting.transport import EXTENSION, HubProtocol

FRAME_BYTES_MAX = 1_048_576

waiting: list[HubProtocol] = []
"""Who has come without the other one; one at most."""


def nothing() -> None:
    """A ping is told to nobody."""


async def app(scope: Any, receive: Any, send: Any) -> None:
    """One socket: its pair is the one that waits, or else the next to come."""
    if scope["type"] != "websocket":
        return
    await receive()  # websocket.connect
    mine: HubProtocol = scope["extensions"][EXTENSION]
    if waiting:
        other = waiting.pop()
        mine.serve(other.send_message, nothing)
        other.serve(mine.send_message, nothing)
    else:
        waiting.append(mine)
    await send({"type": "websocket.accept"})
    while (await receive())["type"] != "websocket.disconnect":
        pass


def main() -> None:
    """Serve for ever on a free port."""
    listener = listen("127.0.0.1", 0)
    config = uvicorn.Config(
        app,
        ws=HubProtocol,
        ws_max_size=FRAME_BYTES_MAX,
        ws_ping_interval=None,
        ws_per_message_deflate=False,
        access_log=False,
        log_config=None,
        lifespan="off",
        timeout_graceful_shutdown=1,
    )
    spare_the_collector()
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
