"""Passwords out of what is logged, recorded and shown."""

from __future__ import annotations

import re


def redact(text: str) -> str:
    """The text without the user and password of its URIs, and without those of GStreamer's elements."""
    text = re.sub(r"//[^/@\s]*@", "//***@", text)
    return re.sub(r"\b(user-pw|passw\w*)\s*=\s*(\"[^\"]*\"|'[^']*'|[^\s!]+)", r"\1=***", text)
