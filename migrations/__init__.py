"""Alembic migrations: forward and back, run by `agrenting serve` and every command that opens a database."""
