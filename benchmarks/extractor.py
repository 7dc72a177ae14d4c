"""How fast the extractor and the hash run on this machine, at the published size.

    python benchmarks/extractor.py                      fastest instruction set, all processors
    python benchmarks/extractor.py --all --threads 1    every instruction set this machine has

Extracts l = 95 884 bits from n = 1 500 000 with the seed of 1 201 886 bits, once cold (with compilation, or
with loading what an earlier run has compiled) and `--repeat` times warm, and hashes a long message. Prints
JSON: the times in seconds, medians of the warm runs, the peak memory of the process in MiB, and the
processor. `_cpu_s` is processor time over all threads: the figure to look at where the machine has other
work. Every instruction set must give the same bits; a difference ends the run with exit code 1.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from diqkd_postproc.authentication import universal_hash
from diqkd_postproc.privacy_amplification import TrevisanExtractor

NUM_INPUT_BITS = 1_500_000
NUM_OUTPUT_BITS = 95_884
ONE_BIT_ERROR = (1e-10 - 2 * 4.9935e-11) / NUM_OUTPUT_BITS


def processor() -> str:
    """Name of the processor, as the operating system has it."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def peak_memory_mib() -> float | None:
    """Largest resident size of this process so far; None where the system does not tell."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


class Timed:
    """One call: its wall-clock seconds, processor seconds and result."""

    def __init__(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> None:
        cpu, wall = time.process_time(), time.perf_counter()
        self.result = function(*arguments, **options)
        self.wall = time.perf_counter() - wall
        self.cpu = time.process_time() - cpu


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--all", action="store_true", help="every instruction set, not only the fastest")
    parser.add_argument("--threads", type=int, default=None, help="default: the processors of this process")
    parser.add_argument("--repeat", type=int, default=3, help="warm runs, default 3")
    parser.add_argument(
        "--message-mb", type=int, default=100, help="length of the hashed message, default 100"
    )
    arguments = parser.parse_args()

    importing = Timed(importlib.import_module, "diqkd_postproc.privacy_amplification.carryless")
    available = importing.result.instruction_sets()
    extractor = TrevisanExtractor(NUM_INPUT_BITS, NUM_OUTPUT_BITS, ONE_BIT_ERROR)
    generator = np.random.default_rng(1)
    source = generator.integers(0, 2, NUM_INPUT_BITS, dtype=np.uint8)
    seed = generator.integers(0, 2, extractor.seed_bits, dtype=np.uint8)
    hash_seed, message = generator.bytes(32), generator.bytes(arguments.message_mb * 10**6)

    expected = None
    results: dict[str, Any] = {}
    for name in available if arguments.all else available[:1]:
        options = {"instruction_set": name, "num_threads": arguments.threads}
        cold = Timed(extractor.extract, source, seed, **options)
        warm = [Timed(extractor.extract, source, seed, **options) for _ in range(arguments.repeat)]
        universal_hash(hash_seed, b"", instruction_set=name)
        hashing = Timed(universal_hash, hash_seed, message, instruction_set=name)
        results[name] = {
            "extract_cold_s": cold.wall,
            "extract_warm_s": statistics.median(run.wall for run in warm),
            "extract_warm_cpu_s": statistics.median(run.cpu for run in warm),
            "hash_gb_per_s": len(message) / 1e9 / hashing.wall,
            "hash_gb_per_cpu_s": len(message) / 1e9 / hashing.cpu,
        }
        if expected is not None and not np.array_equal(cold.result, expected):
            print(f"{name} gives other bits than {available[0]}", file=sys.stderr)
            return 1
        expected = cold.result
    report = {
        "processor": processor(),
        "processors": os.cpu_count(),
        "threads": arguments.threads,
        "numba_import_s": importing.wall,
        "peak_memory_mib": peak_memory_mib(),
        "instruction_sets": results,
    }
    print(json.dumps(report, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
