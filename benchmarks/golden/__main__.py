"""Golden runs: the exact results of every recipe and every kind of search, recorded once and compared later.

    python -m benchmarks.golden record FILE.json [--only PATTERN]
    python -m benchmarks.golden compare FILE.json [--only PATTERN]

`record` runs each case and writes digests of what its files hold; `compare` runs the cases again and prints each
difference. Record before a change that must alter no result, and compare after it, on the same machine. The cases go
through the command line; their specs are the tables of `cases.py`, where a renamed field is renamed in one place.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from benchmarks.golden.cases import CARD, Case, Tree, cases, folder, merge, raystill
from benchmarks.golden.inputs import inputs
from benchmarks.golden.readers import results

QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "MLFLOW_DISABLE_TELEMETRY": "true", "OMP_NUM_THREADS": "1"}


def run(name: str, known: Mapping[str, Case], done: dict[str, Tree]) -> Tree:
    """The record of a case; what it needs is run before, once."""
    if name in done:
        return done[name]
    case, home = known[name], Path(folder(name))
    for other in case.needs:
        run(other, known, done)
    words = [str(home) if word == "RUN" else word for word in case.command]
    if case.spec:
        file = home.parent.with_suffix(".yaml")
        file.parent.mkdir(exist_ok=True)
        file.write_text(yaml.safe_dump(merge(case.spec, {"run": {"name": home.name, "out": str(home.parent)}})))
        words += ["--config", str(file)]
    if case.ray:
        import ray

        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    record: Tree = {"exit": []}
    for line in (words, *([str(home) if w == "RUN" else w.replace("RUN/", f"{home}/") for w in then]
                          for then in case.then)):  # fmt: skip
        try:
            code, _, errors = raystill(*line)
        except Exception as error:  # a record, not the end of the recording
            code, errors = -1, f"{type(error).__name__}: {error}"
        record["exit"].append(code)
        if code:
            last = [text for text in errors.splitlines() if text.strip()][-1:] or ["no message"]
            record["error"] = last[0].replace(os.getcwd(), "").strip()[:400]
            break
    if case.ray:
        ray.shutdown()
    record["files"] = dict(results(home))
    done[name] = record
    return record


def bare(parts: Mapping[str, str]) -> set[str]:
    """Parts without names and shapes, to know an array again in another file."""
    return {re.sub(r" \[.*\] ", " ", text) for text in parts.values()}


def differences(old: Tree, new: Tree) -> tuple[list[str], list[str]]:
    """What differs in content between two records of a case, and what only in bytes, names or places."""
    wrong, slight = [], []
    for key in ("exit", "error"):
        if old.get(key) != new.get(key):
            wrong.append(f"{key}: {old.get(key)} -> {new.get(key)}")
    gone, come = ({k: v for k, v in a["files"].items() if k not in b["files"]} for a, b in ((old, new), (new, old)))
    moved = set().union(*(bare(file["content"]) for file in come.values()))
    for name, file in gone.items():
        lost = bare(file["content"]) - moved
        (wrong if lost else slight).append(f"{name}: {'gone' if lost else 'gone, its arrays are in another file'}")
    slight += [f"{name}: new" for name in come]
    for name in (k for k in old["files"] if k in new["files"]):
        a, b = old["files"][name], new["files"][name]
        parts = a["content"].keys() | b["content"].keys()
        changed = [f"{name}: {part}: {a['content'].get(part)} -> {b['content'].get(part)}"
                 for part in sorted(parts) if a["content"].get(part) != b["content"].get(part)]  # fmt: skip
        wrong += changed
        if not changed and a.get("bytes") != b.get("bytes"):
            slight.append(f"{name}: same content, other bytes")
    return wrong, slight


def about() -> Tree:
    """What bits may depend on beside the code."""
    import numpy as np
    import torch

    return {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__,
            "machine": platform.machine(), "vectors": torch.backends.cpu.get_cpu_capability()}  # fmt: skip


def save(path: Path, recording: Tree) -> None:
    """A line for each case."""
    lines = ",\n".join(
        f" {json.dumps(k)}: {json.dumps(v, sort_keys=True)}" for k, v in sorted(recording["cases"].items())
    )
    text = f'{{"about": {json.dumps(recording["about"], sort_keys=True)},\n"cases": {{\n{lines}\n}}}}\n'
    part = path.with_suffix(".part")
    part.write_text(text)
    part.replace(path)


def main(argv: Sequence[str] | None = None) -> int:
    """Record or compare; 1 where something differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("record", "compare"))
    parser.add_argument("file", type=Path, help="the recording; `truth-digits.parquet` beside it is for search card")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="cases by their names, distill/* for example")
    args = parser.parse_args(argv)
    path, back, began = args.file.absolute(), Path.cwd(), time.monotonic()
    recording: Tree = json.loads(path.read_text()) if path.is_file() else {"about": {}, "cases": {}}
    with tempfile.TemporaryDirectory() as work:
        os.environ.update(QUIET, RAYSTILL_CACHE=f"{work}/cache")
        os.chdir(work)
        try:
            return record_or_compare(args.what, path, recording, args.only)
        finally:
            os.chdir(back)
            print(f"{time.monotonic() - began:.0f} s", flush=True)


def record_or_compare(what: str, path: Path, recording: Tree, only: str) -> int:
    """The work of `main`, in a folder of its own."""
    inputs()
    if (truth := path.parent / "truth-digits.parquet").is_file():
        shutil.copy(truth, CARD["truth"])
    known, done, bad = cases(), {}, 0
    wanted = [name for name in known if fnmatch.fnmatch(name, only)]
    if what == "record":
        recording["about"] = recording["about"] or about()
        for name in (name for name in wanted if name not in recording["cases"]):
            began = time.monotonic()
            recording["cases"][name] = run(name, known, done)
            save(path, recording)
            print(f"{name}: {time.monotonic() - began:.1f} s {recording['cases'][name].get('error', '')}", flush=True)
        return 0
    if recording["about"] != (here := about()):
        print(f"warning: recorded with {recording['about']}, this is {here}")
    for name in (name for name in recording["cases"] if name not in known and fnmatch.fnmatch(name, only)):
        print(f"{name}: DIFFERS: is no case any more")
        bad += 1
    for name in wanted:
        if name not in recording["cases"]:
            print(f"{name}: was not recorded")
            continue
        wrong, slight = differences(recording["cases"][name], run(name, known, done))
        bad += bool(wrong)
        print(f"{name}: {'DIFFERS' if wrong else 'the same'}", *wrong, *slight, sep="\n    ", flush=True)
    print(f"{len(wanted)} cases, {bad} differ")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
