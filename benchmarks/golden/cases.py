"""The cases: every recipe and kind of search, cut down to seconds."""

from __future__ import annotations

import contextlib
import fnmatch
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

Tree = dict[str, Any]
OFF: Tree = {"tracking": {"enabled": False}}
HERE: Tree = {"run": {"device": "cpu", "workers": 0}, **OFF}
DIGITS: Tree = {"source": "digits", "size": 16, "limit": 100}
CORPUS: Tree = {"source": "parquet:corpus", "corpus": [], "embedding_width": 8, "length": 12, "limit": 60, "size": None}
DISTILL: Tree = {
    **HERE,
    "data": DIGITS,
    "learner": {"width": 8, "depth": None},
    "outer": {"steps": 3, "batch_size": 16, "cycles": 1, "warmup": 0, "intermediate_every": None},
    "validation": {"every": 1, "networks": 1, "images": 30},
    "assess": {"networks": 1, "baselines": False, "architectures": []},
}
"""What every recipe of `distill` is cut to."""
FEW = {"steps": 2, "epochs": 2, "per_class": 2}
"""Most that a recipe's synthesizer keeps."""
WINDOW: Tree = {"meta": {"window": 1}}
FAMILIES: dict[str, Tree] = {
    "gtn-*": {"learner": {"width": None}, "synthesizer": {"images": 5, "channels": 2, "latent": 4, "hidden": 8}},
    "mnist-*": {"learner": {"width": 3}},
    "adapt-*": {"learner": {"width": 3}},
    "poison-*": {"learner": {"width": 3}, "data": {"limit": 300}},
    "text-*": {"data": CORPUS},
    "kd-cpc": {"student": {"width": 64}},
}
"""Pattern of recipes -> what else is cut, or replaced, for them."""
LOOK: Tree = {"assess": {"networks": 2, "baselines": True, "candidates": 3, "architectures": ["linear"],
                         "cross_networks": 1, "bits": 3}}  # fmt: skip
