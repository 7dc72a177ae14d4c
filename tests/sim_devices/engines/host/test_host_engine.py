"""The host engine: timeline semantics of the compiler, calls between kernels."""

import traceback

import numpy as np
import pytest
from artiq.experiment import (
    TInt32,
    at_mu,
    delay,
    delay_mu,
    interleave,
    kernel,
    now_mu,
    parallel,
    portable,
    rpc,
    sequential,
    us,
)

from tests.support.fake_apparatus import Kernels


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
