"""Rounds per second of both nodes' kernels in a laboratory: three processes, no records.

python -m benchmarks.two_nodes [--rounds 20000] [--protocol late-type]
"""

import argparse
import multiprocessing
import os
import time
from typing import Any

from sim_devices.apparatus.client import ADDRESS_VARIABLE
from sim_devices.laboratory import LaboratoryConfiguration, LinkModel, start_laboratory
from tests.support.kernel_nodes import KernelNode, random_draws

SEED = 5


def play(role: str, protocol: str, num_rounds: int, results: Any) -> None:
    """One node; puts (role, rounds, seconds, seconds of CPU)."""
    node = KernelNode(role, random_draws(role, num_rounds, SEED), protocol=protocol)
    start, cpu = time.perf_counter(), time.process_time()
    node.run()
    results.put((role, len(node.rounds), time.perf_counter() - start, time.process_time() - cpu))
    node.close()


def main() -> None:
    """Print the rates of both nodes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20_000)
    parser.add_argument("--protocol", default="ordered")
    parser.add_argument("--success-probability", type=float, default=LinkModel().success_probability)
    options = parser.parse_args()
    link = LinkModel(success_probability=options.success_probability)
    laboratory, address = start_laboratory(
        LaboratoryConfiguration(seed=1, protocol=options.protocol, link=link)
    )
    os.environ[ADDRESS_VARIABLE] = address
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [
        context.Process(target=play, args=(role, options.protocol, options.rounds, results))
        for role in ("alice", "bob")
    ]
    for process in processes:
        process.start()
    for _ in processes:
        role, rounds, elapsed, cpu = results.get(timeout=600)
        print(
            f"{role:5s} {rounds} rounds  {rounds / elapsed:7.0f} rounds/s  "
            f"{1e6 * cpu / rounds:5.0f} us of CPU a round"
        )
    for process in processes:
        process.join()
    laboratory.terminate()


if __name__ == "__main__":
    main()
