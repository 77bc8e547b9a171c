"""Logits and named intermediate features of one forward pass, by forward hooks at module paths."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from torch import Tensor, nn

from raystill.platform.objectives import Out
from raystill.platform.registry import nearest

Change = Callable[[Tensor], Tensor]


def module_at(model: nn.Module, path: str, field: str = "features") -> nn.Module:
    """The module at a path of `named_modules`; the empty path is the model itself.

    Raises:
        ValueError: no such path; the message starts with `field` and names the nearest paths.
    """
    modules = dict(model.named_modules())
    if path not in modules:
        name = type(model).__name__
        raise ValueError(f"{field}: {name} has no module {path!r}; {nearest(path, [p for p in modules if p])}")
    return modules[path]


def see(model: nn.Module, at: Sequence[str] = (), field: str = "features") -> Callable[[Tensor], Out]:
    """A network as a function x (B, ...) -> `Out` whose features are the outputs of the modules at some paths.

    Args:
        at: module paths; a module that is called several times leaves its last output.
        field: of the spec, for errors.

    Raises:
        ValueError: a path that does not exist; the nearest ones are named.
    """
    modules = {path: module_at(model, path, field) for path in at}

    def run(x: Tensor) -> Out:
        if not modules:
            return Out(model(x))
        outputs: dict[str, Tensor] = {}
        with ExitStack() as hooks:
            for path, module in modules.items():
                handle = module.register_forward_hook(lambda _, __, out, path=path: outputs.__setitem__(path, out))
                hooks.callback(handle.remove)
            return Out(model(x), outputs)

    return run


@contextmanager
def changed(model: nn.Module, changes: Mapping[str, Change]) -> Iterator[None]:
    """Within the block, replace the outputs of modules by functions of them (manifold mixup).

    Raises:
        ValueError: a path that does not exist.
    """
    with ExitStack() as hooks:
        for path, change in changes.items():
            module = module_at(model, path)
            hooks.callback(module.register_forward_hook(lambda _, __, out, change=change: change(out)).remove)
        yield