LOOKED = ("digits", "mnist-soft-random-10", "gtn-digits", "text-sst2", "poison-mnist")
"""Recipes that are assessed with every baseline."""
SOFT: Tree = {"synthesizer": {"labels": "soft"}}
POOL: Tree = {"initialisation": {"path": "runs/pretrain-mlp/run"}}
VARIANTS: dict[str, Tree] = {
    "momentum-fixed": {"inner": {"momentum": 0.5, "learn_momentum": False}},
    "rates-fixed": {"inner": {"learn_lr": False, "momentum": 0, "learn_momentum": False}},
    "sweep-forward": {"meta": {"mode": "forward"}},
    "stack-vmap": {"meta": {"stack": "vmap"}},
    "stack-vmap-forward": {"meta": {"stack": "vmap", "mode": "forward"}},
    "window-last": {"meta": {"window": 2}},
    "window-random": {"meta": {"window": 2, "window_at": "random"}},
    "memory": {"meta": {"memory": "24kB"}},
    "trajectory-bfloat16": {"meta": {"trajectory": "bfloat16"}},
    "precision-bfloat16": {"meta": {"precision": "bfloat16"}},
    "chunk": {"meta": {"chunk": 5}},
    "between": {"outer": {"intermediate_every": 2, "intermediate_size": 8}},
    "ema-none": {"outer": {"ema": 0}},
    "delay": {"outer": {"delay": 1}},
    "staleness": {"outer": {"staleness": 2}},
    "shards": {"outer": {"shards": 2}},
    "batch-shared": {"outer": {"batch": "shared"}},
    "clip-relative": {"outer": {"steps": 6, "clip_relative": 0.5}},
    "clip-none": {"outer": {"clip": None, "clip_relative": None}},
    "cycles": {"outer": {"steps": 6, "cycles": 2}},
    "decay": {"outer": {"schedule": "decay", "decay_every": 1, "warmup": 1}},
    "constant": {"outer": {"schedule": "constant", "members": 2, "chunk": 2}},
    "rollbacks": {"outer": {"rollbacks": 1, "rollback_to": 1}},
    "smoothing": {"outer": {"objective": "label_smoothing"}},
    "squared-error": {"outer": {"objective": "squared_error"}, "inner": {"objective": "squared_error"}},
    "jitter": {"inner": {"jitter": 0.2}},
    "seed": {"run": {"seed": 7}},
    "scales": {"synthesizer": {"scales": 3}},
    "augment": {"synthesizer": {"augment": ["flip", "shift", "scale", "rotate", "colour"]}},
    "frozen": {"synthesizer": {"frozen": True, "labels": "soft", "start": "real"}},
    **{f"start-{name}": {"synthesizer": {"start": name}} for name in ("noise", "real", "average", "kmeans")},
    **{f"label-{name}": {"synthesizer": {"label_start": name, "labels": "soft"}}
       for name in ("hard", "smooth", "similar", "noise", "wanted")},
    "draw-widths": {"learner": {"draw": "widths", "widths": [4, 8]}},
    **{f"draw-{name}": {"learner": {"name": "convnet", "depth": 1, "draw": name, "trial": 2 if name == "macro" else 0}}
       for name in ("macro", "cell", "enas")},
    "weight-norm": {"learner": {"weight_norm": True}},
    **{f"init-{name}": {"learner": {"init": name}} for name in ("kaiming", "orthogonal", "normal", "default")},
    **{f"learner-{name}": {"learner": {"name": name, "width": 4}}
       for name in ("linear", "lenet", "alexnet", "convnet", "resnet", "strips")},
    "fixed": {"initialisation": {"kind": "fixed"}},
    "pool": {"initialisation": {"kind": "pool", **POOL["initialisation"]}},
    "pretrained": {"initialisation": {"kind": "pretrained", "member": 1, **POOL["initialisation"]}},
    "pictures": {"data": {"source": "parquet:pictures", "size": 8}},
}  # fmt: skip
"""Variants of the recipe `digits`."""
OTHERS: dict[str, tuple[str, Tree]] = {
    **{f"gtn-{name}": ("gtn-digits", {"synthesizer": {"curriculum": name}})
       for name in ("batch-shuffled", "all-shuffled", "none", "pixels")},
    "gtn-soft": ("gtn-digits", {**SOFT, "outer": {"intermediate_every": 1, "intermediate_size": 8, "delay": 1}}),
    **{f"text-{name}": ("text-sst2", {"learner": {"name": name, "width": 4}}) for name in ("birnn", "bilstm")},
}  # fmt: skip
PRETRAIN: Tree = {"run": HERE["run"], "data": DIGITS, "members": 2, "held_out": 2, "epochs": 1}
PRETRAINED = {"lenet": 3, "mlp": 8, "convnet": 4}
"""Pools that are trained, and the width of their networks."""
KD: Tree = {
    "data": {"source": "digits", "size": 16, "limit": 60}, "student": {"name": "mlp", "width": 8},
    "teacher": {"name": "mlp", "width": 8}, "train": {"steps": 5, "batch_size": 8},
    "run": {"device": "cpu", "seeds": 2}, **OFF,
}  # fmt: skip
KD_MOST = {"transfer": {"limit": 40, "labels": 20}, "student": {"width": 8}, "teacher": {"width": 8}}
KD_VARIANTS: dict[str, Tree] = {
    "temperature": {"temperature": 2.0, "alpha": 0.5},
    "without": {"transfer": {"without": [3, 5]}, "optimizer": {"name": "adam", "schedule": "constant"}},
    "adamw": {"optimizer": {"name": "adamw", "clip": None}, "data": {"whiten": "zca"}},
    "distilled": {"transfer": {"distilled": "runs/distill-digits/run/artefact"}},
}
"""Variants of `kd-hinton`."""
TEMPERATURE: Tree = {
    **HERE, "data": {"source": "digits", "limit": 200},
    "teacher": {"learner": {"name": "mlp", "width": 16}, "training": {"steps": 40}},
    "student": {"learner": {"name": "mlp", "depth": 1}, "widths": [4, 8],
                "training": {"steps": 12, "batch_size": 16, "lr": 0.05}},
    "search": {"temperatures": [1, 4], "alphas": [0.5, 1], "seeds": 2, "block": 2, "assess": 2, "rungs": 2, "eta": 2},
}  # fmt: skip
TEMPERATURES: dict[str, Tree] = {
    "grid": {"search": {"method": "grid"}, "teacher": {"smoothing": 0.1}},
    "grid-loop": {"search": {"method": "grid", "stack": "loop"}},
    "halving": {"search": {"method": "halving"}},
}
NAS: Tree = {
    **HERE, "data": {"source": "digits", "limit": 200}, "curriculum": None, "candidates": 6, "generation": 3,
    "steps": 4, "batch": 16, "images": 50, "retrain": 2, "retrain_steps": 6,
}  # fmt: skip
GENERATOR: Tree = {"curriculum": "runs/distill-gtn-digits/run"}
SEARCHES: dict[str, Tree] = {
    **{f"{name}-combined": {"searcher": name, "data": {"size": 16}, **GENERATOR}
       for name in ("random", "evolution", "tpe")},
    **{f"ranker-{name}": {"ranker": name} for name in ("real", "grad_norm", "snip", "flops", "parameters", "synflow",
                                                       "naswot")},
    "ranker-curriculum": {"ranker": "curriculum", "networks": 2, "data": {"size": 16}, **GENERATOR},
    **{f"space-{name}": {"space": name, "candidates": 3} for name in ("cell", "enas")},
}  # fmt: skip
CARD: Tree = {"level": "digits", "truth": "truth.parquet", "networks": 1, "resamples": 100, "run": HERE["run"]}
TUNE: Tree = {"run": {"workers": 1}, "synthesizer": FEW}
TUNED = ("--trials", "3", "--searcher", "random", "--over", "outer.lr=loguniform:1e-3:1e-1", "--over",
         "inner.lr=choice:0.02,0.1")  # fmt: skip
