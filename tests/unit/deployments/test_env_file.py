"""A file of environment variables: one or two lines change, everything else stays, nothing is ever half."""

from __future__ import annotations

import os
import shlex
import signal
import stat
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from airflow_migration.deployments.env_file import EnvFile
from airflow_migration.deployments.settings_file import SettingsRestore
from airflow_migration.exceptions import InvalidInputError
from airflow_migration.secret import Secret

CONN = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
OLD_CONN = "AIRFLOW__CORE__SQL_ALCHEMY_CONN"
BACKEND = "AIRFLOW__CELERY__RESULT_BACKEND"
KEY = "AIRFLOW__CORE__FERNET_KEY"
NEW_KEY = "NGruYyy37OF0S2tre8fC_toNoHN9rWXIrxq2TAcT3zs="

Write = Callable[[str], EnvFile]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def create(text: str) -> EnvFile:
        (tmp_path / "airflow.env").write_bytes(text.encode())
        return EnvFile(str(tmp_path / "airflow.env"))

    return create


def text_of(file: EnvFile) -> str:
    return file.path.read_bytes().decode()


def in_a_shell(file: EnvFile, name: str) -> str:
    script = f'set -a; . {shlex.quote(str(file.path))}; printf %s "${{{name}}}"'
    return subprocess.run(["/bin/sh", "-c", script], check=True, capture_output=True, text=True, env={}).stdout


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A=1\n", "1"),
        ("A=1", "1"),
        ("export A=1\n", "1"),
        ("  export   A='1'\n", "1"),
        ('A="1"\n', "1"),
        ("A=\n", ""),
        ("A=1\nB=2\nA=3\n", "3"),
        ("#A=1\n", None),
        ("AA=1\nA_=2\n", None),
        ("A=x=y=z\n", "x=y=z"),
        ("A=1\r\n", "1"),
        ("", None),
    ],
)
def test_the_last_assignment_counts_as_in_a_shell(write: Write, text: str, value: str | None) -> None:
    assert write(text).get("A") == value


def test_a_change_touches_no_other_line(write: Write) -> None:
    text = (
        f"# a comment\n\n  B = odd\n{KEY}=old\nnot a line at all\nC='x'  # {KEY}=not this one\n\t#{KEY}=nor this\nD=1"
    )
    file = write(text)
    change = file.set_fernet_keys(Secret(NEW_KEY), "t0")
    assert change.changed == (KEY,)
    others = text.replace(f"{KEY}=old\n", "").splitlines()
    assert [line for line in text_of(file).splitlines() if NEW_KEY not in line] == others
    assert EnvFile(str(file.path)).get(KEY) == NEW_KEY


def test_line_ends_stay_as_they_are(write: Write) -> None:
    file = write(f"A=1\r\n{KEY}=old\r\nB=2\r\n")
    file.set_fernet_keys(Secret(NEW_KEY), "t0")
    assert text_of(file).startswith("A=1\r\nB=2\r\n")
    assert restore(file)
    assert text_of(file) == f"A=1\r\n{KEY}=old\r\nB=2\r\n"


def test_every_assignment_of_a_name_gives_way_to_one(write: Write) -> None:
    file = write(f"{KEY}=one\nexport {KEY}='two'\n{KEY}=three\n")
    file.set_fernet_keys(Secret(NEW_KEY), "t0")
    assert text_of(file).count(KEY) == 1
    assert in_a_shell(file, KEY) == NEW_KEY


def test_what_is_exported_stays_exported(write: Write) -> None:
    file = write("export A=1\nexport B=2\n")
    file.set_fernet_keys(Secret(NEW_KEY), "t0")
    assert f"export {KEY}=" in text_of(file)


def test_the_same_change_again_changes_nothing(write: Write) -> None:
    file = write(f"{KEY}=old\n")
    file.set_fernet_keys(Secret(NEW_KEY), "t0")
    before = text_of(file), file.path.stat().st_mtime_ns
    again = EnvFile(str(file.path)).set_fernet_keys(Secret(NEW_KEY), "t0")
    assert again.changed == ()
    assert (text_of(file), file.path.stat().st_mtime_ns) == before


