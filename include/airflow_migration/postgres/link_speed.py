"""Measure in a second or two how fast bytes come from a server, and how fast they go into a folder."""

from __future__ import annotations

import os
import time
from pathlib import Path

from psycopg import sql

from airflow_migration.postgres.address import DatabaseAddress

SAMPLES = (256_000, 1_024_000, 4_096_000, 16_384_000)
"""Bytes of one sample after the other."""
SECONDS = 0.3
"""A sample that takes so long is long enough."""
LINE = 32_000
WRITTEN_BYTES = 16_000_000

# Text that no tunnel packs, made once: the server's processor is not what is measured.
_SAMPLE = sql.SQL("""
COPY (SELECT line
        FROM (SELECT string_agg(md5(random()::text || n), '') AS line FROM generate_series(1, {parts}) n) once,
             generate_series(1, {lines}))
  TO STDOUT
""")


def measure_link(address: DatabaseAddress) -> int:
    """Bytes a second from the server to here, of a sample that is the larger the faster the link is."""
    with address.connect(autocommit=True) as conn:
        for size in SAMPLES:
            query = _SAMPLE.format(parts=LINE // 32, lines=size // LINE)
            began = time.monotonic()
            with conn.cursor().copy(query) as sample:
                arrived = sum(len(block) for block in sample)
            seconds = time.monotonic() - began
            if seconds > SECONDS:
                break
    return round(arrived / seconds)


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
