"""A clone beside sessions that do not want to go, and one that was killed half-way."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import psycopg
import pytest
from psycopg import sql
from tests.polling import until

from airflow_migration.exceptions import ServerUnreachableError
from airflow_migration.postgres import clone, databases
from airflow_migration.postgres.address import DatabaseAddress, Session
from airflow_migration.postgres.clone import CloneResult

NewDatabase = Callable[..., DatabaseAddress]
NewRole = Callable[..., DatabaseAddress]
Owned = Callable[[DatabaseAddress, DatabaseAddress], DatabaseAddress]
Hold = Callable[[DatabaseAddress], Session]

ROWS = 5000


def ignore(_: object) -> None:
    pass


def make(address: DatabaseAddress, database: str, listener: Callable[[object], None] = ignore) -> CloneResult:
    return clone.clone_database(
        address, template=address.database, database=database, owner=None, comment="a label", listener=listener
    )


def run(address: DatabaseAddress, statement: str, *identifiers: str) -> None:
    with address.connect(read_only=False, autocommit=True) as session:
        session.execute(sql.SQL(statement).format(*map(sql.Identifier, identifiers)))


def ask(address: DatabaseAddress, question: str, *values: object) -> list[tuple[object, ...]]:
    with address.connect() as session:
        return session.execute(question, values or None).fetchall()


def goes_on(work: Future[CloneResult]) -> None:
    assert not work.done(), work.result()


def is_complete(address: DatabaseAddress) -> bool:
    return ask(address, "SELECT count(*), count(DISTINCT i) FROM filled") == [(ROWS, ROWS)]


@pytest.fixture
def source(new_database: NewDatabase) -> DatabaseAddress:
    address = new_database()
    with address.connect(read_only=False) as session:
        session.execute("CREATE TABLE filled AS SELECT i, repeat('x', 200) FROM generate_series(1, %s) i", (ROWS,))
    return address


def test_a_clone_beside_sessions_that_reconnect_in_a_loop_succeeds(
    source: DatabaseAddress, busy: Callable[[DatabaseAddress], None]
) -> None:
    busy(source)
    made = make(source, source.database + " clone")
    assert not made.reused
    assert made.sessions_ended >= 6
    assert is_complete(source.on(made.database))
    assert made.bytes > 1_000_000


def test_nobody_stays_shut_out_after_a_clone(source: DatabaseAddress, hold: Hold) -> None:
    make(source, source.database + " clone")
    hold(source).execute("INSERT INTO filled VALUES (0)")


def test_a_second_call_keeps_the_clone(source: DatabaseAddress) -> None:
    name = source.database + " clone"
    make(source, name)
    run(source.on(name), "CREATE TABLE only_in_the_clone ()")
    assert make(source, name).reused
    assert ask(source.on(name), "SELECT to_regclass('only_in_the_clone') IS NOT NULL") == [(True,)]


@pytest.mark.parametrize(
    "name", ['it\'s "quoted"', "with spaces", "ünïcödé 日本", "x" * 63, "ü" * 31, "UPPER", "semi;colon--", "a=b %s {}"]
)
def test_any_name_will_do(new_database: NewDatabase, name: str) -> None:
    source = new_database(name)
    copy = databases.derived_name(name, "__copy")
    assert make(source, copy).database == copy
    assert ask(source.on(copy), "SELECT current_database()") == [(copy,)]
    databases.drop_database(source, copy, ignore)


def test_two_clones_at_once_end_as_one(source: DatabaseAddress) -> None:
    name = source.database + " clone"
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda _: make(source, name), range(2)))
    assert sorted(one.reused for one in made) == [False, True]
    assert is_complete(source.on(name))


def test_a_killed_clone_is_made_by_the_next_try(
    source: DatabaseAddress, new_role: NewRole, owned: Owned, hold: Hold
) -> None:
    """The superuser's session, which our role may not end, keeps the CREATE waiting until it is killed."""
    address, name = owned(source, new_role()), source.database + " clone"
    keeper = hold(source)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(make, address, name)
        with source.maintenance().connect(read_only=False, autocommit=True) as admin:
            kill = (
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE query LIKE 'CREATE DATABASE%%' AND usename = %s"
            )
            until(lambda: admin.execute(kill, (address.user,)).fetchall(), check=lambda: goes_on(first))
        with pytest.raises(psycopg.OperationalError):
            first.result()
        keeper.close()
    assert not make(address, name).reused
    assert is_complete(source.on(name))
    assert make(address, name).reused


