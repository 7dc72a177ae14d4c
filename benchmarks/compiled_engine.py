"""Rounds per second of compiled kernels: both nodes with the published link, each in a process of its own.

    python -m benchmarks.compiled_engine [rounds]

Prints rounds per second of CPU time of a node, which is what an idle core would do, and of real time with
whatever else the machine does. The compilation is not counted. Needs real ARTIQ and unicorn.
"""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from artiq.experiment import EnvExperiment, TBool, TInt32, TList, rpc

from diqkd_postproc.protocol.roles import ROLES
from sim_devices.laboratory.configuration import LaboratoryConfiguration
from sim_devices.laboratory.server import LaboratoryServer

ROOT = Path(__file__).parents[1]


class Coordinator:
    """One batch of settings; notes the time that it takes."""

    def __init__(self, num_rounds: int) -> None:
        self.num_rounds = num_rounds
        self.num_batches = 0
        self.stored = 0

    def begin_batch(self) -> TList(TInt32):
        self.num_batches += 1
        self.start = time.perf_counter(), time.process_time()
        return [i & 1 for i in range(self.num_rounds)] if self.num_batches == 1 else []

    @rpc(flags={"async"})
    def store(self, count, outcomes, types, indices, timestamps):
        self.stored += count

    def check(self, done, condition) -> TInt32:
        return self.num_rounds

    def end_batch(self, done, condition):
        real, cpu = time.perf_counter() - self.start[0], time.process_time() - self.start[1]
        assert done == self.stored == self.num_rounds
        print(
            f"{done / cpu:7.0f} rounds/s of CPU time   {done / real:7.0f} rounds/s of real time", flush=True
        )

    def wait_for_recovery(self, locked, ion_present) -> TBool:
        return True


def run_node(role: str, num_rounds: int) -> None:
    """In a process of its own, with the laboratory's address in the environment."""
    from diqkd_node.configuration import NodeConfiguration
    from diqkd_node.sequence.node import Node
    from sim_devices.artiq_run import DeviceDatabase, DeviceManager

    class Parent(EnvExperiment):
        def build(self):
            self.setattr_device("core")

    devices = DeviceManager(DeviceDatabase(ROOT / "device_db" / f"{role}_compiled.py"))
    parent = Parent((devices, None, None, {}))
    node = Node(parent, NodeConfiguration(role=role), Coordinator(num_rounds))
    node.prepare()
    print(f"{role:6s}", end="", flush=True)
    try:
        node.run_batches()
    finally:
        devices.close_devices()


def main() -> None:
    if len(sys.argv) == 3:
        run_node(sys.argv[1], int(sys.argv[2]))
        return
    num_rounds = sys.argv[1] if len(sys.argv) > 1 else "20000"
    server = LaboratoryServer(LaboratoryConfiguration(seed=1))
    thread = threading.Thread(target=server.serve)
    thread.start()
    environment = {"DIQKD_LABORATORY": f"{server.address[0]}:{server.address[1]}"}
    try:
        nodes = [
            subprocess.Popen(
                [sys.executable, __file__, role, num_rounds],
                env=os.environ | environment,
                stdout=subprocess.PIPE,
                text=True,
            )
            for role in ROLES
        ]
        for node in nodes:
            print(node.communicate()[0], end="")
    finally:
        server.stop()
        thread.join()


if __name__ == "__main__":
    main()
