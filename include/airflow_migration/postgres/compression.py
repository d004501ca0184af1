"""Decide how a dump is compressed: only where that costs no time, or where it would not fit otherwise.

The rows cross both links as they are: pg_dump compresses after they have come, pg_restore decompresses before it
sends them. So compression saves room and writing, and may cost processor time; behind a slow link that time is free.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from airflow_migration.exceptions import InvalidInputError
from airflow_migration.progress import amount

NONE = "none"
MEGABYTE = 1_000_000
RATES = {"zstd": 200 * MEGABYTE, "gzip": 60 * MEGABYTE, "lz4": 400 * MEGABYTE}
"""Method, the one that packs best first → bytes that one core packs in a second. Careful figures: on an Airflow
database of 128 MB pg_dump 17 needed 0.16 s of processor time for lz4, 0.18 s for zstd and 0.45 s for gzip, all at
level 1, with results of 12.5 %, 3.8 % and 8.1 % of what it writes without (two cores)."""
LEVEL = 1
HEADROOM = 4
"""A method costs no time when a core packs so many times faster than the rows come."""
SMALL = 16 * MEGABYTE
TEXT_FACTOR = 1.2
"""Bytes of an uncompressed dump for each byte of the tables (measured: 1.09); binary values take two digits each."""
PACKED_SHARE = 0.1
"""No Airflow database is known to pack better than this with any certainty; less room than that is never enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compression:
    """:param method: ``none``, ``gzip``, ``lz4`` or ``zstd``
    :param level: 0 with ``none``
    :param reason: in words
    :param link_bytes_per_second: from the server to here; None where it was not measured
    :param folder_bytes_per_second: into the dump's folder
    """

    method: str
    level: int
    reason: str
    link_bytes_per_second: int | None = None
    folder_bytes_per_second: int | None = None

    def argument(self, pg_dump_major: int) -> str:
        """For pg_dump, which names methods from 16 on."""
        if self.method == NONE:
            return "--compress=0"
        if pg_dump_major < 16:
            return f"--compress={self.level}"
        return f"--compress={self.method}:{self.level}"


def choose_compression(
    *, table_bytes: int, free_bytes: int, link: int | None, folder: int | None, methods: Collection[str]
) -> Compression:
    """:param table_bytes: of what is dumped, without indexes
    :param free_bytes: in the dump's folder
    :param link: bytes a second from the server to here; None where it was not measured, as with a small database
    :param folder: bytes a second into the folder
    :param methods: that both programs know
    :raises InvalidInputError: the dump does not fit, however it is packed
    """
    require_room(table_bytes, free_bytes)

    def made(method: str, reason: str) -> Compression:
        level = 0 if method == NONE else LEVEL
        return Compression(
            method=method, level=level, reason=reason, link_bytes_per_second=link, folder_bytes_per_second=folder
        )

    usable = [method for method in RATES if method in methods]
    if table_bytes * TEXT_FACTOR > free_bytes and usable:
        return made(usable[0], f"only {amount(free_bytes, 'bytes')} are free in the dump's folder")
    if link is None or folder is None:
        return made(NONE, f"the tables have only {amount(table_bytes, 'bytes')}")
    slower = min(link, folder)
    what = f"{'the link' if link <= folder else 'the folder'} takes {amount(slower, 'bytes')}/s"
    for method in usable:
        if slower * HEADROOM <= RATES[method]:
            return made(method, f"{what}, so that packing costs no time")
    return made(NONE, f"{what}, faster than it could be packed beside it")


def require_room(table_bytes: int, free_bytes: int) -> None:
    """:raises InvalidInputError: a dump does not fit, however it is packed"""
    if free_bytes < table_bytes * PACKED_SHARE:
        raise InvalidInputError(
            f"{amount(free_bytes, 'bytes')} are free, a dump of tables of {amount(table_bytes, 'bytes')} needs up to"
            f" {amount(round(table_bytes * TEXT_FACTOR), 'bytes')}",
            where="folder of the dumps",
            remedy="Make room, or name another folder in [airflow_migration] dumps_path",
        )
