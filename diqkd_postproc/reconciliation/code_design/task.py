"""Point of a campaign: a code, the channel its decoder expects, and the actual channel.

A frame is what a run makes of n rounds: round types drawn with probability gamma, Alice's bits, errors at the
rates of their round type, the syndrome by the real encoder, the word by the real decoder. It *fails* if the
decoder does not converge, with the last part of the syndrome where there are several, which the protocol
notices; it is *undetected* if the decoder converges on another word, which only the universal hash can
notice.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from diqkd_postproc.machine import peak_memory_mib, processor_name
from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.parameters import SYNDROME_CODE_SEED
from diqkd_postproc.protocol.roles import lost_test_probability
from diqkd_postproc.protocol.version import __version__
from diqkd_postproc.reconciliation.ensemble import DegreeEnsemble, conditional_entropy

if TYPE_CHECKING:
    from diqkd_postproc.reconciliation.nested_code import NestedCode

MAX_ITERATIONS = 400
DECODER = "sum-product 2"
"""To be counted up when the decoder changes in a way that statistics could show."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameTask:
    """What decides the statistics of a frame.

    gamma: test probability; chsh_score, qber: the channel that the decoder assumes; true_chsh_score,
    true_qber: the channel of the frames; increments: lengths of the syndrome after its further parts. Raises
    ParameterError for values out of range.
    """

    num_rounds: int
    syndrome_bits: int
    gamma: Fraction
    chsh_score: float
    qber: float
    true_chsh_score: float
    true_qber: float
    ensemble: DegreeEnsemble
    code_seed: int = SYNDROME_CODE_SEED
    max_iterations: int = MAX_ITERATIONS
    increments: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.gamma < 1:
            raise ParameterError(f"gamma={self.gamma} is not between 0 and 1")
        for name in ("chsh_score", "true_chsh_score"):
            if not 0.0 <= (value := getattr(self, name)) <= 4.0:
                raise ParameterError(f"{name}={value} is not within 0..4")
        for name in ("qber", "true_qber"):
            if not 0.0 <= (value := getattr(self, name)) <= 0.5:
                raise ParameterError(f"{name}={value} is not within 0..0.5")

    @property
    def limit_bits(self) -> float:
        """n H of the design channel, the Shannon limit of the syndrome length."""
        return self.num_rounds * conditional_entropy(
            float(self.gamma), self.qber, lost_test_probability(self.chsh_score)
        )

    @property
    def true_limit_bits(self) -> float:
        """n H of the channel of the frames."""
        return self.num_rounds * conditional_entropy(
            float(self.gamma), self.true_qber, lost_test_probability(self.true_chsh_score)
        )

    @property
    def syndrome_totals(self) -> tuple[int, ...]:
        """m_1 < ... < m_J: length of the syndrome after each part, bits."""
        return (self.syndrome_bits, *self.increments)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values of all fields; without increments as before there were any."""
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        if not values["increments"]:
            del values["increments"]
        return values | {"gamma": str(self.gamma), "ensemble": self.ensemble.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FrameTask:
        """The inverse of `to_dict`; raises ParameterError where a field is missing or unknown."""
        try:
            ensemble = DegreeEnsemble.from_dict(values["ensemble"])
            further = {"increments": tuple(values.get("increments", ())), "ensemble": ensemble}
            return cls(**{**values, **further, "gamma": Fraction(values["gamma"])})
        except (KeyError, TypeError, ValueError) as error:
            raise ParameterError(f"not a task of a campaign: {error}") from None

    def code(self) -> NestedCode:
        """The code under test, or the family; kept in the process, as it takes seconds to construct."""
        return _code(json.dumps(self.to_dict(), sort_keys=True))

    @property
    def strong_id(self) -> str:
        """SHA-256 over the task, the decoder and the digest of the matrix: equal statistics, equal name."""
        values = self.to_dict() | {"decoder": DECODER, "code_digest": self.code().digest}
        del values["ensemble"]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


@lru_cache(maxsize=2)
def _code(task_json: str) -> NestedCode:
    # Imported on first use: numba is slow to import, and combining or plotting needs none of it.
    from diqkd_postproc.reconciliation.nested_code import build_nested_code

    task = FrameTask.from_dict(json.loads(task_json))
    gamma = float(task.gamma)
    return build_nested_code(task.num_rounds, task.syndrome_totals, gamma, task.ensemble, task.code_seed)


def run_frames(task_values: Mapping[str, Any], seed: int, num_frames: int) -> dict[str, Any]:
    """Simulate a batch of frames; the row that belongs into the results, see `results`.

    task_values: `FrameTask.to_dict()`. Frame i is made of the seed sequence (seed, i), so a batch can be
    repeated. Only decoding is timed.
    """
    from diqkd_postproc.reconciliation.decoder import decode

    task = FrameTask.from_dict(task_values)
    code = task.code()
    rates = np.array([task.true_qber, lost_test_probability(task.true_chsh_score)], dtype=np.float32)
    failures = undetected = 0
    parts: Counter[str] = Counter()
    iterations: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    started = time.perf_counter()
    for frame in range(num_frames):
        rng = np.random.default_rng([seed, frame])
        is_test = (rng.random(task.num_rounds) < float(task.gamma)).astype(np.uint8)
        error = (rng.random(task.num_rounds, dtype=np.float32) < rates[is_test]).astype(np.uint8)
        truth = rng.integers(0, 2, task.num_rounds, dtype=np.uint8)
        syndrome = code.syndrome(truth, is_test)
        begin = time.perf_counter()
        messages, num_iterations = None, 0
        for part, total in enumerate(task.syndrome_totals, start=1):
            result = decode(
                code.at(total),
                code.checks(syndrome[:total]),
                truth ^ error,
                is_test,
                task.qber,
                lost_test_probability(task.chsh_score),
                max_iterations=task.max_iterations,
                start=messages,
                can_extend=part < len(task.syndrome_totals),
            )
            messages = result.messages
            num_iterations += result.iterations
            if result.converged:
                break
        seconds[f"{time.perf_counter() - begin:.3g}"] += 1
        iterations[str(num_iterations)] += 1
        parts[str(part)] += 1
        failures += not result.converged
        undetected += bool(result.converged and not np.array_equal(result.bits, truth))
    return {
        "strong_id": task.strong_id,
        "seeds": [seed],
        "frames": num_frames,
        "failures": failures,
        "undetected": undetected,
        "parts": dict(parts),
        "iterations": dict(iterations),
        "decode_seconds": dict(seconds),
        "wall_seconds": round(time.perf_counter() - started, 3),
        "peak_memory_mib": peak_memory_mib(),
        "code_digest": code.digest,
        "processors": [processor_name()],
        "version": __version__,
        "task": task.to_dict(),
    }