def test_the_server_finishes_a_clone_whose_client_died(source: DatabaseAddress) -> None:
    name = source.database + " clone"
    held = threading.Event()
    release = threading.Event()

    def die() -> None:
        with databases.sole_worker(source, name) as session:
            held.set()
            session.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(source.database))
            )
            release.wait(60)

    with ThreadPoolExecutor(2) as pool:
        killed = pool.submit(die)
        assert held.wait(60)
        retry = pool.submit(make, source, name)
        release.set()
        killed.result()
        assert retry.result().reused
    assert is_complete(source.on(name))
    assert ask(source, "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s", name) == [
        ("a label",)
    ]


def settings_of(address: DatabaseAddress) -> dict[str, str]:
    rows = ask(
        address,
        "SELECT unnest(setconfig) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase"
        " WHERE datname = %s AND setrole = 0",
        address.database,
    )
    return dict(str(entry).split("=", 1) for (entry,) in rows)


def test_settings_are_carried_and_the_fence_is_not(source: DatabaseAddress) -> None:
    run(source, 'ALTER DATABASE {} SET search_path = "Odd schema", public, "$user"', source.database)
    run(source, "ALTER DATABASE {} SET DateStyle = ISO, DMY", source.database)
    run(source, "ALTER DATABASE {} SET TimeZone = 'Europe/Zurich'", source.database)
    run(source, "ALTER DATABASE {} SET \"my.own\" = 'it''s = 100%% {{}}'", source.database)
    carried = settings_of(source)
    assert len(carried) == 4
    run(source, "ALTER DATABASE {} SET default_transaction_read_only = on", source.database)
    make(source, source.database + " clone")
    assert settings_of(source.on(source.database + " clone")) == carried
    assert settings_of(source) == carried | {"default_transaction_read_only": "on"}


def role_settings_of(address: DatabaseAddress) -> set[tuple[object, ...]]:
    return set(
        ask(
            address,
            "SELECT pg_get_userbyid(setrole)::text, unnest(setconfig) FROM pg_db_role_setting s"
            " JOIN pg_database d ON d.oid = s.setdatabase WHERE datname = %s AND setrole <> 0",
            address.database,
        )
    )


def test_a_role_s_settings_in_the_database_are_carried(source: DatabaseAddress, new_role: NewRole) -> None:
    one, two = new_role().user, new_role().user
    run(source, 'ALTER ROLE {} IN DATABASE {} SET search_path = "Odd schema", public', one, source.database)
    run(source, "ALTER ROLE {} IN DATABASE {} SET work_mem = '9MB'", two, source.database)
    carried = role_settings_of(source)
    assert len(carried) == 2
    run(source, "ALTER ROLE {} IN DATABASE {} SET default_transaction_read_only = on", two, source.database)
    make(source, source.database + " clone")
    assert role_settings_of(source.on(source.database + " clone")) == carried


def test_an_ordinary_role_carries_its_own_settings_and_says_whose_it_may_not(
    source: DatabaseAddress, new_role: NewRole, owned: Owned
) -> None:
    address, other = owned(source, new_role()), new_role().user
    for role in (address.user, other):
        run(source, "ALTER ROLE {} IN DATABASE {} SET work_mem = '9MB'", role, source.database)
    heard: list[object] = []
    name = source.database + " clone"
    make(address, name, heard.append)
    assert role_settings_of(source.on(name)) == {(address.user, "work_mem=9MB")}
    assert any("work_mem" in str(line) and other in str(line) for line in heard)


def test_an_empty_search_path_is_carried(source: DatabaseAddress) -> None:
    run(source, "ALTER DATABASE {} SET search_path = ''", source.database)
    make(source, source.database + " clone")
    assert settings_of(source.on(source.database + " clone")) == settings_of(source)


def test_a_setting_that_only_a_superuser_may_set_does_not_stop_the_clone(
    source: DatabaseAddress, new_role: NewRole, owned: Owned
) -> None:
    run(source, "ALTER DATABASE {} SET log_min_duration_statement = 1000", source.database)
    run(source, "ALTER DATABASE {} SET work_mem = '9MB'", source.database)
    heard: list[object] = []
    name = source.database + " clone"
    address = owned(source, new_role())
    assert not make(address, name, heard.append).reused
    assert settings_of(source.on(name)) == {"work_mem": "9MB"}
    assert any("log_min_duration_statement" in str(line) for line in heard)


