"""Measure in a second or two how fast bytes come from a server, and how fast they go into a folder."""

from __future__ import annotations

import os
import time
from pathlib import Path

import psycopg
from psycopg import sql

from airflow_migration.postgres.address import DatabaseAddress

SAMPLE_BYTES = 32_000_000
SECONDS = 1.5
LINE = 32_000
WRITTEN_BYTES = 16_000_000

# Text that no tunnel packs, made once: the server's processor is not what is measured.
_SAMPLE = sql.SQL("""
COPY (SELECT line
        FROM (SELECT string_agg(md5(random()::text || n), '') AS line FROM generate_series(1, {parts}) n) once,
             generate_series(1, {lines}))
  TO STDOUT
""").format(parts=LINE // 32, lines=SAMPLE_BYTES // LINE)


def measure_link(address: DatabaseAddress) -> int:
    """Bytes a second from the server to here; at most `SECONDS` and `SAMPLE_BYTES` are spent on it.

    The first block is not counted: it waits for the server to begin.
    """
    with address.connect(autocommit=True) as conn:
        arrived, began, now = 0, 0.0, 0.0
        try:
            with conn.cursor().copy(_SAMPLE) as sample:
                for block in sample:
                    now = time.monotonic()
                    if not began:
                        began = now
                        continue
                    arrived += len(block)
                    if now - began > SECONDS:
                        conn.cancel()
                        break
        except psycopg.errors.QueryCanceled:  # our own
            conn.rollback()
    return round(arrived / max(now - began, 1e-6))


def measure_folder(folder: Path) -> int:
    """Bytes a second into a folder, down to its disk."""
    path = folder / "speed"
    block = os.urandom(1_000_000)
    began = time.monotonic()
    try:
        with path.open("wb") as file:
            for _ in range(WRITTEN_BYTES // len(block)):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
    finally:
        path.unlink(missing_ok=True)
    return round(WRITTEN_BYTES / max(time.monotonic() - began, 1e-6))
