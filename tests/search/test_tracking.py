"""What a search says of children that its store lacks."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from raystill.platform.spec import TrackingSpec
from raystill.search import tracking


@pytest.mark.parametrize(("written", "trouble"), [(True, ""), (False, "the store is away")])
def test_a_child_that_the_store_lacks_is_told_until_one_is_written_whole(
    monkeypatch: pytest.MonkeyPatch, written: bool, trouble: str
) -> None:
    child = SimpleNamespace(catch_up=list, finish=lambda status: written, trouble="the store is away")
    monkeypatch.setattr(tracking.Tracker, "start", lambda *_: child)
    monkeypatch.setattr(tracking, "children", lambda *_: {})
    children = tracking.Children(TrackingSpec(), "parent", "search-1", "raystill.trial")
    children.trouble = "an earlier child was lost"
    children.write("0", {}, [(0, {"loss": 1.0}, 0)])
    assert children.trouble == trouble
