"""What is fixed for a deployment at its first start: signing domain, currency, and the platform's own signing key."""

import os
import uuid
from datetime import datetime
from pathlib import Path

from agrenting.clock import from_ms, to_ms
from agrenting.config import Settings, SettingsError
from agrenting.db.transaction import Tx, WriterTx
from channels.limits import Market
from crypto import format_secret_key, generate_secret_key, parse_secret_key

PRIVATE_MODE = 0o600
RESTORES = "restores"
"""The row that is there once the database has been restored: when, in milliseconds since 1970, with commas."""


def fix_market(tx: WriterTx, settings: Settings) -> Market:
    """The deployment's market: as it was fixed at the first start, or fixed now.

    Raises:
        SettingsError: A setting says otherwise than what was fixed.
    """
    wanted = {
        "signing_domain": settings.signing_domain,
        "currency": settings.currency,
        "exponent": str(settings.exponent),
    }
    fixed = _fixed(tx)
    if not fixed:
        fixed = {**wanted, "signing_domain": settings.signing_domain or str(uuid.uuid4())}
        for name, value in fixed.items():
            tx.run("INSERT INTO market (name, value) VALUES (:name, :value)", name=name, value=value)
    for name, value in wanted.items():
        if fixed[name] != value and (value or name != "signing_domain"):
            raise SettingsError(f"{name} is {fixed[name]!r} since the first start of this data folder, not {value!r}")
    return _market(fixed, settings)


def known_market(tx: Tx, settings: Settings) -> Market | None:
    """The deployment's market as it was fixed at the first start, whatever the settings say; None before that."""
    fixed = _fixed(tx)
    return _market(fixed, settings) if "currency" in fixed else None


def _fixed(tx: Tx) -> dict[str, str]:
    return {row[0]: row[1] for row in tx.all("SELECT name, value FROM market")}


def _market(fixed: dict[str, str], settings: Settings) -> Market:
    return Market(
        signing_domain=fixed["signing_domain"],
        currency=fixed["currency"],
        exponent=int(fixed["exponent"]),
        fee_bps=settings.fee_bps,
        limits=settings.limits,
        restores=tuple(from_ms(int(text)) for text in fixed[RESTORES].split(",")) if RESTORES in fixed else (),
    )


def note_restored(tx: WriterTx, *, now: datetime) -> None:
    """Note that the database was restored from a backup, of what was once started: clients may know what it does not.

    Source: payment channels, a server behind its clients.
    """
    tx.run(
        "INSERT INTO market (name, value) SELECT :name, :value WHERE EXISTS (SELECT 1 FROM market)"
        " ON CONFLICT (name) DO UPDATE SET value = value || ',' || excluded.value",
        name=RESTORES,
        value=str(to_ms(now)),
    )


def server_key(path: Path) -> bytes:
    """The platform's signing seed: read, or made at the first start, readable by its owner alone."""
    try:
        return parse_secret_key(path.read_text("ascii").strip())
    except FileNotFoundError:
        seed = generate_secret_key()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_MODE)
    with os.fdopen(descriptor, "w") as file:
        file.write(format_secret_key(seed) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return seed
