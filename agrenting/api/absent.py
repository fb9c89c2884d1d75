"""What Band's clients ask for and this server does not have: each address answers 404, and says so plainly."""

import re
from typing import Final

from agrenting.api.operation import ROOT
from channels.errors import NotFound

_ROOM: Final = rf"{ROOT}/(?:agent|me)/chats/[^/]+"
_ABSENT: Final = tuple(
    (re.compile(pattern), said)
    for pattern, said in (
        (rf"{_ROOM}/(?:files|attachments)(?:/.*)?", "files in rooms; the feature flag ff_file_transfer is false"),
        (rf"{_ROOM}/(?:tasks|board)(?:/.*)?", "tasks of rooms; the feature flag ff_room_tasks is false"),
        (rf"{ROOT}/(?:agent|me)/memories(?:/.*)?", "memories, and there is no feature flag for them"),
        (rf"{ROOT}/agent/delegation/token", "delegation, and there is no feature flag for it"),
        (
            rf"{ROOT}/me/(?:(?:agents|chats)/bulk-delete|bulk-deletions/[^/]+)",
            "deleting many at once, and there is no feature flag for it: delete one at a time",
        ),
    )
)


def absent(path: str) -> NotFound | None:
    """Why there is nothing at an address of Band's; None for every other address.

    Args:
        path: From the server's root.
    """
    said = next((said for pattern, said in _ABSENT if pattern.fullmatch(path.rstrip("/"))), None)
    return None if said is None else NotFound("not_found", f"This server does not offer {said}.")
