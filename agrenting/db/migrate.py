"""Migrations, run before anything else opens the database."""

import sqlite3
from contextlib import closing
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.pool import NullPool

import migrations

PRIVATE_MODE = 0o600


class SchemaError(Exception):
    """The database cannot be brought to a schema: it is of a newer program, or would lose money. It is as it was."""


def migrate(path: Path, revision: str = "head") -> None:
    """Bring a database file to a revision, forward; a new file is made, readable by its owner alone.

    One that is there already, and up to date, is only read: who opens it waits for nobody who writes.

    Raises:
        SchemaError: The file's schema is newer than this program.
    """
    path.touch(mode=PRIVATE_MODE, exist_ok=True)
    if revision == "head" and _is_newest(path):
        return
    engine = _engine(path)
    try:
        _require_known(engine, path)
        _run(engine, revision, forward=True)
    finally:
        engine.dispose()


def go_back(path: Path, revision: str) -> None:
    """Bring a database file back to an earlier revision; `base` empties it.

    Raises:
        SchemaError: A migration on the way back refused, because something would be lost that must not be.
    """
    engine = _engine(path)
    try:
        _run(engine, revision, forward=False)
    except RuntimeError as error:
        raise SchemaError(f"{path} stays as it is: {error}.") from error
    finally:
        engine.dispose()


def _engine(path: Path) -> Engine:
    """An engine whose transactions hold everything, tables too: Python's driver itself begins none for those."""
    engine = create_engine(URL.create("sqlite", database=str(path)), poolclass=NullPool)
    event.listen(engine, "connect", _leave_transactions_alone)
    event.listen(engine, "begin", _begin)
    return engine


def _leave_transactions_alone(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.set_main_option("path_separator", "os")
    return config


def _is_newest(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        try:
            present = connection.execute("SELECT version_num FROM alembic_version").fetchall()
        except sqlite3.DatabaseError:  # It is new, or cannot be read: the migration itself sees to it, or says why not.
            return False
    return [row[0] for row in present] == ScriptDirectory.from_config(_config()).get_heads()


def _require_known(engine: Engine, path: Path) -> None:
    with engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return
        present = connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
    scripts = ScriptDirectory.from_config(_config())
    for revision in present:
        try:
            scripts.get_revision(revision)
        except CommandError as error:
            raise SchemaError(
                f"{path} has schema {revision}, which this program does not know: it was written by a newer one."
                " Install that version, or restore a backup made before the upgrade."
            ) from error


def _run(engine: Engine, revision: str, *, forward: bool) -> None:
    config = _config()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        (command.upgrade if forward else command.downgrade)(config, revision)
