"""Find what of a database another server cannot take: extensions, foreign servers, policies, collations.

The dump holds all of it. What nothing of the database needs is left out of the restore, and said; what something
needs is in the way.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files

from airflow_migration.exceptions import InvalidInputError
from airflow_migration.postgres.address import Session
from airflow_migration.progress import Listener

TRUSTED_SINCE = 130000
COLLATION_PROVIDERS_SINCE = 100000
ADMINS = ("rds_superuser", "cloudsqlsuperuser", "azure_pg_admin", "alloydbsuperuser")
"""Roles of managed servers whose members may make extensions that are not trusted."""
BUILT_IN = "plpgsql"
PG_CLASS = 1259
"""Object id of pg_class in every server; rows refer to their table without naming its catalog."""

_OBJECTS = files(__package__).joinpath("portability.sql").read_text(encoding="utf-8")
_AVAILABLE = """
SELECT a.name, EXISTS (SELECT FROM pg_available_extension_versions v WHERE v.name = a.name AND {trusted})
  FROM pg_available_extensions a
"""
_COLLATIONS = "SELECT collname, collcollate, {provider} FROM pg_collation"
# Collations that are no built-in ones and not the database's own: what is sorted by, and what somebody made.
_USED_COLLATIONS = """
SELECT c.oid, c.collname, c.collcollate, {provider}, c.collnamespace = 'pg_catalog'::regnamespace
  FROM pg_collation c
 WHERE (c.collnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
    OR c.oid IN (SELECT attcollation FROM pg_attribute JOIN pg_class r ON r.oid = attrelid
                   WHERE r.relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
                    AND NOT attisdropped
                 UNION SELECT typcollation FROM pg_type WHERE typtype = 'd'))
   AND c.collname NOT IN ('default', 'C', 'POSIX', 'ucs_basic', 'pg_c_utf8')
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Abilities:
    """What the loading role can make on its server.

    :param extensions: those that it may create
    :param roles: names of all roles
    :param collations: names of the system's collations, in one spelling
    """

    superuser: bool
    extensions: frozenset[str]
    roles: frozenset[str]
    collations: frozenset[str]
    has_icu: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Portability:
    """:param left_out: what will not be restored, in words
    :param in_the_way: what needs something of that, in words; nothing can be restored while there is any
    :param objects: catalog and object id of all that is left out, as pg_restore lists them
    """

    left_out: tuple[str, ...]
    in_the_way: tuple[str, ...]
    objects: frozenset[tuple[int, int]]

    def require(self, where: str, listener: Listener) -> None:
        """Say what is left out.

        :raises InvalidInputError: something is in the way
        """
        if self.in_the_way:
            raise InvalidInputError(
                f"the server cannot have what is needed by: {', '.join(self.in_the_way)}",
                where=where,
                remedy="Make that possible there, as preflight says, then retry",
            )
        for each in self.left_out:
            listener(f"Left out, as this server cannot have it and nothing needs it: {each}")


def read_abilities(target: Session) -> Abilities:
    """:param target: a session of the role that will load, in any database of its server"""
    trusted = "(v.trusted OR NOT v.superuser)" if target.info.server_version >= TRUSTED_SINCE else "NOT v.superuser"
    row = target.execute(
        "SELECT rolsuper, EXISTS (SELECT FROM pg_roles a WHERE a.rolname = ANY (%s) AND pg_has_role(a.oid, 'MEMBER'))"
        " FROM pg_roles WHERE rolname = current_user",
        (list(ADMINS),),
    ).fetchone()
    superuser, admin = bool(row and row[0]), bool(row and row[1])
    available = target.execute(_AVAILABLE.format(trusted=trusted)).fetchall()
    collations = target.execute(_COLLATIONS.format(provider=_provider(target))).fetchall()
    return Abilities(
        superuser=superuser,
        extensions=frozenset(str(name) for name, may in available if may or superuser or admin),
        roles=frozenset(str(name) for (name,) in target.execute("SELECT rolname FROM pg_roles")),
        collations=frozenset(_spelled(str(name)) for pair in collations for name in pair[:2] if name),
        # The collation "unicode" is there without it too.
        has_icu=any(str(name).endswith("-x-icu") for name, _, _ in collations),
    )


