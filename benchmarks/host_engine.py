"""Calls per second of the simulated drivers in a kernel, with an apparatus that does nothing.

    python -m benchmarks.host_engine

The budget of a driver call is 1 us: a round of key generation makes about 60 of them.
"""

import time

from artiq.coredevice.ad9910 import PHASE_MODE_TRACKING
from artiq.experiment import at_mu, delay_mu, kernel, now_mu, parallel

from sim_devices.drivers.ad9910 import AD9910
from sim_devices.drivers.edge_counter import EdgeCounter
from sim_devices.drivers.entangler import Entangler
from sim_devices.drivers.fastino import Fastino
from sim_devices.drivers.ttl import TTLInOut, TTLOut
from sim_devices.drivers.urukul import CPLD
from sim_devices.engines.host.core import Core

NUM_CALLS = 100_000


def _nothing(*values):
    return 0


class NullApparatus:
    """Takes everything, gives zeros."""

    def level_sink(self, key):
        return _nothing

    dds_sink = dac_sink = edge_source = first_edge_source = level_source = level_sink

    def entangler_source(self, key):
        return self

    def attach(self, core):
        """Its registers do not matter."""

    def clicks(self, start, window):
        return None

    def dark_runs_ahead(self, start, window, outputs):
        return 0

    def end_run(self, end, success):
        """Nothing follows from it."""


class Devices(dict):
    """Device manager."""

    get = dict.__getitem__


class Calls:
    """One kernel a driver method; each makes NUM_CALLS calls."""

    def __init__(self):
        devices = Devices(apparatus=NullApparatus())
        self.core = devices["core"] = Core(devices)
        devices["cpld"] = CPLD(devices, "spi", key="cpld")
        self.ttl = TTLOut(devices, 0, key="ttl")
        self.second = TTLOut(devices, 1, key="second")
        self.line = TTLInOut(devices, 2, key="line")
        self.counter = EdgeCounter(devices, 3, key="counter")
        self.entangler = Entangler(devices, 4, key="entangler")
        self.fastino = Fastino(devices, 5, key="fastino")
        self.dds = AD9910(devices, 4, "cpld", pll_n=32, key="dds")

    @kernel
    def empty_loop(self):
        for _ in range(NUM_CALLS):
            delay_mu(100)

    @kernel
    def ttl_pulse_mu(self):
        self.core.reset()
        for _ in range(NUM_CALLS):
            self.ttl.pulse_mu(1_000)
            delay_mu(1_000)

    @kernel
    def ttl_on(self):
        self.core.reset()
        for _ in range(NUM_CALLS):
            self.ttl.on()
            delay_mu(1_000)

    @kernel
    def edge_counter_gate_and_fetch(self):
        self.core.reset()
        for _ in range(NUM_CALLS):
            self.counter.gate_rising_mu(1_000)
            self.counter.fetch_count()
            delay_mu(10_000)

    @kernel
    def gate_and_timestamp(self):
        self.core.reset()
        for _ in range(NUM_CALLS):
            self.line.timestamp_mu(self.line.gate_rising_mu(1_000))
            delay_mu(10_000)

    @kernel
    def fastino_set_dac(self):
        self.core.reset()
        for _ in range(NUM_CALLS):
            self.fastino.set_dac(15, 1.0)
            delay_mu(1_000)

    @kernel
    def ad9910_set(self):
        self.core.reset()
        for _ in range(NUM_CALLS):
            self.dds.set(94e6, amplitude=0.5, phase_mode=PHASE_MODE_TRACKING, ref_time_mu=now_mu())
            delay_mu(10_000)

    @kernel
    def entangler_run_mu(self):
        self.core.reset()
        self.entangler.set_cycle_length_mu(968)
        self.entangler.set_heralds([3, 5])
        self.entangler.set_config(enable=True)
        for _ in range(NUM_CALLS):
            timestamp, _ = self.entangler.run_mu(500_000)
            at_mu(timestamp + 10_000)

    @kernel
    def cooling_and_window(self):
        self.core.reset()
        self.entangler.set_cycle_length_mu(968)
        self.entangler.set_heralds([3, 5])
        self.entangler.set_config(enable=True)
        for _ in range(NUM_CALLS):
            with parallel:
                self.ttl.pulse_mu(300_000)
                self.second.pulse_mu(300_000)
            timestamp, _ = self.entangler.run_mu(500_000)
            at_mu(timestamp + 10_000)


def main():
    """Print calls per second of every kernel, best of three."""
    calls = Calls()
    for name in [name for name, item in vars(Calls).items() if hasattr(item, "artiq_embedded")]:
        best = float("inf")
        for _ in range(3):
            start = time.perf_counter()
            getattr(calls, name)()
            best = min(best, time.perf_counter() - start)
        print(f"{name:30s} {NUM_CALLS / best / 1e6:6.2f} million/s   {best / NUM_CALLS * 1e9:5.0f} ns")


if __name__ == "__main__":
    main()
