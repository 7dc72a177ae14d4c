"""What the language does, on the host engine and as compiled RISC-V code.

Expected values are those of Python where the two agree. Where compiled code differs, the test says how:
integers have a size, `//` of integers rounds towards zero (`%` goes with Python's, so that they do not
belong together), halves are rounded away from zero, and some functions do not exist on the core device.
"""

import logging

import numpy as np
import pytest
from artiq import __version__ as artiq_version
from artiq.experiment import TerminationRequested

from tests.support.both_engines import COMPILED
from tests.support.language_kernels import Language, OwnError


@pytest.fixture
def language(devices) -> Language:
    return Language((devices, None, None, {}))


only_compiled = pytest.mark.parametrize("engine", [COMPILED], indirect=True)


def plain(value):
    """Numpy scalars as numbers, arrays as lists."""
    if isinstance(value, (list, tuple)):
        return type(value)(plain(item) for item in value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value.tolist() if isinstance(value, (np.generic, np.ndarray)) else value


def reports(language: Language) -> list:
    return [plain(report) for report in language.reports]


def test_integers_divide_and_shift(language, engine):
    big = 2**40 + 3
    language.integers(7, 3, np.int64(big))
    quotient = -(big // 7) if engine == "compiled" else -big // 7
    assert reports(language) == [
        (-2, 2, -2, -2, 2) if engine == "compiled" else (-3, 2, -3, -2, 2),
        (quotient, -big % 7, quotient, big % -7, 3 * big),
        (56, -4, 5, 15, 5),
        (big << 10, -big >> 3, big & 0xFFFF, -2, -2),
    ]


def test_integers_wrap_at_32_bits_only_when_compiled(language, engine):
    with np.errstate(over="ignore"):
        if engine == "host":
            language.overflow(np.int64(2**31 - 1))
            assert reports(language)[0][:2] == (2**31, 2**32 - 2)
        else:
            language.overflow(2**31 - 1)
            assert reports(language) == [(-(2**31), -2, 1)]


def test_halves_round_to_even_on_the_host_and_away_from_zero_when_compiled(language, engine):
    language.rounding(2.5)
    away = (3, 4, -3) if engine == "compiled" else (2, 4, -2)
    assert reports(language)[0][:3] == away


@only_compiled
def test_round_makes_a_32_bit_integer(language):
    language.rounding(0.5)
    assert reports(language) == [(1, 2, -1, round(1.5e9))]


def test_floats(language):
    language.floating(1.75)
    first, second = reports(language)
    expected = (1.75 / 3, 1.75 // 0.3, 1.75 % 0.3, -1.75 // 0.3, -1.75 % 0.3, 1.75**2, 1.75**1.75)
    np.testing.assert_allclose(first, expected, rtol=1e-14, atol=1e-15)
    assert second == (3.5, 3.5, 1.75, 2, 2.0)


@only_compiled
@pytest.mark.skipif(artiq_version.startswith("8"), reason="ARTIQ 8 compiles powers of two to pow()")
def test_functions_that_the_core_device_lacks_are_named(language):
    """The compiler of ARTIQ 9 makes exp2() of this power, which no Kasli has."""
    with pytest.raises(Exception, match="exp2") as caught:
        language.power_of_two(0.5)
    assert type(caught.value).__name__ == "LoadError"


def test_seconds_and_machine_units(language):
    language.times(2.5e-6)
    assert reports(language) == [(2500, 1.5e-6)]


def test_all_types_can_be_sent(language):
    language.send_types()
    assert reports(language) == [
        (1, 2**40, 0.5, True, "text"),
        ([1, -2], [2**33], [0.5], [True, False], [[1], [2, 3]]),
        ((1, 2, True), [(1, 0.5), (2, 1.5)], "a"),
        (1, {"key": [4, 5], "other": "b"}),
    ]


def test_all_types_can_be_returned(language):
    language.receive_types()
    assert reports(language) == [
        ([9, 1, 2, 3, 4], [], 2000),
        (3, -(2**40), 0, [3]),
        (True, -(2**35), "text \u00b5", 0.125, -7),
        (2**33, 2, True, 2),
        ([0.5, -1.25], [True, False, True]),
    ]


def test_arrays(language):
    language.receive_array()
    assert reports(language) == [(36.0, [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])]


def test_asynchronous_calls_keep_their_order(language):
    language.asynchronous()
    assert reports(language) == [*range(50), (3,), -1]


def test_attributes_are_written_back(language):
    assert language.write_back() == 42
    assert plain([language.counter, language.factor, language.numbers]) == [42, 5.0, [4, 2, 3]]


def test_precompiled_kernels_run_again(language):
    kernel = language.core.precompile(language.return_through_finally)
    assert [kernel(), kernel()] == [2, 2]
    assert reports(language) == [0, 1, 2] * 2


def test_exceptions_of_host_and_kernel_are_caught(language):
    language.catch_own()
    assert reports(language) == ["host", "kernel"]


def test_clean_up_runs_from_the_inside_out(language):
    language.clean_up()
    assert reports(language) == [1.5, 2, "caught", "outermost"]


def test_exceptions_may_be_raised_again_any_number_of_times(language):
    language.reraise()
    assert reports(language) == [3030]


def test_whatever_comes_is_caught_but_what_is_named(language):
    language.catch_whatever_comes(3)
    assert reports(language) == ["underflow", 1, 2, 3]
    with pytest.raises(TerminationRequested):
        language.catch_whatever_comes(4)
    assert reports(language)[4:] == ["underflow", 1, 2, 3, "ended"]


def test_leaving_through_finally(language):
    assert language.return_through_finally() == 2
    assert reports(language) == [0, 1, 2]


def test_index_errors(language):
    assert (language.divide(1), language.divide(3)) == (2, -5)


def test_uncaught_exceptions_reach_the_host(language, engine):
    with pytest.raises(OwnError) as caught:
        language.uncaught()
    if engine == "compiled":
        # ARTIQ fills the parameters in; the host engine has an ordinary exception
        assert str(caught.value) == "parameters 7 and -8"
        assert "raise_own" in str(caught.value.artiq_core_exception)
    with pytest.raises(OwnError, match="from afar"):
        language.uncaught_remote()
    # the core is ready for the next kernel
    assert language.write_back() > 0


def test_parallel_and_sequential(language):
    language.blocks()
    assert reports(language) == [(1_000_000_500, 1_000_001_501)]


def test_recovery_from_underflow(language, devices):
    """Pulses of 0.2 us take 1 us of CPU time: 125 us of slack last for 156 of them, three times."""
    language.underflow()
    assert reports(language) == [(3, True)]
    assert len(devices.get("apparatus").events) == 3 * 2 * 156 + 1


def test_waiting_for_the_counter(language):
    language.waiting()
    assert reports(language) == [(True,)]


def test_cache(language):
    language.cache()
    language.cache_again()
    assert reports(language) == ["busy", ([1, 20, 3], 0), (20,)]


def test_dma(language, devices):
    language.record_trace()
    pulses = [event[1:] for event in devices.get("apparatus").events if event[0] == "ttl_422_cool"]
    start = pulses[0][0]
    trace = [(0, 1), (80, 0), (280, 1), (368, 0), (568, 1), (664, 0)]
    again = [(864 + time, level) for time, level in trace]
    assert [(time - start, level) for time, level in pulses] == trace + again
    language.replay_late()
    assert reports(language) == [2 * 864, -1, -2]


@only_compiled
def test_input_fifos_overflow(language):
    """The host engine's have no end."""
    language.input_overflow()
    assert reports(language) == [-3]


@only_compiled
def test_text_of_kernels_goes_to_the_log(language, caplog):
    with caplog.at_level(logging.INFO, logger="kernel"):
        language.log(17)
    assert any("value 17 2.5" in record.getMessage() for record in caplog.records)
