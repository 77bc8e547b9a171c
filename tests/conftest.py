"""Tiers, and the one shared Ray cluster."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("OMP_NUM_THREADS", "1")
# a shell's background job ignores Ctrl-C, and so would every command that a test starts and stops by it
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

NEEDS = {
    "browser": (
        lambda: bool(shutil.which("chromium") and shutil.which("chromedriver")),
        "chromium and chromium-driver",
    ),
    "data": (lambda: "RAYSTILL_DATA" in os.environ, "RAYSTILL_DATA, a folder with mnist/"),
    "postgres": (
        lambda: any(Path("/usr/lib/postgresql").glob("*/bin/postgres")) and find_spec("psycopg2") is not None,
        "postgresql and psycopg2-binary",
    ),
}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tiers whose needs are not met, and say so; in CI that is an error."""
    for tier, (met, what) in NEEDS.items():
        left_out = [item for item in items if item.get_closest_marker(tier)]
        if not left_out or met():
            continue
        if tier in os.environ.get("RAYSTILL_REQUIRE", "").split(","):
            raise pytest.UsageError(f"the tier {tier!r} needs {what}, and RAYSTILL_REQUIRE asks for it")
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
        print(f"\nleft out: {len(left_out)} tests of the tier {tier!r}, which needs {what}")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    import ray

    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield
    ray.shutdown()


GOOD, BAD = ("good", "fine", "lovely", "bright"), ("bad", "dull", "dreadful", "dim")
LOVED, LEFT = ("and I loved it", "and we stayed"), ("so I left", "so we slept")
THINGS, PLACES = ("film", "book", "song", "play", "dish"), ("in town", "at home", "by the sea")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Parquet with 96 training and 24 test texts of two classes, made by rule; a word and an ending say which."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        (f"The {thing} {place} was {word} {ends[n % 2]}{'.' if n % 3 else '!'}", label)
        for label, (words, ends) in enumerate(((BAD, LEFT), (GOOD, LOVED)))
        for n, (word, thing, place) in enumerate(itertools.product(words, THINGS, PLACES))
    ]
    folder = tmp_path_factory.mktemp("corpus")
    info = {"info": {"features": {"label": {"names": ["bad", "good"], "_type": "ClassLabel"}}}}
    for split, chosen in {"train": [row for i, row in enumerate(rows) if i % 5], "test": rows[::5]}.items():
        table = pa.table({"text": [text for text, _ in chosen], "label": [label for _, label in chosen]})
        pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(info)}), folder / f"{split}.parquet")
    return folder
