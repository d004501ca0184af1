"""Take secrets and row data out of what another program prints, before anyone sees it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

HIDDEN = "***"
SHORTEST = 3
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
URL_LOGIN = re.compile(r"(?<=://)[^/\s@]+@")
# Postgres and SQLAlchemy put whole rows into their errors, passwords and XComs among them.
ROW_DATA = re.compile(
    r"(?P<kept>Failing row contains|\[parameters:|JSON data, line \d+:|Key \([^)]*\)=|Token )(?P<row>.*)",
    re.S,
)
AFTER_ROW = ("[SQL:", "(Background on", "The above exception", "During handling", "Traceback (most")


class Redactor:
    """Cleans lines one by one; a row's text that spans several lines is hidden to its end.

    :param secrets: values that must not be seen; those under three characters are left, they are no secret
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        spellings = {each for value in secrets for each in (value, quote(value, safe=""), quote_plus(value))}
        self._secrets = sorted((each for each in spellings if len(each) >= SHORTEST), key=len, reverse=True)
        self._in_row = False

    def clean(self, line: str) -> str:
        """The line without terminal codes, secrets, logins in URLs and row data."""
        line = ANSI.sub("", line)
        if self._in_row:
            if not line.startswith(AFTER_ROW):
                return HIDDEN
            self._in_row = False
        found = ROW_DATA.search(line)
        if found:
            # The quoted text may go on in the next lines unless the statement closes here.
            self._in_row = found["kept"] != "[parameters:" and not line.rstrip().endswith((").", "is invalid.", "..."))
            line = f"{line[: found.start()]}{found['kept']} {HIDDEN}"
        for secret in self._secrets:
            line = line.replace(secret, HIDDEN)
        return URL_LOGIN.sub(f"{HIDDEN}@", line)
