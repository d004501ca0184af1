"""An airflow.cfg: one or two options change, everything else stays byte by byte, and Airflow reads it so."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from airflow.configuration import AirflowConfigParser
from airflow.configuration import conf as control_settings
from sqlalchemy.engine import make_url

from airflow_migration.deployments.airflow_cfg import AirflowCfg
from airflow_migration.deployments.control import control_of
from airflow_migration.deployments.deployment import Deployment
from airflow_migration.exceptions import InvalidInputError
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.secret import Secret

KEY, CONN = "AIRFLOW__CORE__FERNET_KEY", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
OLD_CONN, BACKEND = "AIRFLOW__CORE__SQL_ALCHEMY_CONN", "AIRFLOW__CELERY__RESULT_BACKEND"
NEW_KEY = "NGruYyy37OF0S2tre8fC_toNoHN9rWXIrxq2TAcT3zs="
ODD = 'it\'s "odd" & ü%20%(x)s $ `y` = ; #'

WHOLE = """\
# Airflow of the data team
; two ways to comment

[core]
dags_folder = /opt/airflow/dags
# The key of 2019
fernet_key = old # no comment here
executor=CeleryExecutor
hostname_callable:
    airflow.utils.net.getfqdn
[database]
    ; deeper
    sql_alchemy_conn = postgresql+psycopg2://u:p%%40w@h/one?sslmode=require
    sql_alchemy_schema =

