"""ChannelManager: what stands in private channels, for programs that run beside the server or on its data folder.

from agrenting.channel_manager import ChannelManager
from agrenting.config import load_settings

state = ChannelManager.of_folder(load_settings({"data_dir": "./var"})).get_private_channel_state("private:0199…")
"""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any, Self

from agrenting.clock import Clock, system_clock
from agrenting.config import Settings
from agrenting.db import private
from agrenting.db.transaction import Tx, WriterTx
from channels.private_rules import members_of, outstanding
from channels.private_state import PrivateChannel

Question = Callable[[Tx], PrivateChannel | None]


class ChannelManager:
    """Reads private channels.

    What it answers holds tokens: it is for the operator's own programs.

    Args:
        read: Answers a question in one transaction of the database.
        clock: By which invitations are over; the present.
    """

    def __init__(self, read: Callable[[Question], PrivateChannel | None], *, clock: Clock = system_clock) -> None:
        self._read = read
        self._clock = clock

    @classmethod
    def of_folder(cls, settings: Settings) -> Self:
        """Reads a data folder, whether or not a server is running on it; nothing is ever written.

        Args:
            settings: Name the folder, whose database exists and has this program's schema.
        """
        address = f"{settings.database_path.resolve().as_uri()}?mode=ro"

        def read(question: Question) -> PrivateChannel | None:
            with closing(sqlite3.connect(address, uri=True, timeout=settings.busy_timeout_s)) as connection:
                return question(WriterTx(connection, {}))

        return cls(read)

    def get_private_channel_state(self, channel_id: str) -> dict[str, Any] | None:
        """The owner, the members and the outstanding invitations of a private channel.

        Args:
            channel_id: The whole id, which is the topic: `private:…`.

        Returns:
            `{"id", "owner", "members": [{"agentId", "instanceId", "role"}], "invites": [{"token", "instanceId"}]}`,
            where owner is an agent's id, and an invitation's `instanceId` is what its maker bound it to, an agent
            by its id or a program by its name; None: nothing. Invitations that were used or revoked, or have expired,
            are not in it. None where there is no such private channel, or none any more.
        """
        channel = self._read(lambda tx: private.find(tx, channel_id))
        if channel is None or not channel.is_open:
            return None
        return {
            "id": channel.id,
            "owner": channel.owner_agent_id,
            "members": members_of(channel),
            "invites": [{"token": one.token, "instanceId": one.scope} for one in outstanding(channel, self._clock())],
        }
