"""The host engine: timeline semantics of the compiler, CPU time, calls between kernels."""

import traceback

import numpy as np
import pytest

from sim_devices import artiq_stub

artiq_stub.install()

from artiq.experiment import (  # noqa: E402
    RTIOUnderflow,
    TInt32,
    at_mu,
    delay,
    delay_mu,
    interleave,
    kernel,
    ms,
    now_mu,
    parallel,
    portable,
    rpc,
    sequential,
    us,
)
from fake_apparatus import FakeDevices  # noqa: E402

from sim_devices.drivers.ttl import TTLInOut, TTLOut  # noqa: E402
from sim_devices.engine.timeline import RTIOCollisionError, RTIOSequenceError  # noqa: E402


class Kernels:
    """Base of the objects whose kernels are tested."""

    def __init__(self, devices=None):
        self.devices = devices or FakeDevices()
        self.core = self.devices.get("core")
        self.ttl = self.devices.devices.get("ttl") or self.devices.add(TTLOut, "ttl", 0)

    @property
    def events(self):
        return self.devices.apparatus.events


class Cursor(Kernels):
    @kernel
    def primitives(self):
        at_mu(1_000_000_000)
        delay_mu(5)
        delay(10 * us)
        delay(0.3e-9)
        delay_mu(int64(7))  # noqa: F821 (the compiler knows it)
        return now_mu()

    @kernel
    def argument_moves_cursor(self):
        at_mu(1_000_000_000)
        delay_mu(self.advance())
        return now_mu()

    @kernel
    def advance(self):
        delay_mu(100)
        return 1

    @kernel
    def parallel_block(self, flag):
        at_mu(1_000_000_000)
        starts = [now_mu() for _ in range(0)]
        with parallel:
            delay_mu(10)
            starts.append(now_mu())
            with sequential:
                delay_mu(20)
                delay_mu(30)
                starts.append(now_mu())
            if flag:
                delay_mu(40)
                delay_mu(5)
            for _ in range(3):
                delay_mu(15)
            with parallel:
                delay_mu(3)
                delay_mu(1)
        return now_mu(), starts

    @kernel
    def interleaved(self):
        at_mu(0)
        with interleave:
            delay_mu(7)
            delay_mu(9)
            pass
        return now_mu()

    @kernel
    def rounded(self, duration):
        at_mu(0)
        delay(duration)
        return now_mu()

    @kernel
    def numpy_everywhere(self, duration):
        at_mu(np.int64(4_000_000_000))
        delay_mu(duration)
        delay_mu(np.int32(5))
        return now_mu()

    @kernel
    def converted(self, seconds):
        return self.core.seconds_to_mu(seconds)

    @kernel
    def wrapped(self, value):
        return np.int32(value), np.int64(value)

    @kernel
    def returns_in_parallel(self):
        at_mu(0)
        with parallel:
            delay_mu(10)
            for i in range(10):
                delay_mu(1)
                if i == 2:
                    break
        return now_mu()


def test_primitives():
    assert Cursor().primitives() == 1_000_010_012


def test_argument_of_delay_is_evaluated_first():
    assert Cursor().argument_moves_cursor() == 1_000_000_101


@pytest.mark.parametrize(("flag", "length"), [(True, 50), (False, 50)])
def test_each_statement_of_a_parallel_block_starts_with_it(flag, length):
    assert Cursor().parallel_block(flag) == (1_000_000_000 + length, [1_000_000_000, 1_000_000_050])


def test_interleave_and_break():
    assert Cursor().interleaved() == 9
    assert Cursor().returns_in_parallel() == 10


def test_seconds_to_mu_differs_between_host_and_kernel():
    cursor = Cursor()
    # 100 us is just below 100 000 times 1 ns in binary; the compiled quotient is rounded
    assert cursor.core.seconds_to_mu(100e-6) == 99_999
    assert cursor.converted(100e-6) == 100_000
    assert cursor.core.mu_to_seconds(2_000) == pytest.approx(2e-6)


@pytest.mark.parametrize(("seconds", "mu"), [(300e-6, 300_000), (2.6e-9, 3), (1.4e-9, 1), (1.1e-5, 11_000)])
def test_delay_rounds_where_seconds_to_mu_floors(seconds, mu):
    cursor = Cursor()
    assert cursor.rounded(seconds) == mu
    assert cursor.core.seconds_to_mu(seconds) in (mu, mu - 1)


def test_numpy_integers_do_not_reach_the_timeline():
    now = Cursor().numpy_everywhere(np.int32(10))
    assert now == 4_000_000_015
    assert type(now) is int
    with pytest.raises(TypeError):
        Cursor().numpy_everywhere(1.5)


def test_int32_wraps_around():
    assert Cursor().wrapped(2**31) == (-(2**31), 2**31)
    assert Cursor().wrapped(-5) == (-5, -5)


class Child(Kernels):
    """Reached only through its parent."""

    @kernel
    def pulse(self):
        self.ttl.pulse_mu(50)

    @portable
    def double(self, value):
        return 2 * value


class Parent(Kernels):
    """Kernels that call kernels, portables and host functions."""

    def __init__(self):
        super().__init__()
        self.children = [Child(self.devices), Child(self.devices)]
        self.by_name = {"late": Child(self.devices)}
        self.count = np.int32(3)
        self.__private = 11
        self.seen = []

    @kernel
    def run(self):
        self.core.reset()
        for child in self.children:
            child.pulse()
            delay_mu(8)
        self.by_name["late"].pulse()
        self.count += 1
        return self.children[0].double(self.count), self.__private

    @kernel
    def remote(self):
        start = self.core.get_rtio_counter_mu()
        value = self.host(4)
        waited = self.core.get_rtio_counter_mu() - start
        self.host_async(value)
        return value, waited, self.core.get_rtio_counter_mu() - start - waited

    def host(self, value):
        self.seen.append(value)
        return np.int64(self.other_host(value))

    def other_host(self, value):
        return value * 10

    @rpc(flags={"async"})
    def host_async(self, value):
        self.seen.append(value)

    @kernel
    def fails(self):
        delay_mu(1)
        raise ValueError("from the kernel")  # the line of the traceback

    @kernel
    def defaults(self, a: TInt32 = 3, *, b: TInt32 = 4) -> TInt32:
        """Default values are those of the function."""
        return a * b


def test_objects_are_left_as_they_were():
    parent = Parent()
    before = {id(o): dict(vars(o)) for o in [parent, *parent.children]}
    assert parent.run() == (8, 11)
    assert type(parent.count) is np.int32
    assert parent.count == 4
    for instance in [parent, *parent.children]:
        assert vars(instance).keys() == before[id(instance)].keys()
    times = [time for _, time, _ in parent.events]
    assert np.diff(times).tolist() == [50, 8, 50, 8, 50]


def test_remote_calls_take_cpu_time_once():
    parent = Parent()
    value, waited, handed_over = parent.remote()
    assert (value, waited, handed_over) == (40, 1_000_000, 100_000)
    assert type(value) is int
    assert parent.seen == [4, 40]


def test_traceback_points_into_the_kernel():
    with pytest.raises(ValueError, match="from the kernel") as caught:
        Parent().fails()
    frame = traceback.extract_tb(caught.value.__traceback__)[-1]
    assert frame.filename == __file__
    assert "the line of the traceback" in frame.line


def test_defaults_and_docstring():
    assert Parent().defaults() == 12
    assert Parent().defaults(b=5) == 15


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