def grants_of(address: DatabaseAddress) -> set[tuple[object, ...]]:
    return set(
        ask(
            address,
            "SELECT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(grantee) END, privilege_type, is_grantable"
            " FROM pg_database d, aclexplode(coalesce(datacl, acldefault('d', datdba))) WHERE datname = %s",
            address.database,
        )
    )


def test_grants_are_carried(source: DatabaseAddress, new_role: NewRole) -> None:
    one, two = new_role().user, new_role().user
    run(source, "GRANT CONNECT ON DATABASE {} TO {}", source.database, one)
    run(source, "GRANT CREATE, TEMPORARY ON DATABASE {} TO {} WITH GRANT OPTION", source.database, two)
    make(source, source.database + " clone")
    assert grants_of(source.on(source.database + " clone")) == grants_of(source)
    assert (two, "CREATE", True) in grants_of(source)


def test_whom_the_source_keeps_out_the_clone_keeps_out(source: DatabaseAddress, new_role: NewRole) -> None:
    stranger = new_role()
    run(source, "REVOKE ALL ON DATABASE {} FROM PUBLIC", source.database)
    make(source, source.database + " clone")
    with pytest.raises(Exception, match="permission denied"):
        stranger.on(source.database + " clone").connect()


def test_the_clone_belongs_to_the_role_that_it_is_made_for(
    source: DatabaseAddress, new_role: NewRole, owned: Owned, postgres_server: DatabaseAddress
) -> None:
    ours, theirs = new_role(), new_role()
    run(postgres_server, "GRANT {} TO {}", theirs.user, ours.user)
    run(source, "REVOKE ALL ON DATABASE {} FROM PUBLIC", source.database)
    address, name = owned(source, ours), source.database + " clone"
    for _ in range(2):
        clone.clone_database(
            address, template=address.database, database=name, owner=theirs.user, comment="", listener=ignore
        )
    owner = "SELECT pg_get_userbyid(datdba)::text FROM pg_database WHERE datname = %s"
    assert ask(postgres_server, owner, name) == [(theirs.user,)]
    assert ask(postgres_server, owner, source.database) == [(ours.user,)]


def doors_are_open(address: DatabaseAddress) -> bool:
    return ask(address.maintenance(), "SELECT datallowconn FROM pg_database WHERE datname = %s", address.database) == [
        (True,)
    ]


def test_shut_doors_are_opened_again_when_the_clone_fails(
    source: DatabaseAddress, new_role: NewRole, owned: Owned, hold: Hold, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A superuser's session, which our role may not end, stays."""
    monkeypatch.setattr(databases, "EXCLUSIVE_ATTEMPTS", 1)
    address, name = owned(source, new_role()), source.database + " clone"
    keeper = hold(source)
    with pytest.raises(ServerUnreachableError):
        clone.clone_shutting_out(address, template=address.database, database=name, comment="", listener=ignore)
    assert doors_are_open(source)
    assert not ask(source, "SELECT 1 FROM pg_database WHERE datname = %s", name)
    keeper.execute("SELECT 1")


def test_behind_shut_doors_a_clone_waits_for_the_last_to_leave(
    source: DatabaseAddress, new_role: NewRole, owned: Owned, hold: Hold
) -> None:
    address, name = owned(source, new_role()), source.database + " clone"
    keeper = hold(source)
    heard: list[object] = []
    with ThreadPoolExecutor(1) as pool:
        made = pool.submit(
            clone.clone_shutting_out,
            address, template=address.database, database=name, comment="", listener=heard.append,
        )  # fmt: skip
        until(lambda: not doors_are_open(source), check=lambda: goes_on(made))
        keeper.close()
        assert not made.result().reused
    assert doors_are_open(source)
    assert is_complete(source.on(name))
    assert heard


def test_the_doors_are_opened_when_something_else_goes_wrong(source: DatabaseAddress) -> None:
    with pytest.raises(psycopg.Error):
        clone.clone_shutting_out(source, template=source.database, database="", comment="", listener=ignore)
    assert doors_are_open(source)


def test_opening_doors_can_be_repeated_and_tells_whether_they_were_shut(source: DatabaseAddress) -> None:
    assert not clone.allow_connections(source, source.database)
    clone.block_connections(source, source.database, ignore)
    assert not doors_are_open(source)
    assert clone.allow_connections(source, source.database)
    assert not clone.allow_connections(source, source.database)
    assert doors_are_open(source)
