"""A dump says of itself what it is, and every way in which it is not whole is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_migration.postgres.compression import Compression
from airflow_migration.postgres.manifest import (
    NAME,
    DamagedDumpError,
    Manifest,
    describe_files,
    read_manifest,
    verify_dump,
    write_manifest,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("toc.dat", "3001.dat", "3002.dat.gz"):
        (tmp_path / name).write_bytes(name.encode() * 1000)
    return tmp_path


def manifest_of(folder: Path) -> Manifest:
    files = describe_files(folder, 2)
    return Manifest(
        about={"migration": "manual__Ü"},
        database="airflow",
        server_version="15.18",
        encoding="UTF8",
        database_encoding="LATIN1",
        locale="libc C",
        pg_dump="17.10",
        compression=Compression(method="gzip", level=1, reason="a slow link", link_bytes_per_second=1000),
        jobs=2,
        created_at="2026-11-26T10:00:00+00:00",
        seconds=1.5,
        table_bytes=123,
        tables=2,
        bytes=sum(file.bytes for file in files),
        files=files,
    )


def test_what_was_written_is_read(folder: Path) -> None:
    written = manifest_of(folder)
    write_manifest(folder, written)
    assert read_manifest(folder) == verify_dump(folder, 2) == written
    assert [file.name for file in written.files] == ["3001.dat", "3002.dat.gz", "toc.dat"]
    assert (folder / NAME).stat().st_mode & 0o077 == 0
    assert not list(folder.glob("*.new"))


def test_a_dump_without_a_manifest_is_unfinished(folder: Path) -> None:
    with pytest.raises(DamagedDumpError, match="never finished"):
        verify_dump(folder, 2)


def tear(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def change(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("harm", [tear, change, Path.unlink])
@pytest.mark.parametrize("name", ["toc.dat", "3001.dat", "3002.dat.gz"])
def test_a_file_that_is_not_what_was_written_is_named(folder: Path, harm: Callable[[Path], None], name: str) -> None:
    write_manifest(folder, manifest_of(folder))
    harm(folder / name)
    with pytest.raises(DamagedDumpError, match=name.replace(".", r"\.")):
        verify_dump(folder, 2)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format_version": 1}', '{"format_version": 1, "files": 3}'])
def test_a_manifest_that_cannot_be_read_is_damage(folder: Path, text: str) -> None:
    (folder / NAME).write_text(text)
    with pytest.raises(DamagedDumpError, match=NAME):
        read_manifest(folder)


def test_a_manifest_of_a_later_format_is_not_guessed_at(folder: Path) -> None:
    write_manifest(folder, manifest_of(folder))
    data = json.loads((folder / NAME).read_text())
    (folder / NAME).write_text(json.dumps(data | {"format_version": 2}))
    with pytest.raises(DamagedDumpError, match="format version 2"):
        read_manifest(folder)
