"""What looks like a secret is blacked out, and nothing else."""

from __future__ import annotations

import pytest

from raystill.platform.files.redaction import redacted


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("postgresql://me:pw@host/db", "uri", "postgresql://***@host/db"),
        ("s3://bucket/x?token=abc&y=1", "uri", "s3://bucket/x?token=***&y=1"),
        ("hf_" + "a" * 30, "note", "[redacted]"),
        ("x", "aws_secret_access_key", "[redacted]"),
        ("None", "password", "None"),
        ("mnist", "data.source", "mnist"),
        ("sent by " + "ghp_" + "b" * 30 + " today", "note", "sent by [redacted] today"),
        ("token", "learner.token", "token"),
        ("uri: s3://bucket/task-0123456789-0123456789", "", "uri: s3://bucket/task-0123456789-0123456789"),
    ],
)
def test_redacted(text: str, name: str, expected: str) -> None:
    assert redacted(text, name) == expected
