"""Passes of a loop that are left out: the kernel ends as it does with all of them played."""

import pytest
from artiq.experiment import at_mu, kernel, now_mu, parallel

from sim_devices.drivers.entangler import Entangler
from sim_devices.drivers.ttl import TTLOut
from sim_devices.engines.entangler_core import Clicks
from tests.support.fake_apparatus import FakeApparatus, FakeDevices, Kernels

DARK = 0x3FFF
HERALD_IN_RUN = 12
HERALD = Clicks(40, [(700, 0), (705, 1)], [(700, 0), (705, 1)])


class Source(FakeApparatus):
    """Heralds in one run, and knows how many dark ones come before it."""

    def __init__(self, knows):
        super().__init__()
        self.knows = knows
        self.num_left = HERALD_IN_RUN
        self.num_played = 0

    def clicks(self, start, window):
        self.num_played += 1
        self.num_left -= 1
        return HERALD if self.num_left < 0 else None

    def dark_runs_ahead(self, start, window, outputs):
        return self.num_left if self.knows and outputs == {"ttl"} else 0

    def skip_dark_runs(self, window, num):
        self.num_left -= num


class Search(Kernels):
    def __init__(self, knows, offset_mu=0, **core_arguments):
        devices = FakeDevices(**core_arguments)
        self.source = devices.apparatus = devices.devices["apparatus"] = Source(knows)
        super().__init__(devices)
        self.other = devices.add(TTLOut, "other", 1)
        self.entangler = devices.add(Entangler, "entangler", 2)
        self.offset_mu = offset_mu

    @kernel
    def begin(self):
        self.core.reset()
        self.entangler.set_config(enable=True, standalone=True)
        self.entangler.set_cycle_length_mu(968)
        self.entangler.set_heralds([0b0011])
        self.entangler.set_timing_mu(0b001010, 500, 600)
        for gate in range(4):
            self.entangler.set_timing_mu(0b001100 + gate, 0, 800)
        at_mu(now_mu() + 10_000 + self.offset_mu)

    @kernel
    def search(self, num_left):
        self.begin()
        timestamp, reason = self.entangler.run_mu(100_000)
        while reason == DARK and num_left > 0:
            at_mu(timestamp + 5_000)
            with parallel:
                self.ttl.pulse_mu(30_000)
            timestamp, reason = self.entangler.run_mu(100_000)
            num_left -= 1
        return timestamp, reason, num_left, now_mu(), self.core.get_rtio_counter_mu()

    @kernel
    def search_with_another_light(self, num_left):
        self.begin()
        timestamp, reason = self.entangler.run_mu(100_000)
        while reason == DARK and num_left > 0:
            at_mu(timestamp + 5_000)
            self.other.pulse_mu(30_000)
            timestamp, reason = self.entangler.run_mu(100_000)
            num_left -= 1
        return timestamp, reason, num_left, now_mu(), self.core.get_rtio_counter_mu()

    @kernel
    def search_that_notes(self, num_left):
        self.begin()
        total = 0
        timestamp, reason = self.entangler.run_mu(100_000)
        while reason == DARK and num_left > 0:
            at_mu(timestamp + 5_000)
            timestamp, reason = self.entangler.run_mu(100_000)
            total += num_left
            num_left -= 1
        return timestamp, reason, num_left, now_mu(), total


@pytest.mark.parametrize("offset_mu", [0, 3])
@pytest.mark.parametrize("budget", [1, 5, HERALD_IN_RUN - 1, HERALD_IN_RUN, 100])
def test_the_search_ends_as_with_all_passes(budget: int, offset_mu: int) -> None:
    played, skipping = Search(False, offset_mu), Search(True, offset_mu)
    assert skipping.search(budget) == played.search(budget)
    assert played.source.num_played == min(budget, HERALD_IN_RUN) + 1
    assert skipping.source.num_played <= min(4, played.source.num_played)


@pytest.mark.parametrize("name", ["search_with_another_light", "search_that_notes"])
def test_other_loops_are_played(name: str) -> None:
    """Light that may do something to the ion, or a variable that is no counter."""
    played, knowing = Search(False), Search(True)
    assert getattr(knowing, name)(100) == getattr(played, name)(100)
    assert knowing.source.num_played == HERALD_IN_RUN + 1


def test_a_trace_has_every_event() -> None:
    search = Search(True, trace=True)
    search.search(100)
    assert search.source.num_played == HERALD_IN_RUN + 1
