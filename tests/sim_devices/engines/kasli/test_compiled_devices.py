"""ARTIQ's own drivers in compiled kernels do to the apparatus what the simulated drivers do.

Each test runs a kernel on both engines where it can and checks the calls that reach the apparatus against
numbers from the drivers' documentation.
"""

import logging

import pytest

from diqkd_postproc.protocol.errors import DiqkdError
from sim_devices.engines.entangler_core import SUCCESS, TIMED_OUT, TIMEOUT_REASON, Clicks
from tests.sim_devices.engines.kasli.test_compiled_kernels import plain
from tests.support.both_engines import COMPILED
from tests.support.device_kernels import START, Converter, Drivers, Groups

# transfers of AD9910.set before the update pulse (mu): CFR1 in tracking mode, then the profile
WRITE32, WRITE64 = 704, 1248
# the picosecond pulse in an attempt, programmed for 650 ns (entangler core: whole coarse cycles, two more)
TRIGGER_NS = 648 + 16
# from a slave's run event to its first attempt, and from the last to its end: RTIO lanes and link lines
LANES_MU = 13 * 8
only_compiled = pytest.mark.parametrize("engine", [COMPILED], indirect=True)


@pytest.fixture
def drivers(devices) -> Drivers:
    pytest.importorskip("entangler.driver") if devices.database.path.name == "alice_compiled.py" else None
    return Drivers((devices, None, None, {}))


@pytest.fixture
def apparatus(devices):
    return devices.get("apparatus")


def events(apparatus, key: str) -> list:
    """What a device did from the common start on, with times from there."""
    return [
        (event[1] - START, *event[2:]) for event in apparatus.events if event[0] == key and event[1] >= START
    ]


def test_switches(drivers, apparatus):
    drivers.switches()
    assert events(apparatus, "ttl_422_cool") == [(0, 1), (500, 0), (2000, 1), (2008, 0)]
    assert events(apparatus, "ttl_674") == [(0, 1), (1000, 0), (2088, 1), (2088, 0)]


def test_inputs(drivers, apparatus):
    apparatus.edges["ttl_trigger"] = [START - 50, START + 2_000, START + 2_900, START + 10_500]
    apparatus.edges["pmt_counter"] = [START + 10_000_000 + 40 * i for i in range(100)]
    apparatus.levels["ttl_laser_lock"] = 1
    drivers.inputs()
    stamp = drivers.reports[-2][0][0]
    assert plain(drivers.reports) == [
        *((2_000,), (2_900,), (-1,), (-1,)),
        # edges at 0, 40, ... 1000, and at 1520, 1560, ... 3480 (mu from the first gate)
        *((26, 50), (1,), ((stamp, 0),), ((-1, 0),)),
    ]


def test_synthesisers(drivers, apparatus, engine):
    drivers.synthesisers()
    continuous, tracking, late, absolute = events(apparatus, "dds_674")[-4:]
    for event, expected in (
        (continuous, (WRITE64, 94.0e6, 0.25, 0.5)),
        (tracking, (None, 71.6e6, 0.375, 0.25)),
        (late, (None, 108.0e6, -0.125, 1.0)),
        (absolute, (None, 108.0e6, 0.5, 1.0)),
    ):
        assert event[1] == pytest.approx(expected[1], abs=0.12)
        assert event[3] == pytest.approx(expected[3], abs=1 / 0x3FFF)
        if expected[0] is not None:
            assert event[0] == expected[0]
        if event is not absolute:
            reference = event[4] if event is not continuous else 0
            shift = 0.0 if event is continuous else event[1] * 1e-9 * (START - 12_345_678 - reference)
            turns = event[2] + shift - expected[2]
            # the phase word has 16 bits and is rounded down
            assert abs(turns - round(turns)) < 4e-5 if engine == "compiled" else turns == 0.0
    assert tracking[0] == continuous[0] + 8 + 20_000 + WRITE32 + WRITE64
    assert continuous[4] == -1
    (beam,) = events(apparatus, "dds_422")
    assert beam[1:] == pytest.approx((213.7e6, 0.25, 1.0, -1), abs=1e-4)


def test_registers_can_be_read_back(drivers):
    drivers.read_synthesisers()
    single_tone, attenuation, locks = plain(drivers.reports)
    frequency, phase, amplitude = single_tone[0]
    assert frequency == pytest.approx(94.0e6, abs=0.12)
    assert (phase, amplitude) == pytest.approx((0.25, 0.5), abs=1e-4)
    assert (attenuation, locks) == ((10.0,), (0xF,))


def test_electrodes(drivers, apparatus):
    drivers.electrodes()
    played = events(apparatus, "fastino")
    assert [event[:2] for event in played] == [(0, 15), (8, 16), (1184, 24), (1576, 23)]
    assert [event[2] for event in played] == pytest.approx([1.0, 0.0, -9.0, -2.5], abs=10 / 0x8000)


