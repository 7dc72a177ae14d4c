"""Output and input events: CPU time and underflows, order and collisions, gates and samples."""

import numpy as np
import pytest
from artiq.experiment import (
    RTIOUnderflow,
    at_mu,
    delay,
    delay_mu,
    kernel,
    ms,
    now_mu,
    us,
)

from sim_devices.drivers.ttl import TTLInOut
from sim_devices.engines.host.timeline import RTIOCollisionError, RTIOSequenceError
from tests.support.fake_apparatus import FakeDevices, Kernels


class Outputs(Kernels):
    @kernel
    def late_pulse(self):
        self.core.reset()
        self.ttl.pulse_mu(100)
        at_mu(self.core.get_rtio_counter_mu() - 10)
        self.ttl.on()

    @kernel
    def recovers(self):
        self.core.reset()
        num_underflows = 0
        for _ in range(3):
            try:
                delay(-1 * ms)
                self.ttl.pulse_mu(100)
            except RTIOUnderflow:
                num_underflows += 1
                self.core.break_realtime()
                self.ttl.pulse_mu(100)
        return num_underflows

    @kernel
    def many(self, period_mu):
        self.core.reset()
        for _ in range(10_000):
            self.ttl.pulse_mu(period_mu // 2)
            delay_mu(period_mu // 2)

    @kernel
    def backward(self):
        self.core.reset()
        delay_mu(1000)
        self.ttl.on()
        delay_mu(-500)
        self.ttl.off()

    @kernel
    def collide(self, gap_mu):
        self.core.reset()
        at_mu(now_mu() & ~np.int64(7))
        self.ttl.on()
        delay_mu(gap_mu)
        self.ttl.off()

    @kernel
    def collide_in_pulse(self):
        self.core.reset()
        at_mu(now_mu() & ~np.int64(7))
        self.ttl.pulse_mu(3)


def test_underflow_names_channel_and_slack():
    outputs = Outputs()
    with pytest.raises(RTIOUnderflow, match=r"channel ttl, slack -510 mu"):
        outputs.late_pulse()
    assert len(outputs.events) == 2


def test_underflow_is_caught_in_the_kernel():
    outputs = Outputs()
    assert outputs.recovers() == 3
    assert len(outputs.events) == 6


def test_slack_runs_out_when_events_come_faster_than_the_cpu():
    Outputs().many(1_000)
    with pytest.raises(RTIOUnderflow):
        Outputs().many(900)
    devices = FakeDevices(cpu_model={"output_mu": 100})
    Outputs(devices).many(900)


def test_order_and_collision_are_reported():
    with pytest.raises(RTIOSequenceError, match="ttl"):
        Outputs().backward()
    with pytest.raises(RTIOCollisionError, match="ttl"):
        Outputs().collide(7)
    with pytest.raises(RTIOCollisionError):
        Outputs().collide_in_pulse()
    Outputs().collide(0)
    Outputs().collide(8)


def test_reset_clears_the_order_of_events():
    outputs = Outputs()
    for _ in range(2):
        with pytest.raises(RTIOSequenceError):
            outputs.backward()


class Inputs(Kernels):
    def __init__(self):
        super().__init__()
        self.line = self.devices.add(TTLInOut, "line", 1)
        self.levels = []

    @kernel
    def edges(self, duration):
        self.core.reset()
        at_mu(20_000_000)
        end = self.line.gate_rising_mu(duration)
        first = self.line.timestamp_mu(end)
        slack = now_mu() - self.core.get_rtio_counter_mu()
        return first, self.line.timestamp_mu(end), self.line.timestamp_mu(end), slack

    @kernel
    def count(self):
        self.core.reset()
        at_mu(20_000_000)
        end = self.line.gate_rising(100 * us)
        return self.line.count(end), self.core.get_rtio_counter_mu()

    @kernel
    def sample(self):
        self.core.reset()
        at_mu(20_000_000)
        self.line.sample_input()
        return self.line.sample_get(), self.core.get_rtio_counter_mu()

    @kernel
    def drive(self):
        self.core.reset()
        self.line.output()
        delay_mu(8)
        self.line.pulse(1 * us)

    @kernel
    def drive_input(self):
        self.core.reset()
        self.line.on()


def test_timestamps_come_one_by_one_and_consume_slack():
    inputs = Inputs()
    inputs.devices.apparatus.edges["line"] = [19_000_000, 20_010_000, 20_020_000, 20_200_000]
    first, second, third, slack = inputs.edges(100_000)
    assert (first, second, third) == (20_010_000, 20_020_000, -1)
    assert slack == 100_000 - 10_000 - 1_000
    assert inputs.core.get_rtio_counter_mu() == 20_100_000 + 13 * 8


def test_count_and_sample():
    inputs = Inputs()
    inputs.devices.apparatus.edges["line"] = [20_010_000, 20_020_000, 20_200_000]
    inputs.devices.apparatus.levels["line"] = 1
    assert inputs.count() == (2, 20_100_104)
    inputs = Inputs()
    inputs.devices.apparatus.levels["line"] = 1
    assert inputs.sample() == (1, 20_001_000)
    with pytest.raises(RuntimeError, match="line"):
        inputs.line.sample_get()


def test_direction():
    inputs = Inputs()
    with pytest.raises(RuntimeError, match="line is an input"):
        inputs.drive_input()
    inputs.drive()
    assert [event[2] for event in inputs.events] == [1, 0]


def test_trace():
    outputs = Outputs(FakeDevices(trace=True))
    outputs.collide(8)
    (first, second) = outputs.core.trace
    assert first[1:] == ("ttl", 1)
    assert second == (first[0] + 8, "ttl", 0)
    assert Outputs().core.trace is None
