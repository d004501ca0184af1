"""Say of a dump what it is and that it is whole: a manifest with size and SHA-256 of every file, written last."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from airflow_migration.exceptions import MigrationError
from airflow_migration.postgres.compression import Compression

NAME = "manifest.json"
FORMAT_VERSION = 1
BLOCK = 1 << 20


class DamagedDumpError(MigrationError):
    """A dump is not what its manifest says, or has none; it must be made anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DumpFile:
    """:param sha256: in hexadecimal digits
    :param table: whose rows it holds, where a dump is of rows alone; else None
    :param columns: of these rows, in their order
    """

    name: str
    bytes: int
    sha256: str
    table: str | None = None
    columns: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> DumpFile:
        return cls(**{**data, "columns": tuple(data.get("columns", ()))})


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a person needs to know to restore a dump years later; plain JSON, no secret in it.

    :param about: whose data these are: migration, source, release, alembic head
    :param database: that was dumped
    :param server_version: of its server, ``15.18``
    :param encoding: of the text in the files
    :param database_encoding: of the database
    :param locale: its collation and character classes, as CREATE DATABASE names them
    :param pg_dump: release of the program; a pg_restore that is not older reads the dump
    :param created_at: ISO 8601, UTC
    :param table_bytes: of the tables on the server, without indexes
    :param tables: files with rows
    :param bytes: of all files together
    """

    about: Mapping[str, str]
    database: str
    server_version: str
    encoding: str
    database_encoding: str
    locale: str
    pg_dump: str
    compression: Compression
    jobs: int
    created_at: str
    seconds: float
    table_bytes: int
    tables: int
    bytes: int
    files: tuple[DumpFile, ...]
    format_version: int = FORMAT_VERSION

    @property
    def parts(self) -> tuple[DumpFile, ...]:
        """Of rows alone, the files that hold them; a partitioned table has several."""
        return tuple(file for file in self.files if file.table is not None)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Manifest:
        files = tuple(DumpFile.from_json(each) for each in data["files"])
        return cls(**{**data, "files": files, "compression": Compression(**data["compression"])})


def describe_files(folder: Path, threads: int) -> tuple[DumpFile, ...]:
    """Size and digest of each file of a dump, by name; the manifest is none of them."""
    paths = sorted(path for path in folder.iterdir() if path.is_file() and path.name != NAME)
    with ThreadPoolExecutor(threads) as pool:
        return tuple(pool.map(_describe, paths))


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Put it into the dump's directory, where pg_restore passes over it; whole or not at all."""
    unfinished = folder / f"{NAME}.new"
    unfinished.touch(mode=0o600)
    with unfinished.open("w", encoding="utf-8") as file:
        json.dump(asdict(manifest), file, indent=2, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(folder / NAME)


def read_manifest(folder: Path) -> Manifest:
    """:raises DamagedDumpError: there is none, or none that this release can read"""
    try:
        data = json.loads((folder / NAME).read_text(encoding="utf-8"))
        version = data["format_version"]
        if version == FORMAT_VERSION:
            return Manifest.from_json(data)
    except FileNotFoundError:
        raise damaged(folder, f"it has no {NAME}, so it was never finished") from None
    except (ValueError, KeyError, TypeError):
        raise damaged(folder, f"its {NAME} cannot be read") from None
    raise damaged(folder, f"its {NAME} has format version {version}, known is {FORMAT_VERSION}")


def verify_dump(folder: Path, threads: int) -> Manifest:
    """Read the whole dump and compare it with its manifest.

    :raises DamagedDumpError: a file is missing, torn or changed; it is named
    """
    manifest = read_manifest(folder)
    for file in manifest.files:
        try:
            size = (folder / file.name).stat().st_size
        except FileNotFoundError:
            raise damaged(folder, f"{file.name} is missing") from None
        if size != file.bytes:
            raise damaged(folder, f"{file.name} has {size} bytes, when it was written it had {file.bytes}")
    with ThreadPoolExecutor(threads) as pool:
        found = pool.map(_describe, [folder / file.name for file in manifest.files])
        for file, now in zip(manifest.files, found, strict=True):
            if now.sha256 != file.sha256:
                raise damaged(folder, f"{file.name} is not what was written: its SHA-256 differs")
    return manifest


def _describe(path: Path) -> DumpFile:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            size += len(block)
    return DumpFile(name=path.name, bytes=size, sha256=digest.hexdigest())


def damaged(folder: Path, problem: str) -> DamagedDumpError:
    """The error that says so."""
    return DamagedDumpError(problem, where=f"dump {folder}", remedy="Clear dump_database, so that it is made anew")
