"""`folder:PATH`: a tree of images, one folder per class, as torchvision's ImageFolder reads it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from raystill.platform.data.sources.raw import Portion, Raw, Stored, local_file, split_of

# torchvision.datasets.folder.IMG_EXTENSIONS, without importing torchvision
EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


def source(path: Path) -> Stored:
    """List PATH/train/CLASS/*.png, beside PATH/validation and PATH/test, or PATH/CLASS/*.png.

    Raises:
        ValueError: no such folder, no class folders, no images, or a class without a folder in train.
    """
    if not path.is_dir():
        raise ValueError(f"data.source: no folder {path}")
    roots = _roots(path)
    classes = _classes(roots["train"])
    listed = {split: _images(root, classes) for split, root in roots.items()}
    if not listed["train"]:
        raise ValueError(f"data.source: no images in {roots['train']}; expected files of {', '.join(EXTENSIONS)}")

    def read() -> Raw:
        return Raw({split: _portion(rows) for split, rows in listed.items()}, classes)

    files = [local_file(image, path) for rows in listed.values() for image, _ in rows]
    return Stored(read, files, {"folder": {split: root.name for split, root in roots.items()}, "classes": classes})


def _portion(rows: list[tuple[Path, int]]) -> Portion:
    images = [image for image, _ in rows]
    return Portion(images, [label for _, label in rows], lambda i: str(images[i]))


def _roots(path: Path) -> Mapping[str, Path]:
    roots: dict[str, Path] = {}
    for child in sorted(path.iterdir()):
        split = split_of(child.name) if child.is_dir() else None
        if split and split in roots:
            raise ValueError(f"data.source: {path} has two folders of split {split}: {roots[split].name}, {child.name}")
        if split:
            roots[split] = child
    # without a train folder, folders such as `test` are classes
    return roots if "train" in roots else {"train": path}


def _classes(root: Path) -> list[str]:
    classes = sorted(child.name for child in root.iterdir() if child.is_dir() and not child.name.startswith("."))
    if not classes:
        raise ValueError(f"data.source: no class folders in {root}; expected {root}/CLASS/*.png")
    return classes


def _images(root: Path, classes: list[str]) -> list[tuple[Path, int]]:
    label = {name: k for k, name in enumerate(classes)}
    rows = []
    for name in _classes(root):
        if name not in label:
            raise ValueError(f"data.source: {root / name} is not a class of train, which has {', '.join(classes)}")
        for folder, _, names in sorted(os.walk(root / name, followlinks=True)):
            rows += [(Path(folder, n), label[name]) for n in sorted(names) if n.lower().endswith(EXTENSIONS)]
    return rows
