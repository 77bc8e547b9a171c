"""The known keys of a cluster file: by Ray's own schema, and by tables for what the schema does not check."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import re
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from raystill.actors.launch.cluster_file import facts
from raystill.actors.launch.cluster_file.document import ClusterFile, Finding
from raystill.platform.registry import closest

WRITE = {
    "integer": "write a whole number, without quotes",
    "number": "write a number, without quotes",
    "string": "write text, in quotes where it looks like a number",
    "boolean": "write true or false",
    "array": "write a list, one `- item` a line",
    "object": "write a mapping, one `key: value` a line",
}
TEXTS = (
    ("docker", "run_options"), ("docker", "head_run_options"), ("docker", "worker_run_options"), ("rsync_exclude",),
    ("rsync_filter",), ("cluster_synced_files",), ("file_mounts",),
)  # fmt: skip
"""Lists and mappings whose values must be text; Ray's schema does not check them."""

OTHER_PROVIDERS = ("aliyun", "vsphere", "external", "spark", "readonly")
"""Providers of Ray whose keys are not checked."""

RESOURCES = ("CPU", "GPU", "memory", "object_store_memory", "TPU")


def instead(word: str, valid: Iterable[str]) -> str:
    """The fix of an unknown word: the valid one that is most like it, or all of them."""
    names = sorted(map(str, valid))
    near = next((name for name in names if name.lower() == word.lower()), None) or closest(word, names, 0.6)
    return f"did you mean `{near}`?" if near else f"write one of {', '.join(names)}"


def of_ray(file: ClusterFile) -> Iterator[Finding]:
    """Every mistake by Ray's own schema, each with its line."""
    import jsonschema

    package = find_spec("ray")
    assert package is not None
    assert package.origin is not None
    schema = json.loads((Path(package.origin).parent / "autoscaler" / "ray-schema.json").read_text())
    for error in jsonschema.Draft7Validator(schema).iter_errors(file.data):
        path = list(error.absolute_path)
        where = "`" + ".".join(map(str, path)) + "`" if path else "the file"
        if error.validator == "additionalProperties":
            known = error.schema.get("properties", {})
            for key in error.instance.keys() - known.keys():
                wrong = f"unknown key `{key}` in {where}"
                yield Finding(file.line(*path, key), wrong, instead(str(key), known))
        elif error.validator == "required":
            for key in error.validator_value:
                if key not in error.instance:
                    yield Finding(file.line(*path), f"{where} has no `{key}`", f"add `{key}:`")
        elif error.validator == "type":
            kinds = [error.validator_value] if isinstance(error.validator_value, str) else error.validator_value
            yield Finding(file.line(*path), f"{where} is not of the type {' or '.join(kinds)}", WRITE[kinds[0]])
        elif error.validator == "minimum":
            wrong = f"{where} is less than {error.validator_value}"
            yield Finding(file.line(*path), wrong, f"write {error.validator_value} or more")
        else:
            wrong = f"{where} breaks the rule `{error.validator}` of Ray's schema"
            yield Finding(file.line(*path), wrong, "take the form that cluster.yaml of raystill has")


def below(file: ClusterFile) -> Iterator[Finding]:
    """Mistakes that Ray's schema does not see, in `provider`, AWS's node_config, `resources`, roles and texts."""
    for path in TEXTS:
        texts = file.get(*path)
        items = texts.items() if isinstance(texts, dict) else enumerate(texts if isinstance(texts, list) else [])
        for key, item in items:
            if not isinstance(item, str):
                yield Finding(file.line(*path, key), f"an entry of `{'.'.join(path)}` is not text", WRITE["string"])
    kind = str(file.get("provider", "type"))
    if file.get("provider", "type") is not None and kind not in (*facts.PROVIDERS, *OTHER_PROVIDERS):
        line = file.line("provider", "type")
        yield Finding(line, f"Ray knows no provider {kind!r}", instead(kind, facts.PROVIDERS))
    if kind in facts.PROVIDERS:
        yield from _unknown(file, file.get("provider"), ("provider",), facts.PROVIDERS[kind])
        for key in facts.REQUIRED.get(kind, ()):
            if file.get("provider", key) is None:
                yield Finding(file.line("provider"), f"`provider` has no `{key}`", f"add `{key}:`")
    for name, node in file.node_types().items():
        at = ("available_node_types", name)
        if kind == "aws":
            yield from _unknown(file, node.get("node_config"), (*at, "node_config"), facts.AWS_NODE)
            if not re.fullmatch(r"[\w-]+\.[\w-]+", str(file.get(*at, "node_config", "InstanceType"))):
                line = file.line(*at, "node_config", "InstanceType")
                yield Finding(line, f"`{name}` names no instance type", "add such as `InstanceType: g4dn.xlarge`")
        for key in file.mapping(*at, "resources"):
            # Ray takes any name as a resource of the user's, so a mistyped one would ask for what no node has
            near = closest(str(key).lower(), map(str.lower, RESOURCES), 0.8)
            if key not in RESOURCES and near:
                wrong = f"no resource of Ray's is called `{key}`"
                yield Finding(file.line(*at, "resources", key), wrong, instead(near, RESOURCES))
        role = file.get(*at, "labels", "role")
        if role is not None and role not in ("server", "evaluator"):
            line = file.line(*at, "labels", "role")
            yield Finding(
                line, f"no role of raystill's is called {role!r}", instead(str(role), ("server", "evaluator"))
            )


def _unknown(file: ClusterFile, value: Any, path: tuple[object, ...], shape: facts.Shape) -> Iterator[Finding]:
    if isinstance(value, list):
        for i, item in enumerate(value):
            yield from _unknown(file, item, (*path, i), shape)
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key not in shape:
                wrong = f"unknown key `{key}` in `{path[-1]}`, which Ray would ignore, or pass on unchecked"
                yield Finding(file.line(*path, key), wrong, instead(str(key), shape))
            elif shape[key] is not None:
                yield from _unknown(file, inner, (*path, key), shape[key])
    else:
        yield Finding(file.line(*path), f"`{path[-1]}` is not a mapping", WRITE["object"])


def of_launcher(file: ClusterFile) -> Iterator[Finding]:
    """The mistake for which Ray's launcher itself refuses a file; its errors name no lines."""
    try:
        from ray.autoscaler._private.util import prepare_config, validate_config
    except ImportError:  # not a public name of Ray's; the schema was applied in any case
        return
    import copy

    logging.getLogger("ray.autoscaler").setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            validate_config(prepare_config(copy.deepcopy(file.data)))
            return
        except Exception as error:  # of any class: `ray up` would stop on it
            message = " ".join(str(error).split()) or type(error).__name__
    keys = [key for key in re.findall(r"\w+", message) if key in file.data]
    line = file.line(keys[0]) if keys else file.line("provider")
    yield Finding(line, f"Ray's launcher refuses it: {message}", "change what the message names")
