"""Credentials: recognises them, and removes them from logs, tracking and reports."""

from __future__ import annotations

import re

# "key" alone is no secret and neither is a plain "token": text models have those
_NAMES = r"passw(?:or)?d|secret|credential|api_?key|access_?key|private_?key|(?:auth|access|api)_?token"
SECRET = re.compile(rf"{_NAMES}|passw|auth(?:_|$)", re.I)
"""Names whose values are secrets."""
TOKENS = (
    (re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"), "an AWS access key"),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"), "a private key"),
    (re.compile(r"\b(?:gh[pousr]_\w{20,}|hf_\w{20,}|sk-[\w-]{20,}|xox[abp]-[\w-]{10,})"), "an access token"),
    (re.compile(r"\beyJ[\w-]{10,}\.eyJ[\w.-]{10,}"), "an access token"),
)
"""Patterns of values that are secrets under any name, and their kind."""
_LINES = (
    (re.compile(r"://[^/\s:@]+:[^/\s:@$]+@"), "a password in an address"),
    (re.compile(r"(?i)aws_secret_access_key[\"']?\s*[:=]\s*[\"']?[a-z0-9/+]{40}"), "a credential"),
    # a name of a secret, and a value that is neither a path nor a variable nor a list
    (
        re.compile(rf"(?i)[\w-]*(?:{_NAMES}|token)[\w-]*[\"']?\s*[:=]\s*(?![\"']?[~$/<\[{{.])[\"']?[^\s\"'#]{{6,}}"),
        "a credential",
    ),
)


def redacted(text: str, name: str = "") -> str:
    """A text without its credentials: tokens, those in URIs, and all of it under the name of a secret."""
    if text not in ("", "None") and SECRET.search(name):
        return "[redacted]"
    for token, _ in TOKENS:
        text = token.sub("[redacted]", text)
    text = re.sub(r"([?&](?:password|token|sig|signature|key)=)[^&\s]+", r"\1***", text)
    return re.sub(r"://[^/@\s]+@", "://***@", text)


def credential_in(line: str) -> str | None:
    """The kind of credential in a line of a file, in words; None where there is none."""
    return next((kind for pattern, kind in (*TOKENS, *_LINES) if pattern.search(line)), None)
