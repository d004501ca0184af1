"""Which server is too old for which release."""

from __future__ import annotations

import pytest

from airflow_migration.planning.server_checks import check_version
from airflow_migration.postgres.databases import ServerDescription


@pytest.mark.parametrize(
    ("version", "release", "severities"),
    [
        (90624, "2.0.2", []),
        (90624, "2.3.0", ["blocker"]),
        (100023, "2.5.3", []),
        (110022, "2.9.0", ["blocker"]),
        (120022, "2.11.2", []),
        (120022, "3.0.6", ["blocker"]),
        (130023, "3.1.8", []),
        (130023, "3.3.2", ["warning"]),
        (140020, "3.3.2", []),
        (180001, "3.3.2", []),
    ],
)
def test_a_server_too_old_for_the_release(version: int, release: str, severities: list[str]) -> None:
    server = ServerDescription(
        version=version,
        version_text="",
        identity="",
        cluster="",
        user_is_superuser=False,
        user_can_create_databases=True,
    )
    found = list(check_version(server, release))
    assert [each.severity for each in found] == severities
    for each in found:
        assert release in each.summary
        assert each.remedy
