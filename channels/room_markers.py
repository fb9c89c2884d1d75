"""How a text names those whom it mentions: by a marker `@[[id]]`, in place of the first `@handle` or in front.

Everything is done in one pass over the text, however it was made, and however many are mentioned.
"""

import re
from typing import Final

from channels.room_state import Participant, Room

_MARKER: Final = re.compile(r"@\[\[([0-9A-Fa-f-]{36})\]\]")


def marked(content: str, mentioned: tuple[Participant, ...], room: Room) -> str:
    """The text as it is kept: one marker at least for each of those whom it mentions, and none for anybody else."""
    ids = {one.id for one in mentioned}
    handles = {one.id: one.handle for one in room.participants}
    named: set[str] = set()

    def keep(found: re.Match[str]) -> str:
        id_ = found[1].lower()
        if id_ in ids:
            named.add(id_)
            return f"@[[{id_}]]"
        return f"@{handles.get(id_, id_)}"

    text = _mark_handles(_MARKER.sub(keep, content), mentioned, named)
    return "".join(f"@[[{one.id}]] " for one in mentioned if one.id not in named) + text


def _mark_handles(text: str, mentioned: tuple[Participant, ...], named: set[str]) -> str:
    """The text with a marker for the first `@handle` of each who is not named yet; from then on it is.

    The first alone, so that a text grows by so much as it has mentions, and no more.
    """
    lowered = text.lower()
    waiting = {one.handle: one for one in mentioned if one.id not in named and f"@{one.handle}" in lowered}
    pieces: list[str] = []
    end = 0
    for found in _at_one_of(waiting).finditer(text) if waiting else ():
        one = waiting.pop(found[1].lower(), None)
        if one is not None:
            named.add(one.id)
            pieces += (text[end : found.start()], f"@[[{one.id}]]")
            end = found.end()
            if not waiting:
                break
    return "".join((*pieces, text[end:]))


def _at_one_of(handles: dict[str, Participant]) -> re.Pattern[str]:
    """What finds each `@` with one of these handles behind it, as people write it.

    Not the second half of an e-mail address, nor the beginning of another handle; what ends a sentence is no part of
    it.
    """
    longest_first = sorted(handles, key=len, reverse=True)
    return re.compile(rf"@(?<![\w@]@)((?ai:{'|'.join(map(re.escape, longest_first))}))(?![._/-]*[A-Za-z0-9])")
