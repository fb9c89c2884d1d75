"""Joining a task: what stands, and where its streams are resumed.

Who was cut off says from which seq on it wants the chunks of either direction, and is pushed those that are stored, in
order, before anything live. What it had got beyond the reply's `next_seq` was relayed before it was durable, and is not
here any more: it drops that, and takes what comes.
"""

from typing import Annotated, Final

import msgspec

from channels.chunks import SEQ_MAX
from channels.handlers import Context, Decision, Follow
from channels.streams import TaskFacts
from channels.task_state import Direction, require_participant, snapshot

DIRECTIONS: Final[tuple[Direction, ...]] = ("input", "output")

Seq = Annotated[int, msgspec.Meta(ge=0, le=SEQ_MAX)]


class JoinTask(msgspec.Struct, frozen=True, kw_only=True):
    """Join a task.

    Args:
        input_from: The first chunk of the input that is wanted; null or absent: none of those that are stored.
        output_from: The same of the output.
        binary: Chunks that are sent in binary frames come as such; else as base64.
    """

    input_from: Seq | None = None
    output_from: Seq | None = None
    binary: bool = False


def join(facts: TaskFacts, request: JoinTask, context: Context) -> Decision:
    """The whole task, also once it has ended, and to its provider the newest checkpoint; then the stored chunks.

    Raises:
        NotFound: `not_found`: there is no such task, or the sender is not of it.
    """
    task = require_participant(facts.task, context)
    reply = snapshot(task, context.market)
    if context.sender.agent_id == task.provider_agent_id:
        reply["checkpoint"] = facts.stored.checkpoint()
    asked = {"input": request.input_from, "output": request.output_from}
    # Whoever has got more than is stored was told of it before it was durable: it takes all that is not in order here.
    replays: dict[str, int] = {
        direction: min(first, task.stream(direction).next_seq)
        for direction in DIRECTIONS
        if (first := asked[direction]) is not None
    }
    return Decision(reply=reply, follow=Follow(task_id=task.id, replays=replays, is_binary=request.binary))
