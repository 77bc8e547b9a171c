"""Credentials stay out of what is logged, tracked and reported."""

from __future__ import annotations

import re

# "key" alone is no secret and neither is a plain "token": text models have those
SECRET = re.compile(
    r"passw|secret|credential|api_?key|access_?key|private_?key|auth(_|$)|(auth|access|api)_?token", re.I
)
KNOWN = re.compile(r"^(AKIA[0-9A-Z]{16}|gh[pousr]_\w{20,}|hf_\w{20,}|sk-[\w-]{20,}|xox[bap]-\S+|eyJ[\w-]+\.eyJ\S+)$")


def redacted(text: str, name: str = "") -> str:
    """The text without credentials: those in URIs, known token forms, and all of it under a name of a secret."""
    if text not in ("", "None") and (SECRET.search(name) or KNOWN.match(text)):
        return "[redacted]"
    text = re.sub(r"([?&](?:password|token|sig|signature|key)=)[^&\s]+", r"\1***", text)
    return re.sub(r"://[^/@\s]+@", "://***@", text)
