"""The files of a run folder that its report shows, read with bounds and checked.

spec.yaml          the resolved spec
artefact/          distilled data, see `raystill.platform.artifacts`
history.parquet    one row per outer step; may be missing
assessment.json    accuracies on test data, with baselines; may be missing
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from raystill.platform.artifacts import Distilled, load_distilled
from raystill.platform.files.storage import read_whole
from raystill.platform.registry import Plugins

SPEC, ARTEFACT, HISTORY, ASSESSMENT = "spec.yaml", "artefact", "history.parquet", "assessment.json"
NEEDED = ("step", "meta_loss")
COLUMNS = (*NEEDED, "seconds", "cpu_seconds", "validation_accuracy", "validation_std")  # seconds: of this step alone
BEFORE = "before.png"  # the images as they were before the first step; may be missing
MAX_PICTURE = 8 * 2**20
MAX_TEXT = 4 * 2**20  # bytes of spec or assessment
MAX_STEPS = 5_000_000  # rows of history


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class SeedSpread(_Part):
    """Accuracy in percent over whole distillations with different seeds."""

    n: int
    mean: float
    std: float


class Spread(_Part):
    """Mean and spread, in percent."""

    mean: float
    std: float = 0.0


class Measurement(_Part):
    """One accuracy or score, in percent, on the split that the assessment names.

    Attributes:
        same_budget: has as many images and inner steps as the distilled data, so that comparing is fair.
        accuracy_std, n, spread_over: spread within one distillation, over `n` values, in words `spread_over`.
        distillation_seeds: spread over distillations, where there are several; never mixed with the former.
        measures: further measures beside the accuracy, by name.
    """

    name: str
    kind: Literal["distilled", "baseline", "architecture", "reference", "robustness"]
    accuracy_mean: float
    accuracy_std: float = 0.0
    n: int = 1
    spread_over: str = ""
    same_budget: bool = False
    images: int | None = None
    inner_steps: int | None = None
    note: str = ""
    learner: str = ""
    distillation_seeds: SeedSpread | None = None
    measures: dict[str, Spread] = {}


class Assessment(_Part):
    """All measurements, and the data that they are of."""

    split: str
    rows: tuple[Measurement, ...]
    test_images: int | None = None
    seeds: dict[str, Any] = {}
    seconds: float | None = None

    def of(self, *kinds: str) -> list[Measurement]:
        """The measurements of some kinds, in their order."""
        return [row for row in self.rows if row.kind in kinds]

    @property
    def distilled(self) -> Measurement | None:
        """The first measurement of the distilled data itself."""
        return next(iter(self.of("distilled")), None)


@dataclass(frozen=True)
class Run:
    """The content of a run folder; `history` maps column names to float64 [steps], nulls as NaN; `before` is a PNG."""

    path: Path
    spec: dict[str, Any]
    spec_text: str
    distilled: Distilled
    history: dict[str, np.ndarray] | None
    assessment: Assessment | None
    before: bytes | None = None

    def get(self, *keys: str) -> Any:
        """The spec's value under nested keys; None where there is none."""
        value: Any = self.spec
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value


def read_run(path: Path, plugins: Plugins | None = None) -> Run:
    """The content of a run folder.

    Args:
        plugins: the caller's own parts, of which `modalities` are used.

    Raises:
        ValueError: no spec, a malformed file (named), or an artefact that can not be loaded.
    """
    if not (path / SPEC).is_file():
        raise ValueError(f"{path}: not a run folder: {SPEC} is missing")
    spec_text = read_text(path / SPEC)
    try:
        spec = yaml.safe_load(spec_text)
    except yaml.YAMLError as error:
        raise ValueError(f"{path / SPEC}: malformed: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(spec, dict):
        raise ValueError(f"{path / SPEC}: malformed: a spec is a mapping")
    spec.pop("command", None)
    history, assessment = path / HISTORY, path / ASSESSMENT
    return Run(
        path,
        spec,
        spec_text,
        load_distilled(path / ARTEFACT, plugins=plugins),
        _history(history) if history.exists() else None,
        _assessment(assessment) if assessment.exists() else None,
        _picture(path / BEFORE),
    )


def _picture(file: Path) -> bytes | None:
    """A PNG of limited size, or None: a missing picture does not fail a report."""
    if not file.is_file() or file.stat().st_size > MAX_PICTURE:
        return None
    data = file.read_bytes()
    return data if data.startswith(b"\x89PNG\r\n\x1a\n") else None


def read_text(file: Path, most: int = MAX_TEXT) -> str:
    """A file's text.

    Raises:
        ValueError: it is missing, larger than `most` bytes, or not UTF-8.
    """
    try:
        return read_whole(file, most).decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: malformed: not UTF-8") from error


def _assessment(file: Path) -> Assessment:
    try:
        return Assessment.model_validate_json(read_text(file))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{file}: malformed: {where + ': ' if where else ''}{first['msg']}") from error


def _history(file: Path) -> dict[str, np.ndarray]:
    try:
        with pq.ParquetFile(file) as parquet:
            names, count = parquet.schema_arrow.names, parquet.metadata.num_rows
            missing = [name for name in NEEDED if name not in names]
            if missing:
                raise ValueError(f"{file}: malformed: no column {', '.join(missing)}")
            if count > MAX_STEPS:
                raise ValueError(f"{file}: {count} steps; at most {MAX_STEPS} are read")
            table = parquet.read([name for name in COLUMNS if name in names])
        columns = {n: table.column(n).cast(pa.float64()).to_numpy(zero_copy_only=False) for n in table.column_names}
        return {name: columns.get(name, np.full(count, np.nan)) for name in COLUMNS}
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{file}: malformed: {' '.join(str(error).split())[:200]}") from error
