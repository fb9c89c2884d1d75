"""Migrations: forward, back, repeated, from a newer program, and held against the tables that the code describes."""

import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import TextClause, create_engine
from sqlalchemy.dialects import sqlite
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateIndex

from agrenting.db.migrate import SchemaError, go_back, migrate
from agrenting.db.tables import metadata

BY_EXPRESSION = {
    str(index.name): index
    for table in metadata.sorted_tables
    for index in table.indexes
    if any(isinstance(expression, TextClause) for expression in index.expressions)
}


def tables_of(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as database:
        return {row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def test_migrations_make_what_the_code_describes(tmp_path: Path) -> None:
    path = tmp_path / "market.sqlite3"
    migrate(path)
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)

    def is_compared(_object: Any, name: str | None, kind: str, *_: Any) -> bool:
        """All but the full text index, which is no table of ours, and indexes over expressions, compared below."""
        return not (kind == "table" and str(name).startswith("agents_text")) and name not in BY_EXPRESSION

    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": is_compared, "compare_type": True})
        differences = compare_metadata(context, metadata)
    engine.dispose()

    assert differences == []
    with closing(sqlite3.connect(path)) as database:
        made = dict(database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index'").fetchall())
    for name, index in BY_EXPRESSION.items():
        described = str(CreateIndex(index).compile(dialect=sqlite.dialect()))
        assert made[name].split() == described.split()


def test_a_new_file_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "market.sqlite3"
    migrate(path)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_migrating_again_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "market.sqlite3"
    migrate(path)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("INSERT INTO market (name, value) VALUES ('kept', 'x')")
    migrate(path)

    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT name FROM market").fetchall() == [("kept",)]


def test_back_to_the_base_empties_the_file_and_forward_fills_it_again(tmp_path: Path) -> None:
    path = tmp_path / "market.sqlite3"
    migrate(path)
    before = tables_of(path)
    go_back(path, "base")
    assert tables_of(path) <= {"alembic_version", "sqlite_sequence"}
    migrate(path)
    assert tables_of(path) == before
    assert {table.name for table in metadata.sorted_tables} <= before


def test_a_file_of_a_newer_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "market.sqlite3"
    migrate(path)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    before = path.read_bytes()

    with pytest.raises(SchemaError, match="9999"):
        migrate(path)

    assert path.read_bytes() == before
