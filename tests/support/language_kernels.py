"""Kernels that show what the language does; the compiler needs them in a file of their own."""

# ruff: noqa: B904, F403, F405

import numpy as np
from artiq.coredevice.exceptions import CacheError, DMAError, RTIOOverflow, RTIOUnderflow
from artiq.experiment import *
from numpy import int32, int64


class OwnError(Exception):
    """Raised by remote calls and kernels of these tests."""


class Language(EnvExperiment):
    def build(self):
        self.setattr_device("core")
        self.setattr_device("core_cache")
        self.setattr_device("core_dma")
        self.setattr_device("ttl_422_cool")
        self.setattr_device("pmt")
        self.reports = []
        self.counter = 0
        self.factor = 2.5
        self.numbers = [1, 2, 3]

    # Remote calls

    @rpc(flags={"async"})
    def note(self, value):
        self.reports.append(value)

    def say(self, *values, **named):
        self.reports.append((*values, named) if named else values)

    def list_of(self, count) -> TList(TInt32):
        return list(range(count))

    def matrix(self) -> TList(TList(TInt64)):
        return [[1, -(2**40)], [], [3]]

    def record(self, flag) -> TTuple([TBool, TInt64, TStr, TFloat, TInt32]):
        return bool(flag), -(2**35), "text \u00b5", 0.125, -7

    def records(self) -> TList(TTuple([TInt64, TInt32, TBool])):
        return [(2**33, 1, True), (-1, 2, False)]

    def array(self) -> TArray(TFloat, 2):
        return np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])

    def floats(self) -> TList(TFloat):
        return [0.5, -1.25]

    def flags(self) -> TList(TBool):
        return [True, False, True]

    def refuse(self, text):
        raise OwnError(text)

    # Integers and floats

    @kernel
    def integers(self, seven, three, big: TInt64):
        self.say(-seven // three, -seven % three, seven // -three, seven % -three, -seven // -three)
        self.say(-big // 7, -big % 7, big // -7, big % -7, big * 3)
        self.say(seven << 3, -seven >> 1, seven & 5, seven | 8, seven ^ 2)
        self.say(big << 10, -big >> 3, big & 0xFFFF, int(-2.75), int64(-2.75))

    @kernel
    def overflow(self, largest):
        self.say(largest + 1, largest * 2, int32(int64(largest) * 4 + 5))

    @kernel
    def rounding(self, half):
        self.say(round(half), round(half + 1.0), round(-half), round(half * 3e9))

    @kernel
    def floating(self, x):
        self.say(x / 3.0, x // 0.3, x % 0.3, -x // 0.3, -x % 0.3, x**2, x**x)
        self.say(float(7) / 2, 7 / 2, abs(-x), min(3, 2), max(x, 2.0))

    @kernel
    def power_of_two(self, x):
        self.say(2.0**x)

    @kernel
    def times(self, seconds):
        self.say(self.core.seconds_to_mu(seconds), self.core.mu_to_seconds(int64(1500)))

    # Types of remote calls

    @kernel
    def send_types(self):
        self.say(1, int64(2) ** 40, 0.5, True, "text")
        self.say([1, -2], [int64(1) << 33], [0.5], [True, False], [[1], [2, 3]])
        self.say((1, int64(2), True), [(1, 0.5), (2, 1.5)], "a")
        self.say(1, key=[4, 5], other="b")

    @kernel
    def receive_types(self):
        values = self.list_of(5)
        values[0] = 9
        self.say(values, self.list_of(0), len(self.list_of(2000)))
        rows = self.matrix()
        self.say(len(rows), rows[0][1], len(rows[1]), rows[2])
        flag, long, text, number, small = self.record(True)
        self.say(flag, long, text, number, small)
        entries = self.records()
        self.say(entries[0][0], entries[1][1], entries[0][2], len(entries))
        self.say(self.floats(), self.flags())

    @kernel
    def receive_array(self):
        array = self.array()
        total = 0.0
        for row in range(2):
            for column in range(3):
                total += array[row][column] * float(row + 1)
        self.say(total, array)

    @kernel
    def asynchronous(self):
        for i in range(50):
            self.note(i)
        self.say(len(self.numbers))
        self.note(-1)

    @kernel
    def write_back(self) -> TInt32:
        self.counter += 41
        self.factor *= 2.0
        self.numbers[0] = 4
        self.counter += 1
        return self.counter

    # Exceptions

    @kernel
    def catch_own(self):
        try:
            self.refuse("from the host")
        except OwnError:
            self.note("host")
        try:
            raise OwnError("from the kernel")
        except OwnError:
            self.note("kernel")

    @kernel
    def clean_up(self):
        try:
            self.level(2)
        except ValueError:
            self.note("caught")
        finally:
            self.note("outermost")

    @kernel
    def level(self, depth):
        try:
            if depth == 0:
                raise ValueError("bottom")
            self.level_below(depth - 1)
        except ZeroDivisionError:
            self.note("wrong handler")
        finally:
            self.note(depth)

    @kernel
    def level_below(self, depth):
        kept = 1.5 * float(depth)
        try:
            if depth == 0:
                raise ValueError("bottom")
            self.refuse_if(depth > 5)
            raise IndexError("translated")
        except IndexError:
            self.note(kept)
            raise ValueError("new")

    @kernel
    def refuse_if(self, condition):
        if condition:
            self.refuse("never")

    @kernel
    def reraise(self):
        for _ in range(30):
            try:
                try:
                    self.refuse("inner")
                except OwnError:
                    self.counter += 1
                    raise
            except OwnError:
                self.counter += 100
        self.note(self.counter)

    @kernel
    def fail_as(self, kind):
        if kind == 0:
            raise RTIOUnderflow("underflow", int64(0), int64(0), int64(0))
        if kind == 1:
            raise ValueError("value")
        if kind == 2:
            self.numbers[kind + 100] = 1
        if kind == 3:
            self.refuse("from the host")
        if kind == 4:
            raise TerminationRequested("to end")

    @kernel
    def catch_whatever_comes(self, last):
        failures = 0
        try:
            for kind in range(last + 1):
                failed = False
                try:
                    self.fail_as(kind)
                except RTIOUnderflow:
                    self.note("underflow")
                except TerminationRequested:
                    raise
                except:  # noqa: E722
                    self.note(kind)
                    failed = True
                    if failures >= 3:
                        raise
                if failed:
                    failures += 1
        except:
            self.note("ended")
            raise

    @kernel
    def return_through_finally(self) -> TInt32:
        for i in range(5):
            try:
                if i == 2:
                    return i
                if i == 1:
                    continue
            finally:
                self.note(i)
        return -1

    @kernel
    def uncaught(self):
        self.counter = 5
        self.raise_own()

    @kernel
    def raise_own(self):
        raise OwnError("parameters {0} and {1}", int64(7), int64(-8), int64(0))

    @kernel
    def uncaught_remote(self):
        self.refuse("from afar")

    @kernel
    def divide(self, by) -> TInt32:
        try:
            return self.numbers[by]
        except IndexError:
            return -5

    # Time

    @kernel
    def blocks(self):
        at_mu(1_000_000_000)
        with parallel:
            delay_mu(10)
            with sequential:
                delay_mu(20)
                delay_mu(30)
            self.branch(5)
        first = now_mu()
        with sequential:
            delay_mu(1)
            delay(1 * us)
        self.say(first, now_mu())

    @kernel
    def branch(self, duration):
        if duration > 3:
            delay_mu(duration * 100)
        else:
            delay_mu(duration)

    @kernel
    def underflow(self):
        self.core.reset()
        underflows = 0
        for _ in range(3):
            try:
                for _ in range(1000):
                    self.ttl_422_cool.pulse_mu(100)
                    delay_mu(100)
            except RTIOUnderflow:
                underflows += 1
                self.core.break_realtime()
        self.ttl_422_cool.on()
        self.say(underflows, now_mu() > self.core.get_rtio_counter_mu())

    @kernel
    def waiting(self):
        self.core.reset()
        target = now_mu() + 3_000_000
        self.core.wait_until_mu(target)
        self.say(self.core.get_rtio_counter_mu() - target < 2_000)

    # Cache and DMA

    @kernel
    def cache(self):
        self.core_cache.put("row", [1, 2, 3])
        row = self.core_cache.get("row")
        row[1] = 20
        try:
            self.core_cache.put("row", [0])
        except CacheError:
            self.note("busy")
        self.say(self.core_cache.get("row"), len(self.core_cache.get("none")))

    @kernel
    def cache_again(self):
        self.say(self.core_cache.get("row")[1])

    @kernel
    def record_trace(self):
        self.core.reset()
        with self.core_dma.record("pulses"):
            for i in range(3):
                self.ttl_422_cool.pulse_mu(80 + 8 * i)
                delay_mu(200)
        self.core.break_realtime()
        before = now_mu()
        self.core_dma.playback("pulses")
        handle = self.core_dma.get_handle("pulses")
        self.core_dma.playback_handle(handle)
        self.note(now_mu() - before)
        try:
            self.core_dma.playback("unknown")
        except DMAError:
            self.note(-1)

    @kernel
    def replay_late(self):
        at_mu(0)
        try:
            self.core_dma.playback("pulses")
        except RTIOUnderflow:
            self.note(-2)

    @kernel
    def input_overflow(self):
        self.core.reset()
        for _ in range(100):
            self.pmt.sample_input()
            delay_mu(1000)
        try:
            for _ in range(100):
                self.pmt.sample_get()
        except RTIOOverflow:
            self.note(-3)

    @kernel
    def log(self, number):
        rtio_log("channel", "value", number, 2.5)
