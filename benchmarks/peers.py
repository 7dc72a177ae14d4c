"""Ratios against other programs for the same work, in one run: python -m benchmarks.peers

Peers are no dependencies of this project. Make an environment for them and run this script there; what is
missing is skipped:

    python3 -m venv peers && peers/bin/pip install . ldpc cryptomite randextract
    peers/bin/python -m benchmarks.peers --repeat 3

- ldpc: sum-product decoding of the same frame with the same matrix, flooding and serial schedule.
- cryptomite: Trevisan extraction (its own choice of design and field) of the first bits, scaled to all of
  them; Toeplitz hashing at full size.
- randextract: Toeplitz hashing at full size, the same bits; its Trevisan extractor takes days.

Every figure is processor seconds on one thread, the median of repeats: ratios stay fair where the machine has
other work. A frame that a peer does not decode shows as such. Prints JSON.
"""

from __future__ import annotations

import argparse
import importlib
import math
import statistics
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from diqkd.benchmarking import GAMMA, ONE_BIT_ERROR, PUBLISHED_KEY_BITS, QBER
from diqkd.console import print_json
from diqkd_postproc.machine import describe_machine
from diqkd_postproc.privacy_amplification import TrevisanExtractor
from diqkd_postproc.privacy_amplification.toeplitz import ToeplitzExtractor
from diqkd_postproc.reconciliation.decoder import decode
from diqkd_postproc.reconciliation.ensemble import conditional_entropy
from diqkd_postproc.reconciliation.syndrome_code import SyndromeCode, build_code

TEST_ERROR = 0.17
NUM_ROUNDS = 1_500_000
TOEPLITZ_BITS = 500_000


def peer(name: str) -> ModuleType | None:
    """The module, or None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def median_seconds(call: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Median processor seconds of `repeats` calls after one more, and the last result."""
    result = call()
    seconds = []
    for _ in range(repeats):
        started = time.process_time()
        result = call()
        seconds.append(time.process_time() - started)
    return statistics.median(seconds), result


def matrix_of(code: SyndromeCode) -> csr_matrix:
    """The parity-check matrix on the n real positions; those beyond are known zeros."""
    lifting = code.lifting
    copies = np.arange(lifting)
    base_rows = np.repeat(np.arange(code.row_start.size - 1), np.diff(code.row_start))
    checks = (base_rows[:, None] * lifting + copies).ravel()
    shifted = (copies + code.edge_shift[:, None]) % lifting
    variables = (code.edge_column[:, None] * lifting + shifted).ravel()
    real = (checks < code.syndrome_bits) & (variables < code.num_rounds)
    shape = (code.syndrome_bits, code.num_rounds)
    return csr_matrix((np.ones(real.sum(), dtype=np.uint8), (checks[real], variables[real])), shape=shape)


def compare_decoders(num_rounds: int, efficiency: float, repeats: int) -> dict[str, Any]:
    """Seconds and iterations for one frame."""
    m = math.floor(efficiency * num_rounds * conditional_entropy(GAMMA, QBER, TEST_ERROR))
    code = build_code(num_rounds, m, GAMMA, "near-limit", 1)
    rng = np.random.default_rng(1)
    is_test = (rng.random(num_rounds) < GAMMA).astype(np.uint8)
    rate = np.where(is_test, TEST_ERROR, QBER)
    error = (rng.random(num_rounds) < rate).astype(np.uint8)
    syndrome = code.syndrome(error, is_test)
    guess = np.zeros(num_rounds, dtype=np.uint8)
    seconds, ours = median_seconds(
        lambda: decode(code, syndrome, guess, is_test, QBER, TEST_ERROR), max(repeats, 3)
    )
    report: dict[str, Any] = {
        "num_rounds": num_rounds,
        "syndrome_bits": m,
        "efficiency": efficiency,
        "num_edges": int(code.edge_column.size) * code.lifting,
        "diqkd": {
            "seconds": seconds,
            "iterations": ours.iterations,
            "correct": bool(ours.converged and np.array_equal(ours.bits, error)),
        },
    }
    ldpc = peer("ldpc")
    if ldpc is None:
        return report
    order = code.positions(is_test)
    matrix = matrix_of(code)
    for schedule in ("parallel", "serial"):
        theirs = ldpc.BpDecoder(
            matrix,
            error_channel=list(rate[order]),
            max_iter=400,
            bp_method="product_sum",
            schedule=schedule,
            input_vector_type="syndrome",
        )
        started = time.process_time()
        word = theirs.decode(syndrome)
        took = time.process_time() - started
        report[f"ldpc {ldpc.__version__}, {schedule}"] = {
            "seconds": took,
            "iterations": int(theirs.iter),
            "correct": bool(theirs.converge and np.array_equal(word, error[order])),
            "ratio": took / seconds,
            "ratio_per_iteration": took / theirs.iter / (seconds / ours.iterations),
        }
    return report


