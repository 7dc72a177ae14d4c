"""Timings of the numerics on this machine, each at the size of a run of n rounds.

Every figure is the median of warm repeats, with the fastest and the first (`cold`: with compilation, or with
loading what was compiled before) beside it. Processor seconds over all threads are given too: the figure to
trust where the machine has other work.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar

import numpy as np

from diqkd_postproc.machine import describe_machine, peak_memory_mib
from diqkd_postproc.protocol.errors import DiqkdError, ParameterError
from diqkd_postproc.protocol.roles import lost_test_probability

Result = TypeVar("Result")
Subject = Literal["decoder", "extractor", "toeplitz", "hash"]

PUBLISHED_ROUNDS = 1_500_000
PUBLISHED_KEY_BITS = 95_884
ONE_BIT_ERROR = (1e-10 - 2 * 4.9935e-11) / PUBLISHED_KEY_BITS
"""e_PA / l of the published run, SI Table S1."""
TOEPLITZ_KEY_SHARE = 1 / 3
"""Output bits per round: a key length that better proofs may reach."""
EFFICIENCY = 1.047
GAMMA, CHSH_SCORE, QBER = 13 / 256, 2.64, 0.018
HASHED_BYTES = 100_000_000


@dataclass(frozen=True, slots=True)
class Timing:
    """Wall-clock seconds and processor seconds of one call."""

    wall: float
    cpu: float


def timed(call: Callable[[], Result]) -> tuple[Result, Timing]:
    """Result and times of one call."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = call()
    return result, Timing(time.perf_counter() - wall, time.process_time() - cpu)


def summary(cold: Timing, warm: list[Timing]) -> dict[str, float]:
    """Median and minimum of the warm calls, seconds, and the cold one."""
    return {
        "median_s": statistics.median(run.wall for run in warm),
        "min_s": min(run.wall for run in warm),
        "median_cpu_s": statistics.median(run.cpu for run in warm),
        "cold_s": cold.wall,
    }


def repeated(call: Callable[[], Result], repeats: int) -> tuple[list[Result], dict[str, float]]:
    """Results and `summary` of one cold and `repeats` warm calls."""
    runs = [timed(call) for _ in range(repeats + 1)]
    return [result for result, _ in runs], summary(runs[0][1], [timing for _, timing in runs[1:]])


def benchmark_decoder(
    num_rounds: int, repeats: int, syndrome_bits: int | None = None, ensemble_name: str = "near-limit"
) -> dict[str, Any]:
    """Construction, encoding and decoding at the published channel; every decoding has a fresh frame.

    syndrome_bits: default 1.047 n H. One thread.
    """
    from diqkd_postproc.reconciliation.decoder import decode
    from diqkd_postproc.reconciliation.ensemble import ENSEMBLES, conditional_entropy
    from diqkd_postproc.reconciliation.syndrome_code import build_code

    test_error = lost_test_probability(CHSH_SCORE)
    limit = num_rounds * conditional_entropy(GAMMA, QBER, test_error)
    m = math.floor(EFFICIENCY * limit) if syndrome_bits is None else syndrome_bits
    if ensemble_name not in ENSEMBLES:
        raise ParameterError(f"design {ensemble_name!r} is not one of {', '.join(ENSEMBLES)}")
    ensemble = ENSEMBLES[ensemble_name]
    started = time.perf_counter()
    code = build_code(num_rounds, m, GAMMA, ensemble, 1)
    build_seconds = time.perf_counter() - started
    rng = np.random.default_rng(1)
    encodings, decodings, iterations, failures = [], [], [], 0
    for _ in range(repeats + 1):
        is_test = (rng.random(num_rounds) < GAMMA).astype(np.uint8)
        error = (rng.random(num_rounds) < np.where(is_test, test_error, QBER)).astype(np.uint8)
        truth = rng.integers(0, 2, num_rounds, dtype=np.uint8)
        syndrome, encoding = timed(partial(code.syndrome, truth, is_test))
        result, decoding = timed(partial(decode, code, syndrome, truth ^ error, is_test, QBER, test_error))
        encodings.append(encoding)
        decodings.append(decoding)
        iterations.append(result.iterations)
        failures += not (result.converged and np.array_equal(result.bits, truth))
    return {
        "num_rounds": num_rounds,
        "syndrome_bits": m,
        "efficiency": m / limit,
        "ensemble": ensemble.name,
        "build_s": build_seconds,
        "encode": summary(encodings[0], encodings[1:]),
        "decode": summary(decodings[0], decodings[1:]),
        "iterations_median": statistics.median(iterations),
        "ns_per_edge_and_iteration": 1e9
        * statistics.median(run.wall / n for run, n in zip(decodings[1:], iterations[1:], strict=True))
        / (code.edge_column.size * code.lifting),
        "frames": repeats + 1,
        "failures": failures,
    }


