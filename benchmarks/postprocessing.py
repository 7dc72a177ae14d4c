"""Post-processing of a whole record, both parties on this machine, cold and warm.

    python -m benchmarks.postprocessing                        # 1.5e6 rounds, all processors, 3 warm runs
    python -m benchmarks.postprocessing --efficiency 1.047     # with a syndrome near the Shannon limit
    python -m benchmarks.postprocessing --variable             # variable length, syndrome in parts

Writes the records of a simulated link (no kernels: outcomes drawn at S = 2.677, Q = 1.44 %), makes key
stores and runs `diqkd postprocess` for Alice and Bob as a user would, two processes over loopback. The first
run has an empty NUMBA_CACHE_DIR: it compiles everything, as the first run after an installation does. Seconds
are wall clock from starting both processes until both have ended; `_cpu_s` is the processor time of both
together, the figure to look at where the machine has other work. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import numpy as np

from diqkd.console import print_json
from diqkd_postproc.files import make_private_directory
from diqkd_postproc.key_store import KeyStore
from diqkd_postproc.machine import describe_machine
from diqkd_postproc.planning.design_point import DesignPoint
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.protocol.roles import ROLES, lost_test_probability
from diqkd_postproc.reconciliation.ensemble import conditional_entropy
from diqkd_postproc.records.sealed_record import RoundRecord, undisturbed

CHSH_SCORE, QBER = 2.677, 0.0144


def write_records(parameters: ProtocolParameters, folder: Path, seed: int) -> None:
    """Records of both nodes, with the errors that the scores say and nothing else of a real link."""
    rng = np.random.default_rng(seed)
    n = parameters.num_rounds
    is_test = (rng.random(n) < float(parameters.gamma)).astype(np.uint8)
    x = rng.integers(0, 2, n, dtype=np.uint8) & is_test
    y = np.where(is_test, rng.integers(0, 2, n, dtype=np.uint8), 2).astype(np.uint8)
    alice = rng.integers(0, 2, n, dtype=np.uint8)
    error = rng.random(n) < np.where(is_test, lost_test_probability(CHSH_SCORE), QBER)
    bob = (alice ^ error ^ (x & (y == 1))).astype(np.uint8)
    run_id = rng.bytes(16).hex()
    for role, setting, outcome in (("alice", x, alice), ("bob", y, bob)):
        make_private_directory(folder / role)
        RoundRecord(
            role=role,
            parameters=parameters,
            run_id=run_id,
            setting=setting,
            outcome=outcome,
            **undisturbed(is_test),
            herald_pattern=np.full(n, 0b0101, dtype=np.uint8),
            timestamp_mu=np.arange(n, dtype=np.int64) * 10_000_000,
            lost=np.zeros(n, dtype=np.uint8),
        ).write(folder / role / "record.h5")


def post_process(
    parameters: ProtocolParameters, folder: Path, environment: dict[str, str]
) -> tuple[float, float, dict[str, object]]:
    """Seconds and processor seconds until both parties have their key, and Bob's report.

    With records of their own in a new `folder`, since a record serves one session.
    """
    write_records(parameters, folder, seed=1)
    parameters.save(folder / "parameters.toml")
    stores = {role: folder / role / "keys" for role in ROLES}
    for store in KeyStore.create_pair(stores["alice"], stores["bob"], parameters, os.urandom):
        store.close()

    def start(role: str, *where: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "diqkd", "postprocess", role, "--json"]
        command += ["--parameters", str(folder / "parameters.toml"), "--keys", str(stores[role])]
        command += ["--record", str(folder / role / "record.h5"), *where]
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    started, used = time.perf_counter(), os.times()
    bob = start("bob", "--listen", "127.0.0.1:0")
    assert bob.stderr is not None
    found = re.search(r"127\.0\.0\.1:\d+", bob.stderr.readline())
    if found is None:
        raise SystemExit(f"Bob does not listen: {bob.communicate()[1]}")
    alice = start("alice", "--connect", found.group())
    outputs = [process.communicate() for process in (alice, bob)]
    seconds, now = time.perf_counter() - started, os.times()
    cpu = now.children_user + now.children_system - used.children_user - used.children_system
    if alice.returncode or bob.returncode:
        raise SystemExit("".join(error for _, error in outputs))
    return seconds, cpu, json.loads(outputs[1][0])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=float, default=1.5e6)
    parser.add_argument("--efficiency", type=float, help="m / (n H) (default: SI equation 23)")
    parser.add_argument(
        "--variable", action="store_true", help="proof renyi with a variable length, designed for this link"
    )
    parser.add_argument("--repeat", type=int, default=3, help="warm runs (default: 3)")
    parser.add_argument("--no-cold", action="store_true", help="keep the compiled code of this installation")
    arguments = parser.parse_args()
    n, gamma = int(arguments.rounds), Fraction(13, 256)
    limit = n * conditional_entropy(float(gamma), 0.018, 0.17)
    length = None if arguments.efficiency is None else int(arguments.efficiency * limit)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        point = DesignPoint(n, gamma, 2.64, 0.018, syndrome_bits=length)
        if arguments.variable:
            link = DesignPoint(
                n, gamma, CHSH_SCORE, QBER, proof="renyi", extractor="toeplitz", length="variable"
            )
            point, limit = link, n * link.shannon_limit
        parameters = point.parameters()
        os.environ["DIQKD_STATE_DIR"] = str(folder / "state")
        environment = dict(os.environ)
        cold = cold_cpu = None
        if not arguments.no_cold:
            environment["NUMBA_CACHE_DIR"] = str(folder / "numba")
            cold, cold_cpu, _ = post_process(parameters, folder / "cold", environment)
        warm = [
            post_process(parameters, folder / f"warm{run}", environment) for run in range(arguments.repeat)
        ]
    seconds = [wall for wall, _, _ in warm]
    print_json(
        {
            "machine": describe_machine(),
            "num_rounds": n,
            "syndrome_bits": parameters.syndrome_bits,
            "efficiency": parameters.syndrome_bits / limit,
            "key_bits": parameters.key_bits,
            "cold_s": cold,
            "cold_cpu_s": cold_cpu,
            "warm_median_s": statistics.median(seconds),
            "warm_min_s": min(seconds),
            "warm_cpu_s": statistics.median(cpu for _, cpu, _ in warm),
            "bob": warm[-1][2],
        }
    )


if __name__ == "__main__":
    main()