def add(devices, engine: str, key: str, module: str, driver: str, **arguments) -> None:
    """Put a device that the nodes do not have next to what is there."""
    host = engine == "host"
    devices.database.entries[key] = {
        "type": "local",
        "module": f"{'sim_devices.drivers' if host else 'artiq.coredevice'}.{module}",
        "class": driver,
        "arguments": arguments | ({"key": key} if host else {}),
    }


def test_zotino(devices, apparatus, engine):
    add(devices, engine, "spi_zotino", "spi2", "SPIMaster", channel=60)
    add(devices, engine, "ttl_ldac", "ttl", "TTLOut", channel=61)
    add(devices, engine, "zotino", "zotino", "Zotino", spi_device="spi_zotino", ldac_device="ttl_ldac")
    converter = Converter((devices, None, None, {}))
    converter.play()
    played = events(apparatus, "zotino")
    transfer = (25 * 4 + 1) * 8
    assert [event[:2] for event in played] == [
        *((2 * transfer, 3), (2 * transfer, 9)),
        *((100_000, 0), (100_000, 1), (100_000, 2)),
    ]
    assert [event[2] for event in played] == pytest.approx([2.5, -7.25, 1.0, -1.0, 0.0], abs=20 / 0x10000)
    if engine == "compiled":  # the simulated driver of the host engine does not read
        converter.read()
        assert converter.codes == [round(-7.25 / 20 * 0x10000) + 0x8000]


def test_wide_outputs(devices, apparatus, engine):
    add(devices, engine, "wide", "fastino", "Fastino", channel=62, log2_width=2)
    Groups((devices, None, None, {})).play()
    played = events(apparatus, "wide")
    assert [event[:2] for event in played] == [(0, 4 + i) for i in range(4)] + [
        (1000, 8 + i) for i in range(4)
    ]
    volts = [1.0, -1.0, 2.0, -2.0, 0x1000 / 0x8000 * 10, 0.0, 0.0, -0x1000 / 0x8000 * 10]
    assert [event[2] for event in played] == pytest.approx(volts, abs=10 / 0x8000)


def test_attempts(drivers, apparatus):
    """Alice's core, the slave: her second click comes 1 ns behind its gate."""
    station = [(TRIGGER_NS + 30, 2), (TRIGGER_NS + 61, 3)]
    apparatus.runs = [Clicks(36, [*station[:1], (TRIGGER_NS + 62, 3)], station)]
    drivers.attempts()
    herald, cursor, *registers, timeout, remaining = plain(drivers.reports)
    assert cursor == (8,)
    assert registers == [(37,), (37,), (SUCCESS | TIMED_OUT,), (TRIGGER_NS + 30,), (0,), (1,), (1,)]
    ((end, reason),) = herald
    assert reason == 0
    assert end == START + 37_000 + LANES_MU
    first, second = apparatus.run_calls
    assert first[0] == START
    assert (first[1].num_attempts, first[1].trigger_ns, first[1].patterns) == (
        500,
        TRIGGER_NS,
        (0b0011, 0b1100),
    )
    # The driver's conversion from seconds rounds down, here by one unit and then to a coarse cycle.
    assert second[1].num_attempts == 100
    ((later, reason),) = timeout
    assert reason == TIMEOUT_REASON
    assert later == second[0] + 100_000 + LANES_MU
    assert remaining == (3,)  # the master's time was over first, and its line stops the slave's count


@only_compiled
def test_the_sync_delay_is_tuned(drivers):
    """ARTIQ's own search, on a board whose edge is 6 taps around tap 17."""
    drivers.tune_synchronisation()
    assert plain(drivers.reports) == [((16, 4),)]


def test_an_input_that_cannot_come_ends_the_kernel(drivers):
    with pytest.raises(RuntimeError, match="would block for ever"):
        drivers.blocked()
    drivers.switches()


@only_compiled
@pytest.mark.parametrize("failure", [DiqkdError("leak"), KeyboardInterrupt()])
def test_what_the_apparatus_raises_ends_the_run(drivers, apparatus, monkeypatch, failure):
    """An isolation violation, say; or the user, while a call of the apparatus is under way."""

    def fail(time: int, level: int) -> None:
        raise failure

    monkeypatch.setattr(apparatus, "level_sink", lambda key: fail)
    with pytest.raises(type(failure)):
        drivers.one_pulse()


@only_compiled
def test_a_stack_overflow_is_an_error(drivers):
    with pytest.raises(Exception, match="stack overflow") as caught:
        drivers.overflow_the_stack()
    assert type(caught.value).__name__ == "MachineError"


@only_compiled
def test_collisions_are_logged_as_by_hardware(drivers, apparatus, caplog):
    """The host engine raises."""
    with caplog.at_level(logging.WARNING):
        drivers.collide()
    messages = " ".join(record.getMessage() for record in caplog.records)
    assert "coarse cycle" in messages and "collision(s) and sequence error(s) reported" in messages
    assert len([event for event in apparatus.events if event[0] == "ttl_674"]) == 1
