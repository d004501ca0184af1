"""Know which scratch databases are a rehearsal's own, and drop them, also those of one that was killed.

Their names are in a file beside the rehearsal's report before they are created, and the file goes when they are
gone. A rehearsal writes nothing to the source, so its journal is here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import psycopg

from airflow_migration.exceptions import MigrationError, OwnershipError
from airflow_migration.planning.plan import label_of
from airflow_migration.postgres import databases
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.progress import Listener

FILE = "scratch.json"


class Folder(Protocol):
    """As much of a path as is used, of this machine or of an object store."""

    def __truediv__(self, name: str) -> Any: ...
    def iterdir(self) -> Iterator[Any]: ...
    def exists(self) -> bool: ...
    def mkdir(self, *, parents: bool, exist_ok: bool) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ScratchRecord:
    """What one rehearsal has made, or is about to make.

    :param conn_id: connection to the server
    :param server: host and port that the connection named
    :param databases: in the order in which they are dropped
    """

    rehearsal_id: str
    conn_id: str
    server: str
    databases: tuple[str, ...]

    @property
    def label(self) -> str:
        """Comment on these databases."""
        return label_of(self.rehearsal_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class DropResult:
    """:param dropped: names of the databases that were there
    :param warnings: what had to be left
    """

    dropped: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def write_record(folder: Folder, record: ScratchRecord) -> None:
    """Claim the names, before the first of them is created."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_text(json.dumps(asdict(record)))


def read_record(folder: Folder) -> ScratchRecord | None:
    """What a rehearsal has claimed; None when nothing is left of it."""
    try:
        values = json.loads((folder / FILE).read_text())
        return ScratchRecord(**(values | {"databases": tuple(values["databases"])}))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError):
        return None  # killed while it was written: nothing was created yet


def drop_recorded(folder: Folder, address: DatabaseAddress, listener: Listener) -> DropResult:
    """Drop the databases that the record in a folder names, then the record.

    :param address: any database of the server that the record names
    :raises OwnershipError: one of them is labelled as somebody else's
    """
    record = read_record(folder)
    if record is None:
        return DropResult(dropped=())
    if record.server != address.server:
        raise OwnershipError(
            f'connection "{record.conn_id}" led to {record.server} then, and leads to {address.server} now',
            where=f"scratch databases of {record.rehearsal_id}",
            remedy=f"Drop {' and '.join(record.databases)} there by hand, and remove {folder / FILE}",
        )
    dropped = tuple(name for name in record.databases if drop_own(address, name, record.label, listener))
    (folder / FILE).unlink(missing_ok=True)
    return DropResult(dropped=dropped)


def drop_own(address: DatabaseAddress, name: str, label: str, listener: Listener) -> bool:
    """Drop a database whose name was claimed before it was created.

    One without a label was left by a kill between its creation and the labelling.

    :raises OwnershipError: it has the label of something else
    """
    with address.maintenance().connect(autocommit=True) as conn:
        row = conn.execute(
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s", (name,)
        ).fetchone()
    if row is not None and row[0] not in (None, label):
        raise OwnershipError(
            f'database "{name}" is labelled "{row[0]}", so it is not this rehearsal\'s',
            where=address.server,
            remedy="Rename or remove it by hand",
        )
    return databases.drop_database(address, name, listener)


def sweep(
    root: Folder,
    own: str,
    address_of: Callable[[str], DatabaseAddress],
    listener: Listener,
) -> DropResult:
    """Drop what other rehearsals have left. There is one at a time, so they are dead.

    What cannot be dropped now is named, and left for the next time.

    :param root: folder with one folder for each rehearsal
    :param own: id of the rehearsal that asks
    :param address_of: leads to the server by the connection's id
    """
    dropped: list[str] = []
    warnings: list[str] = []
    for folder in sorted(root.iterdir(), key=str) if root.exists() else ():
        record = read_record(folder)
        if record is None or record.rehearsal_id == own:
            continue
        try:
            gone = drop_recorded(folder, address_of(record.conn_id), listener).dropped
        except (MigrationError, psycopg.Error) as err:
            why = databases.tidy(err, where=record.server) if isinstance(err, psycopg.Error) else err
            warnings.append(f"Scratch databases of {record.rehearsal_id} are left: {why}")
            listener(warnings[-1])
            continue
        dropped.extend(gone)
        listener(f"Rehearsal {record.rehearsal_id} ended without dropping its scratch databases; {len(gone)} dropped")
    return DropResult(dropped=tuple(dropped), warnings=tuple(warnings))