[celery]
result_backend : db+postgresql://u:p%%40w@h:5432/one
[smtp]
fernet_key = not this one
"""

Write = Callable[[str], AirflowCfg]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def create(text: str) -> AirflowCfg:
        (tmp_path / "airflow.cfg").write_bytes(text.encode())
        return AirflowCfg(str(tmp_path / "airflow.cfg"))

    return create


def text_of(file: AirflowCfg) -> str:
    return file.path.read_bytes().decode()


def in_airflow(file: AirflowCfg, section: str, option: str) -> str:
    """What Airflow itself reads there."""
    parser = AirflowConfigParser()
    parser.read(file.path)
    return str(parser.get(section, option))


def test_only_the_key_s_line_changes(write: Write) -> None:
    file = write(WHOLE)
    change = file.set_fernet_keys(Secret(NEW_KEY), "t0")
    assert change.changed == (KEY,)
    assert text_of(file) == WHOLE.replace("fernet_key = old # no comment here", f"fernet_key = {NEW_KEY}")
    assert in_airflow(file, "core", "fernet_key") == NEW_KEY
    assert AirflowCfg(str(file.path)).fernet_keys() == Secret(NEW_KEY)


def test_only_the_databases_change_in_connection_string_and_backend(write: Write) -> None:
    file = write(WHOLE)
    assert file.connected_database() == "one"
    assert set(file.point_to("two", "t0").changed) == {CONN, BACKEND}
    assert text_of(file) == WHOLE.replace("@h/one?", "@h/two?").replace("5432/one", "5432/two")


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("keys", [NEW_KEY, f"{NEW_KEY},{NEW_KEY[::-1]}"])
def test_line_ends_stay_and_restore_gives_back_the_very_file(write: Write, line_end: str, keys: str) -> None:
    text = WHOLE.replace("\n", line_end)
    file = write(text)
    file.path.chmod(0o640)
    change = file.set_fernet_keys(Secret(keys), "t0")
    file.point_to("two", "t0")
    assert text_of(file).count("\n") == text.count("\n")
    assert text_of(file).count(line_end) == text.count(line_end)
    assert Path(change.backup).read_bytes().decode() == text
    assert {stat.S_IMODE(path.stat().st_mode) for path in (file.path, Path(change.backup))} == {0o640}
    assert file.restore("t0", keys=Secret(keys), database="two", settings={})
    assert text_of(file) == text
    assert not file.restore("t0", keys=Secret(keys), database="two", settings={})


@pytest.mark.parametrize(
    "url",
    ["postgresql://u:p%%40@h/one?options=-csearch_path%%3Da", "postgresql:///one?host=/run", "postgresql://h/a%%20b"],
)
@pytest.mark.parametrize("database", ["two", ODD, "100%"])
def test_airflow_reads_the_database_s_name_as_it_is(write: Write, url: str, database: str) -> None:
    file = write(f"[database]\nsql_alchemy_conn={url}\n")
    before = make_url(in_airflow(file, "database", "sql_alchemy_conn"))
    assert file.connected_database() == before.database
    file.check(database)
    file.point_to(database, "t0")
    assert make_url(in_airflow(file, "database", "sql_alchemy_conn")) == before.set(database=database)
    assert file.connected_database() == database


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[core]\nexecutor = x\n\n[database]\n", "[core]\nexecutor = x\nfernet_key = K\n\n[database]\n"),
        ("[core]\n[database]\n", "[core]\nfernet_key = K\n[database]\n"),
        ("[core]\n  a = 1\n  b =\n    2\n[x]\n", "[core]\n  a = 1\n  b =\n    2\n  fernet_key = K\n[x]\n"),
        ("[core]\na = 1\n# fernet_key = \n\nb = 2\n", "[core]\na = 1\n# fernet_key = \nfernet_key = K\n\nb = 2\n"),
        ("[core]\na =\n  1\n  #fernet_key = x\n  2\n", "[core]\na =\n  1\n  #fernet_key = x\n  2\nfernet_key = K\n"),
        ("[core]\nfernet_key =", "[core]\nfernet_key = K"),
        ("[core]\nfernet_key=\n", "[core]\nfernet_key=K\n"),
        ("[core]\nfernet_key = a\n # kept\n  b\nc = 1\n", "[core]\nfernet_key = K\n # kept\nc = 1\n"),
        ("[database]\na = 1", "[database]\na = 1\n\n[core]\nfernet_key = K\n"),
        ("", "[core]\nfernet_key = K\n"),
        ("[core]\nFernet_Key = a\n", "[core]\nFernet_Key = a\nfernet_key = K\n"),
    ],
)
def test_what_is_missing_is_added_where_it_belongs(write: Write, text: str, expected: str) -> None:
    file = write(text)
    file.set_fernet_keys(Secret(NEW_KEY), "t0")
    assert text_of(file) == expected.replace("K\n", f"{NEW_KEY}\n").replace("key = K", f"key = {NEW_KEY}")
    assert in_airflow(file, "core", "fernet_key") == NEW_KEY


def test_the_file_that_airflow_generates(write: Write, tmp_path: Path) -> None:
    with (tmp_path / "generated").open("w") as generated:
        control_settings.write(generated, include_examples=True, include_descriptions=True, comment_out_everything=True)
    text = (tmp_path / "generated").read_text()
    assert "[core]" in text
    file = write(text)
    assert file.fernet_keys() == Secret("")
    file.set_fernet_keys(Secret(NEW_KEY), "t0")
    assert [line for line in text_of(file).splitlines() if line != f"fernet_key = {NEW_KEY}"] == text.splitlines()
    assert in_airflow(file, "core", "fernet_key") == NEW_KEY


def test_what_is_missing_is_not_made_up(write: Write) -> None:
    file = write("[core]\nexecutor = x\n")
    assert file.connected_database() is None
    assert file.point_to("two", "t0").changed == ()
    assert text_of(file) == "[core]\nexecutor = x\n"


def test_the_old_place_of_the_connection_string_counts(write: Write) -> None:
    file = write("[core]\nsql_alchemy_conn = postgresql://u@h/one\n[celery]\nresult_backend = redis://h/0\n")
    assert file.point_to("two", "t0").changed == (OLD_CONN,)
    assert file.get(BACKEND) == "redis://h/0"


def test_the_same_change_again_changes_nothing(write: Write) -> None:
    file = write(WHOLE)
    file.set_fernet_keys(Secret(NEW_KEY), "t0")
    before = text_of(file), file.path.stat().st_mtime_ns
    assert AirflowCfg(str(file.path)).set_fernet_keys(Secret(NEW_KEY), "t0").changed == ()
    assert (text_of(file), file.path.stat().st_mtime_ns) == before


def test_settings_that_the_upgrade_needs_are_found(tmp_path: Path) -> None:
    path = tmp_path / "airflow.cfg"
    path.write_text(
        "[core]\nauth_manager = my.Manager\n[scheduler]\ncreate_cron_data_intervals = True\n"
        "create_delta_data_intervals = False\n"
    )
    address = DatabaseAddress(host="h", user="u", database="d")
    control = {"kind": "airflow_cfg", "path": str(path)}
    assert control_of(Deployment(address=address, control=control, runtime={})).settings() == {
        "AIRFLOW__CORE__AUTH_MANAGER": "my.Manager",
        "AIRFLOW__SCHEDULER__CREATE_CRON_DATA_INTERVALS": "True",
        "AIRFLOW__SCHEDULER__CREATE_DELTA_DATA_INTERVALS": "False",
    }


@pytest.mark.parametrize(
    ("text", "database"),
    [
        ("[core]\nhidden\n", "two"),
        ("hidden = 1\n", "two"),
        ("[core]\nhidden = 1\nhidden = 2\n", "two"),
        ("[core]\nsql_alchemy_conn = postgresql://u:hidden%@h/one\n", "two"),
        ("[core]\nx = h\nsql_alchemy_conn = postgresql://u:hidden@%(x)s/one\n", "two"),
        ("[core]\nsql_alchemy_conn = postgresql://u:hidden@h/one\n", "t$HOME"),
        ("[core]\nsql_alchemy_conn = postgresql://u:hidden@h/one\n", "two\nlines"),
        ("[core]\nsql_alchemy_conn = postgresql://u:hidden@h/one\n", "blank at the end "),
    ],
)
def test_what_airflow_would_not_read_so_is_refused_before_and_not_shown(write: Write, text: str, database: str) -> None:
    file = write(text)
    for act in (file.check, lambda name: file.point_to(name, "t0")):
        with pytest.raises(InvalidInputError, match=r"airflow\.cfg") as caught:
            act(database)
        assert "postgresql" not in str(caught.value)
        assert "hidden@" not in str(caught.value)
        assert caught.value.__cause__ is None
    assert text_of(file) == text
    assert [path.name for path in file.path.parent.iterdir()] == ["airflow.cfg"]
