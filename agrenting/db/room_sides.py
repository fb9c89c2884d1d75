"""Who takes part in which room: a row for each participant, so that one's rooms are found without a look at others."""

from typing import Final

from agrenting.db.transaction import Tx, WriterTx
from channels.room_state import Room, RoomStatus

_TAKING_PART: Final = """
SELECT r.id, json_extract(p.value, '$.id') AS entity_id, json_extract(r.state, '$.maker_user_id')
FROM rooms r, json_each(r.state, '$.participants') p
WHERE r.status = 'open'
"""


def doctor(tx: Tx) -> list[str]:
    """Every difference between rooms and the rows of their participants; none is good."""
    listed = "SELECT room_id, entity_id, maker_user_id FROM room_sides"
    missing, wrong = tx.all(f"{_TAKING_PART} EXCEPT {listed}"), tx.all(f"{listed} EXCEPT {_TAKING_PART}")
    made = tx.all("SELECT id FROM rooms WHERE maker_user_id <> json_extract(state, '$.maker_user_id')")
    return [
        *(f"room {room} has {one}, who does not find it" for room, one, _ in missing),
        *(f"{one} finds room {room}, and is not in it" for room, one, _ in wrong),
        *(f"room {room} counts for another house than the one that has made it" for (room,) in made),
    ]


def index(tx: WriterTx, room: Room) -> None:
    """Bring the rows up to who takes part now."""
    before = set(entities_of(tx, room.id))
    after = {one.id for one in room.participants} if room.status is RoomStatus.OPEN else set[str]()
    for entity_id in sorted(before - after):
        tx.run(
            "DELETE FROM room_sides WHERE entity_id = :entity_id AND room_id = :room_id",
            entity_id=entity_id,
            room_id=room.id,
        )
    for entity_id in sorted(after - before):
        tx.run(
            "INSERT INTO room_sides (entity_id, room_id, maker_user_id) VALUES (:entity_id, :room_id, :maker_user_id)",
            entity_id=entity_id,
            room_id=room.id,
            maker_user_id=room.maker_user_id,
        )


def entities_of(tx: Tx, room_id: str) -> list[str]:
    """The agents and users of a room."""
    return [row[0] for row in tx.all("SELECT entity_id FROM room_sides WHERE room_id = :room_id", room_id=room_id)]


def rooms_of(tx: Tx, entity_id: str) -> list[str]:
    """The rooms that an agent or a user takes part in."""
    return [row[0] for row in tx.all("SELECT room_id FROM room_sides WHERE entity_id = :id", id=entity_id)]


def count_made(tx: Tx, user_id: str) -> int:
    """How many rooms are there that a user and its agents have made."""
    row = tx.one("SELECT count(*) FROM rooms WHERE maker_user_id = :id AND status = 'open'", id=user_id)
    assert row is not None, "a count always answers"
    count: int = row[0]
    return count


def count_shared(tx: Tx, entity_id: str, *, maker_user_id: str) -> int:
    """In how many of the rooms that a user and its agents have made an entity takes part."""
    row = tx.one(
        "SELECT count(*) FROM room_sides WHERE entity_id = :entity_id AND maker_user_id = :maker_user_id",
        entity_id=entity_id,
        maker_user_id=maker_user_id,
    )
    assert row is not None, "a count always answers"
    count: int = row[0]
    return count
