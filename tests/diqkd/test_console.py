"""What a command shows while it works."""

from __future__ import annotations

import sys

import pytest

from diqkd.console import ProgressDisplay


def test_a_stage_that_begins_with_a_fraction_may_go_on_with_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    display = ProgressDisplay()
    assert display._bars is not None
    for done, total, percentage in ((0.0, 1.0, 0), (300, 1200, 25), (1200, 1200, 100), (1.0, 1.0, 100)):
        display("error correction", done, total)
        assert display._bars.tasks[0].percentage == percentage
