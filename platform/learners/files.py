"""Files of networks: weights, and the facts that are needed to build the network again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from raystill.platform import learners
from raystill.platform.files.tensors import read, write
from raystill.platform.registry import Plugins
from raystill.platform.seeds import fixed_global
from raystill.platform.spec import LearnerSpec

NETWORK = "raystill.network/1"


def save_network(
    path: Path, module: nn.Module, learner: LearnerSpec, shape: tuple[int, int, int], outputs: int, **about: Any
) -> None:
    """Write a network.

    Args:
        shape: of its inputs, (C, H, W).
        outputs: classes, or the width of embeddings.
        about: further facts, JSON values, such as data, normalisation, accuracy.

    Raises:
        ValueError: it can not be written.
    """
    facts = {"format": NETWORK, "learner": learner.model_dump(mode="json"), "shape": shape, "outputs": outputs}
    write(path, dict(module.state_dict()), {**about, **facts})


def load_network(path: Path, plugins: Plugins | None = None) -> tuple[nn.Module, dict[str, Any]]:
    """Read a network, in evaluation mode, and its facts.

    Raises:
        ValueError: the file is missing, torn, altered or foreign, or no network of this version.
    """
    tensors, facts = read(path)
    if facts.get("format") != NETWORK:
        raise ValueError(f"{path}: is not a network; its format is {str(facts.get('format'))[:60]!r}")
    try:
        spec = LearnerSpec.model_validate(facts["learner"])
        c, h, w = facts["shape"]
        make = learners.resolve(spec.name, plugins)
        with fixed_global():
            module = make((c, h, w), facts["outputs"], spec.width, spec.depth)
        module.load_state_dict(tensors)
    except (KeyError, TypeError, RuntimeError, ValueError) as error:
        raise ValueError(f"{path}: does not fit its network: {' '.join(str(error).split())[:200]}") from error
    return module.eval(), facts


def load_teacher(
    path: Path, shape: tuple[int, int, int], mean: tuple[float, ...], std: tuple[float, ...], field: str,
    plugins: Plugins | None = None,
) -> tuple[nn.Module, dict[str, Any]]:  # fmt: skip
    """Read a network for images of a data set; its inputs are renormalised if it was trained with other statistics.

    Args:
        shape: of the images, (C, H, W).
        mean, std: of the channels of pixels / 255, with which the images were normalised.
        field: dotted name of the spec's field, for the error.

    Raises:
        ValueError: as `load_network`, or the network takes images of another shape.
    """
    module, facts = load_network(path, plugins)
    if tuple(facts["shape"]) != tuple(shape):
        theirs, mine = ("x".join(map(str, s)) for s in (facts["shape"], shape))
        raise ValueError(f"{field}: {path} takes {theirs} images, and these are {mine}")
    own_mean, own_std = (torch.tensor(facts.get(k, v))[:, None, None] for k, v in (("mean", mean), ("std", std)))
    here_mean, here_std = (torch.tensor(v)[:, None, None] for v in (mean, std))
    scale, offset = here_std / own_std, (here_mean - own_mean) / own_std
    if not (torch.equal(scale, torch.ones_like(scale)) and not offset.any()):
        module.register_forward_pre_hook(lambda _, args: (args[0] * scale.to(args[0]) + offset.to(args[0]),))
    return module, facts