EXPORTS = {"png": (), "hf": (), "torch": (), "npz": ("--bits", "4")}


class Case(NamedTuple):
    """A command with a spec, cases that it reads the folders of, and commands after it (`RUN` is its folder)."""

    command: tuple[str, ...]
    spec: Tree
    needs: tuple[str, ...] = ()
    then: tuple[tuple[str, ...], ...] = ()
    ray: bool = False


def merge(into: Mapping[str, Any], new: Mapping[str, Any]) -> Tree:
    """Nested mappings, the newer winning leaf by leaf."""
    both = {k: merge(into[k], new[k]) for k in into if isinstance(into[k], dict) and isinstance(new.get(k), dict)}
    return {**into, **new, **both}


def raystill(*words: str) -> tuple[int, str, str]:
    """Exit code, output and errors of a command, run in this process."""
    from raystill.platform.cli import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(list(words))
        except SystemExit as stop:
            code = int(stop.code or 0)
    return code, out.getvalue(), err.getvalue()


def folder(name: str) -> str:
    """Where a case's run lies: alone, for an assessment also tells of runs beside it that differ by the seed."""
    return f"runs/{name.replace('/', '-')}/run"


def most(recipe: Mapping[str, Any], limits: Mapping[str, Any]) -> Tree:
    """The numbers of a recipe that have a limit, none above it."""
    numbers: Tree = {k: most(recipe[k], v) if isinstance(v, dict) else min(recipe[k], v)
                     for k, v in limits.items() if recipe.get(k) is not None}  # fmt: skip
    return {k: v for k, v in numbers.items() if v != {}}


