"""Tasks: names, and what is counted in a frame."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.reconciliation import decoder
from diqkd_postproc.reconciliation.code_design.results import combine
from diqkd_postproc.reconciliation.code_design.task import FrameTask, run_frames
from diqkd_postproc.reconciliation.ensemble import ENSEMBLES


def test_a_task_survives_json(task: FrameTask) -> None:
    again = FrameTask.from_dict(json.loads(json.dumps(task.to_dict())))
    assert again == task and again.strong_id == task.strong_id


def test_every_field_changes_the_strong_id(task: FrameTask) -> None:
    changes: dict[str, Any] = {
        "num_rounds": 2001,
        "syndrome_bits": 521,
        "gamma": Fraction(1, 16),
        "chsh_score": 2.6,
        "qber": 0.02,
        "true_chsh_score": 2.6,
        "true_qber": 0.02,
        "ensemble": ENSEMBLES["near-limit"],
        "code_seed": 1,
        "max_iterations": 50,
        "increments": (560, 600),
    }
    assert changes.keys() == {field.name for field in fields(FrameTask)}
    names = {replace(task, **{field: value}).strong_id for field, value in changes.items()}
    assert len(names | {task.strong_id}) == len(changes) + 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("gamma", Fraction(1)),
        ("chsh_score", 4.5),
        ("true_chsh_score", -1.0),
        ("qber", 0.6),
        ("true_qber", -0.1),
    ],
)
def test_channels_out_of_range_are_refused(task: FrameTask, field: str, value: Any) -> None:
    with pytest.raises(ParameterError, match=field):
        replace(task, **{field: value})


@pytest.mark.parametrize("values", [{}, {"ensemble": {}}, {"ensemble": 3, "gamma": "1/8"}])
def test_other_json_is_no_task(values: dict[str, Any]) -> None:
    with pytest.raises(ParameterError):
        FrameTask.from_dict(values)


def test_a_batch_is_reproducible(task: FrameTask) -> None:
    once, again, other = (run_frames(task.to_dict(), seed, 5) for seed in (3, 3, 4))
    assert once["iterations"] == again["iterations"] and once["failures"] == again["failures"]
    assert once["seeds"] == [3] and once["frames"] == 5 == sum(once["iterations"].values())
    assert sum(other["decode_seconds"].values()) == 5
    assert once["failures"] == once["undetected"] == 0


def test_a_frame_takes_parts_until_one_decodes(task: FrameTask) -> None:
    family = replace(task, syndrome_bits=400, increments=(480, 560, 800))
    again = FrameTask.from_dict(json.loads(json.dumps(family.to_dict())))
    assert again == family and again.strong_id == family.strong_id
    row = run_frames(family.to_dict(), 5, 12)
    parts = {int(part): count for part, count in row["parts"].items()}
    assert sum(parts.values()) == 12 and len(parts) > 1 and row["failures"] == row["undetected"] == 0
    (statistics,) = combine([row]).values()
    report = statistics.report()
    mean = sum(family.syndrome_totals[part - 1] * count for part, count in parts.items()) / 12
    assert report["mean_efficiency"] == pytest.approx(mean / task.limit_bits)
    assert report["syndrome_totals"] == [400, 480, 560, 800] and report["parts"] == row["parts"]


def test_a_syndrome_below_the_shannon_limit_fails(task: FrameTask) -> None:
    short = replace(task, syndrome_bits=200, max_iterations=20)
    row = run_frames(short.to_dict(), 1, 5)
    assert row["failures"] == 5 and row["undetected"] == 0


def test_a_worse_channel_than_designed_fails(task: FrameTask) -> None:
    assert run_frames(replace(task, true_qber=0.08, max_iterations=20).to_dict(), 1, 5)["failures"] == 5


def test_errors_follow_the_channel(task: FrameTask, monkeypatch: pytest.MonkeyPatch) -> None:
    """The frames' error rates, by round type; deviations of five sigma have probability 1e-6."""
    seen: list[tuple[Any, Any, Any]] = []

    def record(code: Any, syndrome: Any, guess: Any, is_test: Any, *rates: Any, **options: Any) -> Any:
        seen.append((guess, is_test, rates))
        return decoder.DecodeResult(bits=guess, converged=True, iterations=1, unsatisfied=0)

    monkeypatch.setattr(decoder, "decode", record)
    noiseless = replace(task, true_qber=0.0, true_chsh_score=4.0)
    assert run_frames(noiseless.to_dict(), 1, 20)["undetected"] == 0
    assert run_frames(replace(noiseless, true_qber=0.5).to_dict(), 1, 20)["undetected"] == 20
    tests = sum(int(is_test.sum()) for _, is_test, _ in seen)
    rounds = 40 * task.num_rounds
    gamma = float(task.gamma)
    assert abs(tests - gamma * rounds) < 5 * np.sqrt(rounds * gamma * (1 - gamma))
    assert all(rates == pytest.approx((0.018, 0.17)) for _, _, rates in seen)


@pytest.mark.parametrize(
    ("answer", "failures", "undetected"),
    [
        (lambda guess: (guess ^ 1, True), 0, 3),
        (lambda guess: (guess, False), 3, 0),
    ],
)
def test_failures_and_undetected_errors_are_told_apart(
    task: FrameTask,
    monkeypatch: pytest.MonkeyPatch,
    answer: Callable[[Any], tuple[Any, bool]],
    failures: int,
    undetected: int,
) -> None:
    def decode(code: Any, syndrome: Any, guess: Any, *rest: Any, **options: Any) -> decoder.DecodeResult:
        bits, converged = answer(guess)
        return decoder.DecodeResult(bits=bits, converged=converged, iterations=1, unsatisfied=0)

    monkeypatch.setattr(decoder, "decode", decode)
    row = run_frames(task.to_dict(), 1, 3)
    assert (row["failures"], row["undetected"]) == (failures, undetected)
