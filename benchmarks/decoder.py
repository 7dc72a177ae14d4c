"""Frame failures, undetected errors, iterations and seconds of reconciliation on simulated frames.

    python benchmarks/decoder.py                                  # the published design, for a minute
    python benchmarks/decoder.py --efficiency 1.047 --frames 200  # near the Shannon limit
    python benchmarks/decoder.py --true-s 2.677 --true-q 0.0144   # the link better than designed for

Every frame draws its round types, Alice's bits and the errors afresh; a frame fails if the decoder does not
converge, and is undetected if it converges on another word. The interval is Clopper-Pearson, 95 %.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import sys
import time

import numpy as np
from scipy.stats import beta


def frequency_interval(events: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Clopper-Pearson interval of a probability from `events` in `trials`."""
    tail = (1 - confidence) / 2
    low = 0.0 if events == 0 else float(beta.ppf(tail, events, trials - events + 1))
    high = 1.0 if events == trials else float(beta.ppf(1 - tail, events + 1, trials - events))
    return low, high


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=float, default=1.5e6, help="block length (default: 1.5e6)")
    parser.add_argument("--gamma", type=float, default=13 / 256, help="test probability (default: 13/256)")
    parser.add_argument("--s", type=float, default=2.64, help="CHSH score of the design (default: 2.64)")
    parser.add_argument("--q", type=float, default=0.018, help="error rate of key rounds (default: 0.018)")
    parser.add_argument("--true-s", type=float, help="CHSH score of the channel (default: as designed)")
    parser.add_argument("--true-q", type=float, help="error rate of the channel (default: as designed)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--syndrome-bits", type=int, help="m (default: n H + 50 sqrt(n), SI equation 23)")
    length.add_argument("--efficiency", type=float, help="m as a multiple of the Shannon limit n H")
    parser.add_argument("--ensemble", help="name of a degree ensemble (default: chosen by the length)")
    parser.add_argument("--code-seed", type=int, default=20210929, help="seed of the construction")
    parser.add_argument("--frames", type=int, default=1_000_000, help="stop after so many frames")
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="stop after so many seconds (default: 60)"
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of the simulated frames (default: 1)")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    started = time.perf_counter()
    from diqkd_postproc.reconciliation import decode
    from diqkd_postproc.reconciliation.ensemble import ENSEMBLES, conditional_entropy
    from diqkd_postproc.reconciliation.ensemble_choice import choose_ensemble
    from diqkd_postproc.reconciliation.syndrome_code import build_code

    import_seconds = time.perf_counter() - started
    n, gamma = round(arguments.rounds), arguments.gamma
    test_error = (4 - arguments.s) / 8
    true_q = arguments.q if arguments.true_q is None else arguments.true_q
    true_test_error = test_error if arguments.true_s is None else (4 - arguments.true_s) / 8
    limit = n * conditional_entropy(gamma, arguments.q, test_error)
    if arguments.syndrome_bits is not None:
        m = arguments.syndrome_bits
    elif arguments.efficiency is not None:
        m = math.floor(arguments.efficiency * limit)
    else:
        m = math.floor(limit + 50 * math.sqrt(n))
    ensemble = (
        ENSEMBLES[arguments.ensemble]
        if arguments.ensemble
        else choose_ensemble(n, m, gamma, arguments.q, test_error)
    )
    started = time.perf_counter()
    code = build_code(n, m, gamma, ensemble, arguments.code_seed)
    build_seconds = time.perf_counter() - started

    rng = np.random.default_rng(arguments.seed)
    failures = undetected = 0
    decode_seconds: list[float] = []
    iterations: list[int] = []
    started = time.perf_counter()
    while len(iterations) < arguments.frames and time.perf_counter() - started < arguments.seconds:
        is_test = (rng.random(n, dtype=np.float32) < gamma).astype(np.uint8)
        error_rate = np.where(is_test, np.float32(true_test_error), np.float32(true_q))
        error = (rng.random(n, dtype=np.float32) < error_rate).astype(np.uint8)
        truth = rng.integers(0, 2, n, dtype=np.uint8)
        syndrome = code.syndrome(truth, is_test)
        begin = time.perf_counter()
        result = decode(code, syndrome, truth ^ error, is_test, arguments.q, test_error)
        decode_seconds.append(time.perf_counter() - begin)
        iterations.append(result.iterations)
        failures += not result.converged
        undetected += result.converged and not np.array_equal(result.bits, truth)
        if sys.stderr.isatty():
            print(
                f"\r{len(iterations)} frames, {failures} failures, {undetected} undetected",
                end="",
                file=sys.stderr,
            )
    frames = len(iterations)
    report = {
        "num_rounds": n,
        "syndrome_bits": m,
        "efficiency": m / limit,
        "true_efficiency": m / (n * conditional_entropy(gamma, true_q, true_test_error)),
        "ensemble": ensemble.name,
        "code_digest": code.digest,
        "frames": frames,
        "failures": failures,
        "undetected": undetected,
        "failure_rate_interval": frequency_interval(failures + undetected, frames),
        "iterations_median": statistics.median(iterations),
        "iterations_max": max(iterations),
        "decode_seconds_first": decode_seconds[0],
        "decode_seconds_median": statistics.median(decode_seconds),
        "decode_seconds_max": max(decode_seconds),
        "build_seconds": build_seconds,
        "import_seconds": import_seconds,
        "machine": platform.processor() or platform.machine(),
    }
    if arguments.json:
        print(json.dumps(report))
    else:
        print("\n".join(f"{name:24} {value}" for name, value in report.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