def compare(source: Session, abilities: Abilities) -> Portability:
    """:param source: a session in the database that is dumped"""
    extensions = [
        str(name)
        for (name,) in source.execute("SELECT extname FROM pg_extension")
        if name != BUILT_IN and name not in abilities.extensions
    ]
    rows = source.execute(
        _OBJECTS,
        {
            "superuser": abilities.superuser,
            "extensions": extensions,
            "roles": list(abilities.roles),
            "collations": _missing_collations(source, abilities),
        },
    ).fetchall()
    return Portability(
        left_out=tuple(str(described) for _, _, goes, root, described in rows if root and goes),
        in_the_way=tuple(str(described) for _, _, goes, _, described in rows if not goes),
        objects=frozenset((int(str(catalog)), int(str(oid))) for catalog, oid, goes, _, _ in rows if goes),
    )


def _missing_collations(source: Session, abilities: Abilities) -> list[int]:
    missing = []
    for oid, name, locale, provider, of_the_system in source.execute(
        _USED_COLLATIONS.format(provider=_provider(source))
    ).fetchall():
        if provider == "i":
            there = abilities.has_icu and (not of_the_system or _spelled(str(name)) in abilities.collations)
        else:
            there = _spelled(str(name if of_the_system else locale)) in abilities.collations
        if not there:
            missing.append(int(str(oid)))
    return missing


def _provider(session: Session) -> str:
    return "collprovider::text" if session.info.server_version >= COLLATION_PROVIDERS_SINCE else "'c'"


def _spelled(name: str) -> str:
    """``de_DE.utf8`` and ``de_DE.UTF-8`` are one locale."""
    return re.sub(r"utf-?8$", "utf8", name.lower())


_LINE = re.compile(r"^\d+; (\d+) (\d+) (.*)$")
_NEVER = re.compile(
    r"(USER MAPPING|COMMENT .*?(EXTENSION|SERVER|FOREIGN DATA WRAPPER|EVENT TRIGGER|FOREIGN TABLE|POLICY"
    r"|PUBLICATION|SUBSCRIPTION)|COMMENT - SCHEMA public) "
)
"""Entries of a dump that only an owner or superuser can make, or that name a role; no row depends on them."""
_FOREIGN_TABLE = "FOREIGN TABLE "
_COMMENT = re.compile(
    r"COMMENT (?P<schema>.+?) (COLUMN (?P<column>.+?)\.|(CONSTRAINT|TRIGGER|RULE) .* ON (?P<rest>.+))"
)


def select_entries(listing: Iterable[str], portability: Portability) -> list[str]:
    """Of what ``pg_restore --list`` says, the lines that are restored."""
    kept, tables = [], []
    for line in listing:
        match = _LINE.match(line)
        if not match:
            continue
        catalog, oid, entry = int(match.group(1)), int(match.group(2)), match.group(3)
        if (catalog or PG_CLASS, oid) in portability.objects:
            if entry.startswith(_FOREIGN_TABLE):
                tables.append(entry.removeprefix(_FOREIGN_TABLE))
        elif not _NEVER.match(entry) and not _tells_of(entry, tables):
            kept.append(line)
    return kept


def _tells_of(entry: str, tables: list[str]) -> bool:
    """Whether it is a comment on a part of one of these tables, given by schema, name and owner.

    A comment names what it is about in words only, and comes after it.
    """
    match = _COMMENT.match(entry)
    if not match:
        return False
    if match["column"]:
        return any(table.startswith(f"{match['schema']} {match['column']} ") for table in tables)
    return f"{match['schema']} {match['rest']}" in tables