def test_several_keys_are_kept_in_order(write: Write) -> None:
    keys = f"{NEW_KEY},{NEW_KEY[::-1]}"
    file = write("")
    file.set_fernet_keys(Secret(keys), "t0")
    assert EnvFile(str(file.path)).fernet_keys() == Secret(keys)
    assert in_a_shell(file, KEY) == keys


def test_a_backup_is_of_before_the_first_change(write: Write) -> None:
    text = f"{KEY}=old\n{CONN}=postgresql://u@h/one\n"
    file = write(text)
    change = file.set_fernet_keys(Secret(NEW_KEY), "t0")
    EnvFile(str(file.path)).point_to("two", "t0")
    EnvFile(str(file.path)).set_fernet_keys(Secret("another"), "t0")
    assert Path(change.backup).read_text() == text


def restore(file: EnvFile, token: str = "t0") -> SettingsRestore | None:
    """Take back what a migration did that gave NEW_KEY and pointed to two."""
    return EnvFile(str(file.path)).restore(token, keys=Secret(NEW_KEY), database="two", settings={})


def change(file: EnvFile) -> str:
    """What a migration does.

    :returns: path of the backup
    """
    EnvFile(str(file.path)).set_fernet_keys(Secret(NEW_KEY), "t0")
    return EnvFile(str(file.path)).point_to("two", "t0").backup


def test_restore_gives_back_the_very_file_and_can_be_repeated(write: Write) -> None:
    text = f"# top\n{KEY}='old'\r\n\n{CONN}=postgresql://u@h/one"
    file = write(text)
    assert not restore(file)
    backup = change(file)
    assert not restore(file, "another migration")
    done = restore(file)
    assert done
    assert set(done.restored) == {KEY, CONN}
    assert done.left == ()
    assert text_of(file) == text
    assert not Path(backup).exists()
    assert not restore(file)
    assert text_of(file) == text


def test_restore_leaves_the_lines_that_somebody_else_has_added_since(write: Write) -> None:
    file = write(f"export A=1\nexport {KEY}='old'\nexport {CONN}=postgresql://u@h/one\n")
    backup = change(file)
    file.path.write_text(text_of(EnvFile(str(file.path))).replace("A=1", "A=2") + "export B=1")
    done = restore(file)
    assert done
    assert (set(done.restored), done.left) == ({KEY, CONN}, ())
    assert text_of(file) == f"export A=2\nexport B=1\nexport {KEY}='old'\nexport {CONN}=postgresql://u@h/one\n"
    assert not Path(backup).exists()
    assert not restore(file)


def test_restore_takes_away_what_was_not_there(write: Write) -> None:
    file = write("A=1\n")
    change(file)
    assert restore(file)
    assert text_of(file) == "A=1\n"


def test_restore_leaves_a_value_that_somebody_else_has_set_since(write: Write) -> None:
    file = write(f"{KEY}=old\n{CONN}=postgresql://u@h/one\n")
    backup = change(file)
    EnvFile(str(file.path)).set_fernet_keys(Secret("of somebody else"), "t1")
    for restored in ((CONN,), ()):
        done = restore(file)
        assert done
        assert (done.restored, done.left, done.backup) == (restored, (KEY,), backup)
        assert EnvFile(str(file.path)).get(KEY) == "of somebody else"
        assert EnvFile(str(file.path)).connected_database() == "one"
    assert Path(backup).read_text() == f"{KEY}=old\n{CONN}=postgresql://u@h/one\n"


def test_a_restore_that_was_killed_before_it_removed_the_backup_goes_on(write: Write) -> None:
    text = f"{KEY}=old\nA=1\n"
    file = write(text)
    backup = change(file)
    file.path.write_text(f"A=2\n{KEY}=old\n")
    assert restore(file)
    assert text_of(file) == f"A=2\n{KEY}=old\n"
    assert not Path(backup).exists()


def test_two_migrations_have_backups_of_their_own(write: Write) -> None:
    file = write(f"{KEY}=old\n")
    one = file.set_fernet_keys(Secret("first"), "t1").backup
    two = file.set_fernet_keys(Secret("second"), "t2").backup
    assert Path(one).read_text() == f"{KEY}=old\n"
    assert "first" in Path(two).read_text()