def distilling(name: str, recipe: Tree, more: Tree, command: tuple[str, ...] = ("distill",)) -> Case:
    """A recipe of `distill`, cut down, with changes."""
    spec = merge(DISTILL, {"recipe": name, "synthesizer": most(recipe.get("synthesizer", {}), FEW)})
    for pattern, changes in FAMILIES.items():
        if fnmatch.fnmatch(name, pattern):
            spec = merge(spec, changes)
    spec = merge(spec, WINDOW) if recipe.get("meta", {}).get("window") else spec
    needs = ()
    if recipe.get("initialisation", {}).get("path"):
        needs = (f"pretrain/{recipe['learner']['name']}",)
        spec = merge(spec, {"initialisation": {"path": folder(needs[0])}})
    spec = merge(spec, more)
    needs += ("pretrain/mlp",) if "path" in more.get("initialisation", {}) else ()
    # the result once more, in a form that no change of the artefact's files alters
    export = ("export", "RUN", "--to", "npz", "--out", "RUN/arrays")
    return Case(command, spec, needs, (export,) if command == ("distill",) else ())


def teaching(name: str, recipe: Tree, more: Tree) -> Case:
    """A recipe of `kd`, cut down, with changes."""
    spec = merge(merge(KD, {k: recipe[k] for k in ("student", "teacher") if k in recipe}), most(recipe, KD_MOST))
    for part in ("stages", "baseline"):
        spec[part] = {k: {"epochs": 1} for k, stage in recipe.get(part, {}).items() if "epochs" in stage}
    needs = ("distill/digits",) if "distilled" in more.get("transfer", {}) else ()
    return Case(("kd",), merge(merge(spec, merge({"recipe": name}, FAMILIES.get(name, {}))), more), needs)


def cases() -> dict[str, Case]:
    """Every case by its name."""
    names = [line.split()[0] for line in raystill("recipes")[1].splitlines() if line.strip()]
    recipes = {name: yaml.safe_load(raystill("recipes", name)[1]) for name in names}
    own = [name for name in names if name.split("-")[0] not in ("kd", "temperature")]
    known = {f"pretrain/{k}": Case(("pretrain",), merge(PRETRAIN, {"learner": {"name": k, "width": v}}))
             for k, v in PRETRAINED.items()}  # fmt: skip
    known |= {f"distill/{k}": distilling(k, recipes[k], LOOK if k in LOOKED else {}) for k in own}
    known |= {f"variant/{k}": distilling("digits", recipes["digits"], v) for k, v in VARIANTS.items()}
    known |= {f"variant/{k}": distilling(name, recipes[name], v) for k, (name, v) in OTHERS.items()}
    known |= {f"kd/{k}": teaching(k, recipes[k], {}) for k in names if k.startswith("kd-")}
    known |= {f"kd/hinton-{k}": teaching("kd-hinton", recipes["kd-hinton"], v) for k, v in KD_VARIANTS.items()}
    known |= {f"temperature/{k}": Case(("search", "temperature"), merge(TEMPERATURE, v))
              for k, v in TEMPERATURES.items()}  # fmt: skip
    for k in (name for name in names if name.startswith("temperature-")):
        known[f"temperature/{k}"] = Case(("search", "temperature"), {"recipe": k, **TEMPERATURE})
    for k, v in SEARCHES.items():
        needs = ("distill/gtn-digits",) if v.get("curriculum") else ()
        known[f"nas/{k}"] = Case(("search", "nas"), merge(NAS, v), needs)
    if Path(CARD["truth"]).is_file():
        known["card/digits"] = Case(("search", "card"), CARD)
    for k, words in EXPORTS.items():
        known[f"export/{k}"] = Case(("export", folder("distill/digits"), "--to", k, *words, "--out", "RUN"), {},
                                    ("distill/digits",))  # fmt: skip
    for k in ("distill/digits", "distill/gtn-digits", "distill/text-sst2", "variant/staleness", "nas/random-combined"):
        known[f"replay/{k.split('/')[1]}"] = Case(("replay", folder(k)), {}, (k,))
    again = ("assess", "RUN", "--assess.architectures", "linear,convnet", "--assess.bits", "2", "--assess.seed", "3")
    known["assess/again"] = known["distill/digits"]._replace(then=(again,))
    tune = distilling("digits", recipes["digits"], TUNE, ("search", "tune", *TUNED))
    known["tune/digits"] = tune._replace(ray=True)
    return known
