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
    with pytest.raises(ValueError, match=r"^plugins: unknown kind 'learner'; did you mean 'learners'"):
        registry.resolve("learners", "alpha", BUILTIN, {"learner": {"alpha": min}})


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


@pytest.mark.parametrize(
    ("text", "name", "settings"),
    [
        ("alpha", "alpha", {}),
        ("alpha()", "alpha", {}),
        (" my-part ( a = 1, b=-2.5e-3 ,c=true, d=none ) ", "my-part", {"a": 1, "b": -0.0025, "c": True, "d": None}),
        ("part(word=group, quoted='a, b', many=[1, 2])", "part", {"word": "group", "quoted": "a, b", "many": [1, 2]}),
        ("part(path=a/b.csv)", "part", {"path": "a/b.csv"}),
    ],
)
def test_a_text_is_a_name_with_settings(text: str, name: str, settings: dict[str, object]) -> None:
    assert registry.parse(text, "field") == (name, settings)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("part(1, 2)", r"^field: '1' is no setting; write part\(setting=value\)"),
        ("part(**more)", r"^field: 'more' is no setting"),
        ("part(a=)", r"^field: 'part\(a=\)' does not parse; write part\(setting=value, \.\.\.\)"),
        ("own(b=3)", r"^field: own: no setting 'b'; did you mean 'by'\? valid: by"),
        ("own", r"^field: own: needs by$"),
        ("number", r"^field: 'number' is int, which can not be called"),
    ],
)
def test_what_is_no_name_with_settings_is_one_clear_line(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        registry.bound("learners", text, {}, {"learners": {"own": lambda x, by: x * by, "number": 3}}, "field", own=1)


def test_a_part_is_bound_to_its_settings() -> None:
    plugins = {"learners": {"own": lambda x, by=2: x * by}}
    assert registry.bound("learners", "own", {}, plugins, own=1)(3) == 6
    assert registry.bound("learners", "own(by=5)", {}, plugins, own=1)(3) == 15