def test_rights_are_kept(write: Write) -> None:
    file = write(f"{KEY}=old\n")
    file.path.chmod(0o640)
    change = file.set_fernet_keys(Secret(NEW_KEY), "t0")
    for path in (file.path, Path(change.backup)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_the_owner_is_kept(write: Write) -> None:
    file = write(f"{KEY}=old\n")
    os.chown(file.path, 12345, 23456)
    change = file.set_fernet_keys(Secret(NEW_KEY), "t0")
    for path in (file.path, Path(change.backup)):
        assert (path.stat().st_uid, path.stat().st_gid) == (12345, 23456)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a file of somebody else")
def test_a_file_of_somebody_else_is_refused_because_it_would_become_ours() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "airflow.env"
        path.write_text(f"{KEY}=old\n")
        Path(folder).chmod(0o777)
        path.chmod(0o666)
        try:
            os.seteuid(65534)
            with pytest.raises(InvalidInputError, match="belongs to"):
                EnvFile(str(path))
        finally:
            os.seteuid(0)
        assert [entry.name for entry in Path(folder).iterdir()] == ["airflow.env"]


def test_a_link_stays_a_link(write: Write, tmp_path: Path) -> None:
    file = write(f"{KEY}=old\n")
    link = tmp_path / "elsewhere" / "link.env"
    link.parent.mkdir()
    link.symlink_to(file.path)
    EnvFile(str(link)).set_fernet_keys(Secret(NEW_KEY), "t0")
    assert link.is_symlink()
    assert EnvFile(str(file.path)).get(KEY) == NEW_KEY
    assert restore(EnvFile(str(link)))
    assert link.is_symlink()
    assert text_of(file) == f"{KEY}=old\n"


def test_a_kill_at_any_moment_leaves_a_whole_file(write: Write) -> None:
    """SIGKILL just before the file gets its new content; the backup has been made by then."""
    text = f"# a comment\n{KEY}=old\n"
    file = write(text)
    child = os.fork()
    if child == 0:
        replace, calls = os.replace, iter(range(9))

        def replace_or_die(old: Path, new: Path) -> None:
            if next(calls) == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            replace(old, new)

        os.replace = replace_or_die  # type: ignore[assignment]
        try:
            file.set_fernet_keys(Secret(NEW_KEY), "t0")
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert text_of(file) == text
    again = EnvFile(str(file.path))
    change = again.set_fernet_keys(Secret(NEW_KEY), "t0")
    assert change.changed == (KEY,)
    assert Path(change.backup).read_text() == text
    assert sorted(entry.name for entry in file.path.parent.iterdir()) == ["airflow.env", "airflow.env.before-t0"]


@pytest.mark.parametrize(
    ("url", "present"),
    [
        ("postgresql+psycopg2://u:p@h:5432/one", "one"),
        ("postgresql://u:p%40@h/one?sslmode=require&options=-csearch_path%3Dairflow", "one"),
        ("postgresql://h/one", "one"),
        ("postgresql:///one?host=/var/run", "one"),
        ("postgresql://u:p/w@h/one", "one"),
        ("postgresql://u:p?w#@h/one", "one"),
        ("postgresql://u:it's@h/one", "one"),
        ("postgresql://u:(p)$w!@[::1]:6432/one two", "one two"),
        ("postgresql://u@h/a%20b", "a%20b"),
    ],
)
@pytest.mark.parametrize("database", ["two", 'it\'s "odd" & ü%20$HOME `x`'])
@pytest.mark.parametrize("quotes", ["", '"', "'"])
def test_only_the_database_changes_in_a_connection_string(
    write: Write, url: str, present: str, database: str, quotes: str
) -> None:
    file = write(f"{CONN}={quotes}{url}{quotes}\n")
    assert file.connected_database() == present == make_url(url).database
    change = file.point_to(database, "t0")
    assert change.changed == (CONN,)
    again = EnvFile(str(file.path))
    assert again.connected_database() == database
    # SQLAlchemy takes the name as it is written: 1.3 of Airflow 1.10 up to 2.0 of Airflow 3.3 decode nothing there.
    assert make_url(again.get(CONN) or "") == make_url(url).set(database=database)


def test_what_was_unquoted_stays_so_where_no_shell_needs_more(write: Write) -> None:
    # `docker run --env-file` takes quotes for a part of the value.
    file = write(f"{CONN}=postgresql://u:p(w@h/one\n")
    file.point_to("two", "t0")
    assert text_of(file) == f"{CONN}=postgresql://u:p(w@h/two\n"


@pytest.mark.parametrize("quotes", ['"', "'"])
@pytest.mark.parametrize("database", ["two", "two words & $HOME", "ü `x` \\ !"])
def test_a_shell_reads_what_was_written(write: Write, quotes: str, database: str) -> None:
    file = write(f"{CONN}={quotes}postgresql://u:p&w@h/one{quotes}\n")
    file.point_to(database, "t0")
    assert in_a_shell(file, CONN) == f"postgresql://u:p&w@h/{database}"


def test_all_places_that_name_the_database_follow(write: Write) -> None:
    file = write(
        f"{OLD_CONN}=postgresql://u@h/one\n{CONN}=postgresql://u@h/one\n{BACKEND}=db+postgresql://u@h:5432/one\n"
    )
    assert set(file.point_to("two", "t0").changed) == {CONN, OLD_CONN, BACKEND}
    assert file.get(BACKEND) == "db+postgresql://u@h:5432/two"


@pytest.mark.parametrize("backend", ["db+postgresql://u@h/results", "db+postgresql://u@elsewhere/one", "redis://h/0"])
def test_a_result_backend_of_its_own_stays(write: Write, backend: str) -> None:
    file = write(f"{CONN}=postgresql://u@h/one\n{BACKEND}={backend}\n")
    assert file.point_to("two", "t0").changed == (CONN,)
    assert file.get(BACKEND) == backend


def test_pointing_to_the_same_database_changes_nothing(write: Write) -> None:
    file = write(f"{CONN}=postgresql://u@h/one\n")
    assert file.point_to("one", "t0").changed == ()
    assert text_of(file) == f"{CONN}=postgresql://u@h/one\n"


def test_a_file_without_a_connection_string_is_left_alone(write: Write) -> None:
    file = write("A=1\n")
    assert file.connected_database() is None
    assert file.point_to("two", "t0").changed == ()
    assert text_of(file) == "A=1\n"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"nowhere\.env"):
        EnvFile(str(tmp_path / "nowhere.env"))


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.env").write_bytes(b"A=\xff\xfe\n")
    with pytest.raises(InvalidInputError, match="UTF-8"):
        EnvFile(str(tmp_path / "x.env"))


def test_no_secret_is_in_a_result(write: Write) -> None:
    file = write(f"{CONN}=postgresql://u:hidden@h/one\n{KEY}=hidden\n")
    changes = file.set_fernet_keys(Secret(NEW_KEY), "t0"), file.point_to("two", "t0")
    assert "hidden" not in str(changes)
    assert NEW_KEY not in str(changes)


def test_settings_are_set_beside_other_changes_and_all_are_undone_together(write: Write) -> None:
    text = f"{KEY}=x\n{CONN}=postgresql://u:p@h/old\nAIRFLOW__SCHEDULER__CREATE_CRON_DATA_INTERVALS=False\nA=1\n"
    file = write(text)
    settings = {"AIRFLOW__SCHEDULER__CREATE_CRON_DATA_INTERVALS": "True", "B": "True"}
    file.point_to("new", "t0")
    assert file.set_settings(settings, "t0").changed == tuple(settings)
    again = EnvFile(str(file.path))
    assert {name: again.get(name) for name in settings} == settings
    assert again.connected_database() == "new"
    assert again.set_settings(settings, "t0").changed == ()
    assert again.set_settings({}, "t0").changed == ()
    assert again.restore("t0", keys=Secret("x"), database="new", settings=settings)
    assert text_of(file) == text
