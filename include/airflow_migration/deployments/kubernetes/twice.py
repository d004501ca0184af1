"""Undo one base64 too many, the mistake that a secret's ``data`` invite to."""

from __future__ import annotations

import base64
import binascii


def decode_again(text: str) -> str | None:
    """What is inside; None where this is no base64 of text. Lines that ``base64`` has wrapped are joined."""
    try:
        return base64.b64decode("".join(text.split()), validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        return None