def _instruction_sets(every: bool) -> tuple[str, ...]:
    from diqkd_postproc.fields.carryless import instruction_sets

    return instruction_sets() if every else instruction_sets()[:1]


def benchmark_extractor(
    num_rounds: int, repeats: int, num_threads: int | None = None, every_instruction_set: bool = False
) -> dict[str, Any]:
    """Trevisan extraction, scaled from 1.5e6 -> 95 884 bits.

    Raises DiqkdError if two instruction sets give different bits.
    """
    from diqkd_postproc.privacy_amplification import TrevisanExtractor

    num_key_bits = max(1, num_rounds * PUBLISHED_KEY_BITS // PUBLISHED_ROUNDS)
    extractor = TrevisanExtractor(num_rounds, num_key_bits, ONE_BIT_ERROR)
    rng = np.random.default_rng(1)
    source = rng.integers(0, 2, num_rounds, dtype=np.uint8)
    seed = rng.integers(0, 2, extractor.seed_bits, dtype=np.uint8)
    report: dict[str, Any] = {
        "num_input_bits": num_rounds,
        "num_output_bits": num_key_bits,
        "seed_bits": extractor.seed_bits,
    }
    expected: Any = None
    for name in _instruction_sets(every_instruction_set):
        extract = partial(extractor.extract, source, seed, num_threads=num_threads, instruction_set=name)
        keys, report[name] = repeated(extract, repeats)
        expected = keys[0] if expected is None else expected
        if any(not np.array_equal(key, expected) for key in keys):
            raise DiqkdError(f"the extractor gives other bits with {name}: do not use it on this machine")
    return report


def _benchmark_toeplitz(num_rounds: int, repeats: int) -> dict[str, Any]:
    """Toeplitz extraction, scaled from 1.5e6 -> 500 000 bits."""
    from diqkd_postproc.privacy_amplification.toeplitz import ToeplitzExtractor

    num_key_bits = max(1, int(num_rounds * TOEPLITZ_KEY_SHARE))
    extractor = ToeplitzExtractor(num_rounds, num_key_bits)
    rng = np.random.default_rng(1)
    source = rng.integers(0, 2, num_rounds, dtype=np.uint8)
    seed = rng.integers(0, 2, extractor.seed_bits, dtype=np.uint8)
    return {
        "num_input_bits": num_rounds,
        "num_output_bits": num_key_bits,
        "seed_bits": extractor.seed_bits,
        **repeated(partial(extractor.extract, source, seed), repeats)[1],
    }


def benchmark_hash(num_bytes: int, repeats: int, every_instruction_set: bool = False) -> dict[str, Any]:
    """Universal hash of a long message, one thread.

    Raises DiqkdError if two instruction sets give different hashes.
    """
    from diqkd_postproc.authentication import universal_hash

    rng = np.random.default_rng(1)
    seed, message = rng.bytes(32), rng.bytes(num_bytes)
    report: dict[str, Any] = {"num_bytes": num_bytes}
    hashes: set[bytes] = set()
    for name in _instruction_sets(every_instruction_set):
        found, times = repeated(partial(universal_hash, seed, message, instruction_set=name), repeats)
        hashes.update(found)
        report[name] = times | {
            "gb_per_s": num_bytes / 1e9 / times["median_s"],
            "gb_per_cpu_s": num_bytes / 1e9 / times["median_cpu_s"],
        }
    if len(hashes) > 1:
        raise DiqkdError("instruction sets give different hashes: do not use this machine")
    return report


def run_benchmarks(
    subjects: tuple[Subject, ...],
    num_rounds: int = PUBLISHED_ROUNDS,
    repeats: int = 5,
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Reports by subject, the machine, and the peak memory of the process in MiB.

    options: syndrome_bits, ensemble_name, num_threads, every_instruction_set. Raises ParameterError for
    fewer than one repeat.
    """
    if repeats < 1:
        raise ParameterError(f"repeats={repeats} is not at least 1")
    chosen = dict(options or {})
    every = bool(chosen.get("every_instruction_set"))
    runs: dict[str, Callable[[], dict[str, Any]]] = {
        "decoder": lambda: benchmark_decoder(
            num_rounds, repeats, chosen.get("syndrome_bits"), chosen.get("ensemble_name") or "near-limit"
        ),
        "extractor": lambda: benchmark_extractor(num_rounds, repeats, chosen.get("num_threads"), every),
        "toeplitz": lambda: _benchmark_toeplitz(num_rounds, repeats),
        "hash": lambda: benchmark_hash(HASHED_BYTES, repeats, every),
    }
    report: dict[str, Any] = {"machine": describe_machine()}
    for subject in subjects:
        report[subject] = runs[subject]()
    return report | {"peak_memory_mib": peak_memory_mib()}
