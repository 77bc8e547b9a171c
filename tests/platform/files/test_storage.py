"""Storage: the same promises in a folder and on an S3 server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from raystill.platform.files.storage import Storage, plain


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    import boto3

    keys = {"aws_access_key_id": "k", "aws_secret_access_key": "s"}
    patch = pytest.MonkeyPatch()
    for name, value in keys.items():
        patch.setenv(name.upper(), value)
    boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1", **keys).create_bucket(
        Bucket="runs"
    )
    yield f"s3://runs/some/place?endpoint_override=http://{host}:{port}&region=us-east-1"
    server.stop()
    patch.undo()


@pytest.fixture(params=["folder", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    root = Storage(tmp_path if request.param == "folder" else request.getfixturevalue("s3"))
    return root.under(f"test-{tmp_path.name}")


def test_what_is_written_is_read_listed_and_removed(storage: Storage) -> None:
    assert storage.folders() == []
    assert storage.files() == {}
    storage.write("a/one", b"first")
    storage.write("a/one", b"second")
    storage.write("b/c/two", b"22")
    assert storage.read("a/one") == b"second"
    assert storage.folders() == ["a", "b"]
    assert storage.files() == {"a/one": 6, "b/c/two": 2}
    assert storage.under("b").read("c/two") == b"22"
    storage.remove("a")
    storage.remove("a")
    assert storage.files() == {"b/c/two": 2}
    with pytest.raises(OSError, match="one"):
        storage.read("a/one")


def test_a_file_too_large_is_not_read(storage: Storage) -> None:
    storage.write("big", b"x" * 100)
    with pytest.raises(ValueError, match="100 bytes, more than the 99"):
        storage.read("big", 99)


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "a/../../b", "..", "a//b", "a/./b", "a\\b", "a#b", "%2e%2e/a", "c:d"]
)
def test_names_stay_inside(storage: Storage, name: str) -> None:
    for use in (storage.read, storage.under, storage.remove, plain):
        with pytest.raises(ValueError, match="not a plain name"):
            use(name)
    with pytest.raises(ValueError, match="not a plain name"):
        storage.write(name, b"")


def test_a_link_that_leads_out_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "inside").symlink_to(tmp_path / "secret")
    with pytest.raises(ValueError, match="leads out"):
        Storage(tmp_path / "root").read("inside")


def test_an_unknown_scheme_is_one_line_without_its_query() -> None:
    with pytest.raises(ValueError, match=r"storage: nowhere://place can not be opened") as caught:
        Storage("nowhere://place?region=hidden")
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("uri", ["s3://key:hidden@runs/a", "s3://runs/a?access_key=k&secret_key=hidden"])
def test_credentials_do_not_go_into_a_uri(uri: str) -> None:
    with pytest.raises(ValueError, match="give them by the environment") as caught:
        Storage(uri)
    assert "hidden" not in str(caught.value)
