"""Names to parts: whose part is taken, and what is said when there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from raystill.platform import registry

BUILTIN = {"alpha": len, "beta": max}


def test_the_callers_part_goes_before_the_built_in_one() -> None:
    assert registry.resolve("learners", "alpha", BUILTIN) is len
    assert registry.resolve("learners", "alpha", BUILTIN, {"learners": {"alpha": min}}) is min
    assert registry.resolve("learners", "alpha", BUILTIN, {"objectives": {"alpha": min}}) is len


def test_an_unknown_name_lists_all_valid_ones_the_nearest_first() -> None:
    message = r"^learner\.name: unknown 'alhpa'; did you mean 'alpha'\? valid: alpha, beta, mine$"
    with pytest.raises(ValueError, match=message):
        registry.resolve("learners", "alhpa", BUILTIN, {"learners": {"mine": min}}, "learner.name")
    with pytest.raises(ValueError, match=r"^learners: unknown 'zzz'; valid: alpha, beta$"):
        registry.resolve("learners", "zzz", BUILTIN)


@pytest.mark.parametrize("target", ["no_such_module_anywhere:thing", "json:no_such_thing"])
def test_an_entry_point_that_does_not_load_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    info = tmp_path / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[raystill.learners]\nbroken = {target}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    message = rf"learner\.name: 'broken' is the entry point '{target}', which does not load"
    with pytest.raises(ValueError, match=message):
        registry.resolve("learners", "broken", BUILTIN, field="learner.name")
    assert registry.resolve("learners", "alpha", BUILTIN) is len
