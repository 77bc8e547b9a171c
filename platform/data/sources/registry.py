"""Sources by the name in `data.source`.

A new source is a function of `DataSpec` that returns `Raw` or `Stored`, and a line in `SOURCES`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from raystill.platform.data.sources import folder, parquet
from raystill.platform.data.sources.raw import Portion, Raw, Stored, local_file
from raystill.platform.registry import Plugins, resolve
from raystill.platform.spec import DataSpec

_BY_FLAG = {"train": {"train": True}, "test": {"train": False}}
_BY_NAME = {"train": {"split": "train"}, "test": {"split": "test"}}

# name -> (torchvision's class, its files under the data root, arguments for each split)
_TORCHVISION: dict[str, tuple[str, str, dict[str, dict[str, Any]]]] = {
    "mnist": ("MNIST", "MNIST/raw/*-ubyte", _BY_FLAG),
    "fashionmnist": ("FashionMNIST", "FashionMNIST/raw/*-ubyte", _BY_FLAG),
    "kmnist": ("KMNIST", "KMNIST/raw/*-ubyte", _BY_FLAG),
    "usps": ("USPS", "usps*.bz2", _BY_FLAG),
    "svhn": ("SVHN", "t*_32x32.mat", _BY_NAME),
    "cifar10": ("CIFAR10", "cifar-10-batches-py/*", _BY_FLAG),
    "cifar100": ("CIFAR100", "cifar-100-python/*", _BY_FLAG),
}


def cache_folder(spec: DataSpec) -> Path:
    """The folder of the Arrow cache: data.cache, else $RAYSTILL_CACHE, else ~/.cache/raystill."""
    named = spec.cache or os.environ.get("RAYSTILL_CACHE")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "raystill"


def data_root(spec: DataSpec) -> Path:
    """The folder of named sources: data.root, else $RAYSTILL_DATA, else `downloads` in the cache folder."""
    named = spec.root or os.environ.get("RAYSTILL_DATA")
    return Path(named).expanduser() if named else cache_folder(spec) / "downloads"


def _digits(spec: DataSpec) -> Stored:
    def read() -> Raw:
        from sklearn.datasets import load_digits

        from raystill.platform.data.cut import draw
        from raystill.platform.seeds import Address, numpy_rng

        x, y = load_digits(return_X_y=True)  # x[N, 64], 0..16
        images = np.rint(x.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
        # the split seed must not move the test images, so this cut has a seed of its own
        test = draw(y, round(0.2 * len(y)), numpy_rng(Address(0, stream="digits test")))
        train = np.setdiff1d(np.arange(len(y)), test)
        return Raw({"train": Portion(images[train], y[train]), "test": Portion(images[test], y[test])})

    return Stored(read, options={"scikit-learn": version("scikit-learn"), "test": 0.2})


def _torchvision(name: str, spec: DataSpec) -> Stored:
    kind, pattern, arguments = _TORCHVISION[name]
    root = data_root(spec)

    def dataset(split: str, download: bool = False) -> Any:
        from torchvision import datasets

        try:
            return getattr(datasets, kind)(root, download=download, **arguments[split])
        except (RuntimeError, OSError, EOFError) as error:  # missing or corrupt files, or no network
            raise ValueError(f"data.source: torchvision cannot read {name} ({split}) in {root}: {error}") from error

    def read() -> Raw:
        parts = {split: dataset(split) for split in arguments}
        splits = {}
        for split, part in parts.items():
            labels = part.labels if hasattr(part, "labels") else part.targets
            splits[split] = Portion(np.asarray(part.data), np.asarray(labels), f"{name} {split} row {{}}".format)
        return Raw(splits, getattr(parts["train"], "classes", None))

    if spec.download:
        for split in arguments:
            dataset(split, download=True)
    files = [local_file(path, root) for path in sorted(root.glob(pattern)) if path.is_file()]
    if not files:
        raise ValueError(
            f"data.source: no {name} in {root}: looked for {name}/*.parquet and torchvision's {pattern}; point "
            "data.root or RAYSTILL_DATA at the folder that has it, or set data.download to true"
        )
    return Stored(read, files, {"torchvision": kind})


def _argument(spec: DataSpec) -> str:
    name, _, argument = spec.source.partition(":")
    if not argument:
        raise ValueError(f"data.source: {name} needs a path, as in {name}:PATH")
    return argument


# two tables: a folder of Parquet under the data root comes before torchvision's files of the same name
_NAMED: dict[str, Callable[[DataSpec], Raw | Stored]] = {name: partial(_torchvision, name) for name in _TORCHVISION}
SOURCES: dict[str, Callable[[DataSpec], Raw | Stored]] = {
    "digits": _digits,
    "parquet": lambda spec: parquet.source(_argument(spec), spec),
    "folder": lambda spec: folder.source(Path(_argument(spec)).expanduser()),
}


def _shelf(spec: DataSpec) -> dict[str, Callable[[DataSpec], Raw | Stored]]:
    # -> folders of Parquet under the data root, by name
    root = data_root(spec)
    folders = sorted(root.iterdir()) if root.is_dir() else []
    return {path.name: partial(parquet.source, str(path)) for path in folders if parquet.is_dataset(path)}


def find(spec: DataSpec, plugins: Plugins | None = None) -> Raw | Stored:
    """The source that `data.source` names, not decoded yet.

    The order of look-up: the caller's plug-ins, `SOURCES`, folders of Parquet under the data root, torchvision's files
    there, entry points of `raystill.sources`.

    Raises:
        ValueError: unknown name, or missing data; the message names the folder that was searched and a remedy.
    """
    name = spec.source.partition(":")[0]
    try:
        source = resolve("sources", name, {**_NAMED, **_shelf(spec), **SOURCES}, plugins, "data.source")
    except ValueError as error:
        raise ValueError(f"{error} (names are also looked up in {data_root(spec)}; see RAYSTILL_DATA)") from None
    raw = source(spec)
    if not isinstance(raw, Raw | Stored):
        raise ValueError(f"data.source: {name!r} returned {type(raw).__name__}; a source returns raystill's data.Raw")
    return raw
