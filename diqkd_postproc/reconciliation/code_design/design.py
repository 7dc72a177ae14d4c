"""A design: the code for a channel and a syndrome length, with all that others need to make the same one.

The shipped ensembles cover the usual channels; `optimised` makes one for another channel, by the search of
`ensemble_design` from the shipped ensemble whose channel is nearest. Both are without randomness; the code
itself follows from ensemble, lengths and seed.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from diqkd_postproc.protocol.errors import ParameterError, StorageError
from diqkd_postproc.protocol.roles import lost_test_probability
from diqkd_postproc.reconciliation.code_design.task import FrameTask
from diqkd_postproc.reconciliation.ensemble import ENSEMBLES, DegreeEnsemble

SCHEMA = "diqkd code design 1"
KEY_DEGREES = (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 16, 20)
TEST_DEGREES = (3, 4, 5, 6, 7, 8, 9, 12, 20, 30, 40)
START_MARGIN = 1.01
"""Efficiency above its threshold at which the search starts from a shipped ensemble."""


@dataclass(frozen=True, slots=True)
class CodeDesign:
    """A task's code with its threshold: the efficiency at which density evolution decodes on the channel."""

    task: FrameTask
    threshold: float

    def report(self) -> dict[str, Any]:
        """JSON-able; builds the code for its digest."""
        task, family = self.task, self.task.code()
        code = family.code
        return {
            "schema": SCHEMA,
            "num_rounds": task.num_rounds,
            "syndrome_bits": task.syndrome_bits,
            "efficiency": task.syndrome_bits / task.limit_bits,
            "threshold": self.threshold,
            "gamma": str(task.gamma),
            "chsh_score": task.chsh_score,
            "qber": task.qber,
            "lifting": code.lifting,
            "num_edges": int(code.edge_column.size) * code.lifting,
            "code_seed": task.code_seed,
            "code_digest": family.digest,
            "ensemble": task.ensemble.to_dict(),
        }


def channel_of(task: FrameTask) -> tuple[float, float, float]:
    """(gamma, error rate of key rounds, error rate of test rounds) that the code is designed for."""
    return float(task.gamma), task.qber, lost_test_probability(task.chsh_score)


def threshold_on(ensemble: DegreeEnsemble, channel: tuple[float, float, float]) -> float:
    """Efficiency at which density evolution decodes the ensemble on the channel, to 1e-3.

    That of a coupled chain, whose density evolution would have to follow every place, is the shipped figure.
    """
    if ensemble.chain_length:
        return ensemble.threshold
    from diqkd_postproc.reconciliation.density_evolution import COARSE_GRID, threshold_efficiency

    return threshold_efficiency(ensemble, *channel, grid=COARSE_GRID)


def chosen(num_rounds: int, syndrome_bits: int, channel: tuple[float, float, float]) -> DegreeEnsemble:
    """The shipped ensemble that a run with these parameters uses.

    Where a run would be refused, because none decodes with margin: the nearest near-limit one. How often it
    fails is a fair question.
    """
    from diqkd_postproc.reconciliation.ensemble_choice import choose_ensemble, ensembles_by_preference

    try:
        return choose_ensemble(num_rounds, syndrome_bits, *channel)
    except ParameterError:
        candidates = ensembles_by_preference(*channel[:2])
        return next(ensemble for ensemble in candidates if ensemble.name.startswith("near-limit"))


def optimised(
    channel: tuple[float, float, float], name: str = "custom", max_steps: int = 40
) -> DegreeEnsemble:
    """An ensemble searched for this channel; takes minutes. Raises ParameterError if no start decodes."""
    from diqkd_postproc.reconciliation.code_design.ensemble_design import (
        DesignProblem,
        design,
        starting_point,
    )
    from diqkd_postproc.reconciliation.density_evolution import edge_fractions
    from diqkd_postproc.reconciliation.ensemble import conditional_entropy
    from diqkd_postproc.reconciliation.ensemble_choice import ensembles_by_preference

    gamma, qber, test_error = channel
    limit = conditional_entropy(gamma, qber, test_error)
    starts = [
        (threshold_on(e, channel), e) for e in ensembles_by_preference(gamma, qber)[:6] if not e.chain_length
    ]
    threshold, start = min(starts, key=lambda pair: pair[0])
    if threshold >= 4.0:
        raise ParameterError(f"no shipped ensemble decodes at gamma={gamma}, Q={qber}: nothing to start from")
    edges = edge_fractions(start, gamma)[2]
    problem = DesignProblem(
        gamma=gamma,
        qber=qber,
        test_error=test_error,
        check_degree=math.floor(edges / (START_MARGIN * threshold * limit)),
        key_degrees=sorted({*KEY_DEGREES, *start.key_degrees}),
        test_degrees=sorted({*TEST_DEGREES, *start.test_degrees}),
    )
    edge_shares = starting_point(problem, dict(start.key_degrees), dict(start.test_degrees))
    found = design(problem, edge_shares, name, max_steps)
    return replace(found, threshold=threshold_on(found, channel))


def save_design(path: Path | str, report: dict[str, Any]) -> None:
    """Write `CodeDesign.report()` as a JSON file (public); raises StorageError."""
    try:
        Path(path).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write the design {path}: {error.strerror}") from None


def load_ensemble(name_or_path: str) -> tuple[DegreeEnsemble, int | None]:
    """A shipped ensemble by name, or ensemble and code seed of a design file. Raises ParameterError."""
    if name_or_path in ENSEMBLES:
        return ENSEMBLES[name_or_path], None
    try:
        document = json.loads(Path(name_or_path).read_text(encoding="utf-8"))
        if document["schema"] != SCHEMA:
            raise ParameterError(f"{name_or_path} has schema {document['schema']!r}, not {SCHEMA!r}")
        return DegreeEnsemble.from_dict(document["ensemble"]), int(document["code_seed"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ParameterError(
            f"{name_or_path!r} is neither a design file ({error!r}) nor one of {', '.join(ENSEMBLES)}"
        ) from None


def default_syndrome_bits(num_rounds: int, limit_bits: float, efficiency: float | None) -> int:
    """m: `efficiency` times n H, or n H + 50 sqrt(n) without one (SI equation 23)."""
    if efficiency is None:
        return math.floor(limit_bits + 50 * math.sqrt(num_rounds))
    return math.floor(limit_bits * efficiency)
