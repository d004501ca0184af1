"""How a dump is packed: by what the link, the folder and the room in it allow."""

from __future__ import annotations

import pytest

from airflow_migration.exceptions import InvalidInputError
from airflow_migration.postgres.compression import MEGABYTE, Compression, choose_compression
from airflow_migration.postgres.dump import portable_encoding
from airflow_migration.postgres.jobs import choose_jobs

ALL = frozenset({"gzip", "lz4", "zstd"})
PLENTY = 10**12


@pytest.mark.parametrize(
    ("link", "folder", "methods", "expected"),
    [
        (1000, 1000, ALL, "none"),
        (101, 1000, ALL, "none"),
        (100, 1000, ALL, "lz4"),
        (51, 1000, ALL, "lz4"),
        (50, 1000, ALL, "zstd"),
        (1, 1000, ALL, "zstd"),
        (1000, 1, ALL, "zstd"),
        (50, 1000, {"gzip"}, "none"),
        (15, 1000, {"gzip"}, "gzip"),
        (15, 1000, {"gzip", "lz4"}, "gzip"),
        (16, 1000, {"gzip", "lz4"}, "lz4"),
        (1, 1, frozenset(), "none"),
    ],
)
def test_packed_only_where_that_costs_no_time(link: int, folder: int, methods: frozenset[str], expected: str) -> None:
    chosen = choose_compression(
        table_bytes=10**9,
        free_bytes=PLENTY,
        link=link * MEGABYTE,
        folder=folder * MEGABYTE,
        methods=methods,
    )
    assert chosen.method == expected
    assert (chosen.link_bytes_per_second, chosen.folder_bytes_per_second) == (link * MEGABYTE, folder * MEGABYTE)
    assert ("the link" in chosen.reason) == (link <= folder)


@pytest.mark.parametrize(("methods", "expected"), [(ALL, "zstd"), ({"gzip", "lz4"}, "gzip"), (frozenset(), "none")])
def test_packed_where_it_would_not_fit(methods: frozenset[str], expected: str) -> None:
    fast = 10**9
    chosen = choose_compression(table_bytes=10**9, free_bytes=10**9, link=fast, folder=fast, methods=methods)
    assert chosen.method == expected


def test_a_small_database_is_not_measured_and_not_packed() -> None:
    assert choose_compression(table_bytes=10**6, free_bytes=PLENTY, link=None, folder=None, methods=ALL).level == 0


def test_no_room_at_all_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"1\.2 GB") as caught:
        choose_compression(table_bytes=10**9, free_bytes=10**7, link=1, folder=1, methods=ALL)
    assert "dumps_path" in caught.value.remedy


@pytest.mark.parametrize(
    ("method", "level", "major", "expected"),
    [
        ("none", 0, 15, "--compress=0"),
        ("none", 0, 17, "--compress=0"),
        ("gzip", 1, 15, "--compress=1"),
        ("gzip", 1, 16, "--compress=gzip:1"),
        ("zstd", 1, 17, "--compress=zstd:1"),
    ],
)
def test_the_argument_is_one_that_the_release_knows(method: str, level: int, major: int, expected: str) -> None:
    assert Compression(method=method, level=level, reason="").argument(major) == expected


@pytest.mark.parametrize(
    ("cores", "sizes", "expected"),
    [(4, [], 1), (4, [10], 1), (4, [10, 1], 2), (4, [10] * 9, 4), (64, [10] * 99, 8), (1, [10, 10], 1), (2, [0, 0], 1)],
)
def test_as_many_jobs_as_can_share_the_work(cores: int, sizes: list[int], expected: int) -> None:
    assert choose_jobs(cores, sizes) == expected


@pytest.mark.parametrize(
    ("encoding", "expected"), [("UTF8", "UTF8"), ("LATIN1", "UTF8"), ("WIN1252", "UTF8"), ("SQL_ASCII", "SQL_ASCII")]
)
def test_text_becomes_utf8_where_postgres_converts_it(encoding: str, expected: str) -> None:
    assert portable_encoding(encoding) == expected
