"""Runs inside a runtime, by that release's own Python (3.7 or newer): what the release knows of an older airflow.cfg.

The rules are the release's own: those of its `airflow config lint` (airflow/cli/commands/config_command.py, from 2.11
on) and of its configuration parser, which takes options under their old names. They are asked about options that are
put into the parser one by one: the file itself is never Airflow's configuration, so that no command, secrets backend
or logging class that it names is run. No value is told.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

MARK = "SETTINGS "
"""Begins the one line that is meant for us; Airflow's own start may print others."""
TOLD_VALUE = re.compile(r"You currently have `.*` set\.\s*", re.S)


def main() -> int:
    """Print what the release knows; the request has ``options`` as [section, option, value]."""
    request = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    conf = importlib.import_module("airflow.configuration").conf
    options = request["options"]
    answer = {
        "lint": lint(conf, options),
        "renamed": renamed(conf),
        "sections": {old[0]: new for new, old in getattr(conf, "deprecated_sections", {}).items()},
        "values": changed_values(conf, options),
        "executors": executors(),
        "auth_manager": default_of(conf, "core", "auth_manager"),
        "commands": commands(),
        "sensitive": sorted(map(list, getattr(conf, "sensitive_config_values", ()))),
    }
    sys.stdout.write(MARK + json.dumps(answer) + "\n")
    sys.stdout.flush()
    return 0


def lint(conf: Any, options: list[list[str]]) -> list[dict[str, Any]] | None:
    """What `airflow config lint` would say of these options; None before there was one."""
    try:
        changes = importlib.import_module("airflow.cli.commands.config_command").CONFIGS_CHANGES
    except (ImportError, AttributeError):
        return None
    wanted = {(change.config.section, change.config.option) for change in changes}
    ours = {(section, option): value for section, option, value in options if (section, option) in wanted}
    for (section, option), value in ours.items():
        if not conf.has_section(section):
            conf.add_section(section)
        # Nothing is put in for what a value names by %(…)s: the file's other options are not there.
        conf.set(section, option, value.replace("%", "%%"))
    found = []
    for change in changes:
        section, option = change.config.section, change.config.option
        if (section, option) in ours and conf.has_option(section, option, lookup_from_deprecated=False):
            message = change.message
            if message:
                found.append(rule(change, message))
    return found


def rule(change: Any, message: str) -> dict[str, Any]:
    if getattr(change, "default_change", False):
        kind = "default"
    elif change.renamed_to:
        kind = "renamed"
    else:
        kind = "invalid" if message.startswith("Invalid") else "removed"
    return {
        "section": change.config.section,
        "option": change.config.option,
        "kind": kind,
        "to": [change.renamed_to.section, change.renamed_to.option] if change.renamed_to else None,
        "message": TOLD_VALUE.sub("", message).strip(),
    }


def renamed(conf: Any) -> list[list[str]]:
    """Old section and option, new section and option, since when."""
    pairs = [(old, new) for new, old in getattr(conf, "deprecated_options", {}).items()]
    many = getattr(conf, "many_to_one_deprecated_options", {})
    pairs += [(old, new) for new, olds in many.items() for old in olds]
    # 1.10 has neither section nor release in some of them.
    return [[*old[:2], *new[:2], str(old[2])] for old, new in pairs if len(old) == 3 and len(new) == 2]


def changed_values(conf: Any, options: list[list[str]]) -> list[list[str]]:
    """Section, option and the value that the release puts in place of an old default."""
    known = getattr(conf, "deprecated_values", {})
    found = []
    for section, option, value in options:
        entry = known.get(section, {}).get(option)
        if entry and hasattr(entry[0], "match") and entry[0].match(value):
            found.append([section, option, str(entry[1])])
    return found


def executors() -> list[str]:
    with suppress(ImportError, AttributeError):
        return sorted(importlib.import_module("airflow.executors.executor_loader").ExecutorLoader.executors)
    return []


def commands() -> dict[str, str]:
    """Commands that the release has not any more, and what it says to use instead."""
    with suppress(ImportError, AttributeError):
        return dict(importlib.import_module("airflow.cli.commands.legacy_commands").COMMAND_MAP)
    return {}


def default_of(conf: Any, section: str, option: str) -> str:
    with suppress(Exception):
        return str(conf.get(section, option))
    return ""


if __name__ == "__main__":
    sys.exit(main())
