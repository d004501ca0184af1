"""What preflight found and the repairs mended, what matters most first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from airflow_migration.planning.report_page.figures import several
from airflow_migration.planning.report_page.markup import Html, joined, listing, more, section, tag

SEVERITIES = {
    "blocker": ("bad", "✕", "Blockers: a person has to mend these first"),
    "warning": ("warn", "!", "Warnings"),
    "info": ("info", "i", "Worth knowing"),
}


def findings(found: Sequence[Mapping[str, Any]]) -> Html:
    """The section of the findings; what is in order is only counted."""
    groups = []
    for severity, (class_, mark, title) in SEVERITIES.items():
        items = [_finding(finding, class_, mark) for finding in found if finding["severity"] == severity]
        if items:
            groups += [tag("h3", f"{title} ({len(items)})"), listing(items, "cards")]
    fine = sum(finding["severity"] == "ok" for finding in found)
    if fine:
        groups.append(tag("p", f"{several(fine, 'check')} found nothing amiss.", class_="soft"))
    return section("findings", "What was found", *groups)


def repairs(made: Iterable[Mapping[str, Any]]) -> Html:
    """The section of the repairs, those that had nothing to do left out."""
    return section("repairs", "Repairs", listing((_repair(each) for each in made), "cards"))


def _finding(finding: Mapping[str, Any], class_: str, mark: str) -> Html:
    hops = finding.get("hops") or ()
    count = finding.get("count") or 0
    tags = [
        tag("span", f"{mark} {finding['severity']}", class_=f"badge {class_}"),
        tag("code", finding["check"]),
        tag("span", f"upgrade to {' and '.join(hops)}", class_="soft") if hops else None,
    ]
    evidence, query = finding.get("evidence") or (), finding.get("sql")
    return joined(
        [
            tag("div", joined(tags, " "), class_="tags"),
            tag("p", str(finding.get("summary", "")), class_="name"),
            tag("p", str(finding["remedy"])) if finding.get("remedy") else None,
            tag(
                "div",
                more(f"Which ({count:,})" if count else "Which", listing(map(str, evidence))),
                more("Query that finds them", tag("pre", query)) if query else None,
                class_="asked",
            ),
        ]
    )


def _repair(repair: Mapping[str, Any]) -> Html:
    details = [str(detail) for detail in repair.get("details") or ()]
    tags = [tag("code", repair["id"]), tag("span", f"before upgrade {repair['before_hop']}", class_="soft")]
    return joined(
        [
            tag("div", joined(tags, " "), class_="tags"),
            tag("p", several(repair["count"], "row"), class_="name"),
            listing(details) if len(details) <= 3 else more(f"{len(details)} details", listing(details)),
        ]
    )
