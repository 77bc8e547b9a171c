"""Digests: the expected values are those of sha256 itself."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest

from raystill.platform.files.digests import digest, file_digest, stream_digest


def test_a_digest_holds_every_field_at_any_depth() -> None:
    text = b'{"learner": {"begun": 0.95}, "rows": [{"begun": 0.95}]}'
    assert digest({"rows": [{"begun": 0.95}], "learner": {"begun": 0.95}}) == hashlib.sha256(text).hexdigest()
    assert digest({"learner": {"begun": 0.95}}) != digest({"learner": {}})


def test_a_stream_and_a_file_are_read_to_their_end(tmp_path: Path) -> None:
    data = bytes(range(256)) * 8200  # more than two pieces
    (tmp_path / "file").write_bytes(data)
    assert stream_digest(io.BytesIO(data)) == file_digest(tmp_path / "file") == hashlib.sha256(data).hexdigest()
    with pytest.raises(ValueError, match=r"nowhere: can not be read"):
        file_digest(tmp_path / "nowhere")