def compare_trevisan(num_rounds: int, repeats: int, num_bits: int) -> dict[str, Any]:
    """Seconds for all 95 884 bits (at the published size)."""
    num_key_bits = max(1, num_rounds * PUBLISHED_KEY_BITS // NUM_ROUNDS)
    extractor = TrevisanExtractor(num_rounds, num_key_bits, ONE_BIT_ERROR)
    rng = np.random.default_rng(1)
    source = rng.integers(0, 2, num_rounds, dtype=np.uint8)
    seed = rng.integers(0, 2, extractor.seed_bits, dtype=np.uint8)
    ours, _ = median_seconds(lambda: extractor.extract(source, seed, num_threads=1), repeats)
    report: dict[str, Any] = {
        "num_input_bits": num_rounds,
        "num_output_bits": num_key_bits,
        "diqkd": {"seconds": ours},
    }
    cryptomite = peer("cryptomite")
    if cryptomite is None:
        return report
    error = ONE_BIT_ERROR * num_key_bits
    # The entropy for which its one-bit extractors give as many bits; they need 4 log(1/e1) + 6 more.
    entropy = math.ceil(num_key_bits + 4 * math.log2(num_key_bits / error) + 6)
    theirs = cryptomite.Trevisan(num_rounds, entropy, error)
    theirs.ext.load_source(
        source.astype(bool).tolist(),
        rng.integers(0, 2, theirs.ext.get_seed_length(), dtype=np.uint8).tolist(),
    )
    started = time.process_time()
    for index in range(num_bits):
        theirs.ext.extract_bit(index)
    scaled = (time.process_time() - started) / num_bits * num_key_bits
    report[f"cryptomite {cryptomite.__version__}"] = {
        "measured_bits": num_bits,
        "seconds_scaled": scaled,
        "ratio": scaled / ours,
    }
    return report


def compare_toeplitz(num_rounds: int, repeats: int) -> dict[str, Any]:
    """Seconds for a third of the input bits."""
    num_key_bits = num_rounds * TOEPLITZ_BITS // NUM_ROUNDS
    extractor = ToeplitzExtractor(num_rounds, num_key_bits)
    rng = np.random.default_rng(1)
    source = rng.integers(0, 2, num_rounds, dtype=np.uint8)
    seed = rng.integers(0, 2, extractor.seed_bits, dtype=np.uint8)
    ours, key = median_seconds(lambda: extractor.extract(source, seed), max(repeats, 3))
    report: dict[str, Any] = {
        "num_input_bits": num_rounds,
        "num_output_bits": num_key_bits,
        "diqkd": {"seconds": ours},
    }
    cryptomite = peer("cryptomite")
    if cryptomite is not None:
        theirs = cryptomite.Toeplitz(num_rounds, num_key_bits)
        lists = source.tolist(), seed.tolist()
        seconds, _ = median_seconds(lambda: theirs.extract(*lists), repeats)
        report[f"cryptomite {cryptomite.__version__}"] = {"seconds": seconds, "ratio": seconds / ours}
    randextract = peer("randextract")
    if randextract is not None:
        hashing = randextract.RandomnessExtractor.create(
            "toeplitz", input_length=num_rounds, output_length=num_key_bits
        )
        # T[i, j] is seed[i - j] there, negative indices from the end, and seed[i - j + n - 1] here.
        rolled = np.roll(seed, 1 - num_rounds)
        seconds, bits = median_seconds(lambda: hashing.extract(source, rolled), repeats)
        report["randextract"] = {
            "seconds": seconds,
            "ratio": seconds / ours,
            "same_bits": bool(np.array_equal(np.asarray(bits), key)),
        }
    return report


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=float, default=NUM_ROUNDS, help="for the extractors")
    parser.add_argument("--decoder-rounds", type=float, default=150_000, help="n (default: 150 000)")
    parser.add_argument("--efficiency", type=float, default=1.10, help="m / (n H) (default: 1.10)")
    parser.add_argument("--trevisan-bits", type=int, default=20, help="bits that cryptomite extracts")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", choices=["decoder", "trevisan", "toeplitz"])
    arguments = parser.parse_args()
    rounds = int(arguments.rounds)
    runs: dict[str, Callable[[], dict[str, Any]]] = {
        "decoder": lambda: compare_decoders(
            int(arguments.decoder_rounds), arguments.efficiency, arguments.repeat
        ),
        "trevisan": lambda: compare_trevisan(rounds, arguments.repeat, arguments.trevisan_bits),
        "toeplitz": lambda: compare_toeplitz(rounds, arguments.repeat),
    }
    chosen = [arguments.only] if arguments.only else list(runs)
    print_json({"machine": describe_machine()} | {name: runs[name]() for name in chosen})


if __name__ == "__main__":
    main()
