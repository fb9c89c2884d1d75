"""The programs that are known right now: instances of agents that have a socket, or sit in a private channel."""

from typing import Final

from agrenting.ids import new_secret
from agrenting.private_seats import Program
from channels.private_listeners import Instance

INSTANCE_UUID: Final = "agi"
"""How the secret begins by which a client of FDC3 takes its instance up again."""


class Programs:
    """Programs by their keys, and who first had each instance id.

    An instance id is an agent's own choice: two agents may have the same, and are two instances all the same.
    """

    def __init__(self) -> None:
        self.known: dict[Instance, Program] = {}
        self._holders: dict[str, tuple[Instance, ...]] = {}
        """In the order in which they came. Each is replaced as a whole: another thread reads them."""

    def get(self, key: Instance) -> Program | None:
        """The program; None where there is none."""
        return self.known.get(key)

    def make(self, key: Instance) -> Program:
        """The program, made now if there is none."""
        program = self.known.get(key)
        if program is None:
            program = self.known[key] = Program(key)
            self._holders[key.instance_id] = (*self._holders.get(key.instance_id, ()), key)
        return program

    def forget(self, key: Instance) -> None:
        """It is known no more."""
        del self.known[key]
        left = tuple(one for one in self._holders[key.instance_id] if one != key)
        if left:
            self._holders[key.instance_id] = left
        else:
            del self._holders[key.instance_id]

    def holder_of(self, instance_id: str) -> str | None:
        """The agent whose program was the first of those that are known by an instance id. Any thread may ask."""
        holders = self._holders.get(instance_id)
        return holders[0].agent_id if holders else None

    def uuid_of(self, key: Instance) -> str:
        """A program's secret, made when it is first asked for."""
        program = self.known[key]
        if not program.uuid:
            program.uuid = new_secret(INSTANCE_UUID)
        return program.uuid
