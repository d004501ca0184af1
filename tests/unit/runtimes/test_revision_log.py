"""Revisions and their seconds are read from each release's own lines."""

from __future__ import annotations

import itertools

from airflow_migration.metadata.releases import release
from airflow_migration.progress import Progress
from airflow_migration.runtimes.revision_log import RevisionLog

OLD = "INFO  [alembic.runtime.migration] Running upgrade c804e5c76e3e -> 937cbd173ca1, Add index to table."
NEW = (
    "2026-11-22T02:53:48.388910Z [info     ] Running upgrade 937cbd173ca1 -> 788397e78828, A title, with "
    "comma. [alembic.runtime.migration] loc=migration.py:611"
)


def test_both_styles_of_lines_are_understood_and_timed() -> None:
    heard: list[Progress | str] = []
    ticks = itertools.count()
    log = RevisionLog("up", "c804e5c76e3e", "788397e78828", heard.append, lambda: float(next(ticks)))
    for line in ("hello", OLD, "in between", NEW, "Database migrating done!", "more"):
        log.line(line)
    log.close()
    first, second = log.revisions()
    assert (first.revision, first.title) == ("937cbd173ca1", "Add index to table.")
    assert (second.revision, second.title) == ("788397e78828", "A title, with comma.")
    assert first.seconds > 0
    assert [each.done for each in heard if isinstance(each, Progress)] == [0, 1, 2]
    assert "in between" in heard


def test_revisions_of_others_are_not_counted() -> None:
    log = RevisionLog("up", release("2.11.2").head, release("3.0.0").head, lambda _: None)
    log.line("Running upgrade 6709f7a774b9 -> 02ca36b0235b, FAB's own")
    log.close()
    assert log.revisions() == ()


def test_merges_of_several_revisions_are_understood() -> None:
    log = RevisionLog("up", release("1.10.6").head, release("1.10.7").head, lambda _: None)
    log.line(
        "INFO  [alembic.runtime.migration] Running upgrade a56c9515abdc, 004c1210f153, 74effc47d867, "
        "b3b105409875 -> 08364691d074, Merge the four heads back together"
    )
    log.close()
    assert [each.revision for each in log.revisions()] == ["08364691d074"]
