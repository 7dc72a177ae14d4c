"""Simulated drivers: times, values and registers as the real drivers have them."""

import pytest

# after the drivers, which make `artiq` importable
from artiq.coredevice.exceptions import CacheError, DMAError, RTIOUnderflow
from artiq.language import core as language
from artiq.language.core import delay_mu, kernel, set_time_manager

from sim_devices.drivers.ad9910 import (
    AD9910,
    PHASE_MODE_ABSOLUTE,
    PHASE_MODE_CONTINUOUS,
    PHASE_MODE_TRACKING,
    WRITE32_MU,
    WRITE64_MU,
)
from sim_devices.drivers.ad9912 import AD9912
from sim_devices.drivers.cache import CoreCache
from sim_devices.drivers.dma import CoreDMA
from sim_devices.drivers.edge_counter import EdgeCounter
from sim_devices.drivers.entangler import (
    Entangler,
    gate_apd0,
    sequencer_422ps_trigger,
    timestamp_apd0,
)
from sim_devices.drivers.fastino import Fastino
from sim_devices.drivers.ttl import TTLOut
from sim_devices.drivers.urukul import CPLD
from sim_devices.drivers.zotino import Zotino
from sim_devices.engines.entangler_core import TIMEOUT_REASON, Clicks
from sim_devices.engines.host.timeline import RTIOCollisionError
from tests.support.fake_apparatus import FakeDevices

START = 100_000_000


@pytest.fixture
def devices():
    made = FakeDevices()
    made.get("core").timeline.now = START
    return made


def timeline_of(devices):
    return devices.get("core").timeline


# Counters and the entangler


def test_edge_counter_results_come_in_order(devices):
    counter = devices.add(EdgeCounter, "pmt_counter", 0)
    devices.apparatus.edges["pmt_counter"] = [START + 10, START + 20, START + 2_000]
    assert counter.gate_rising_mu(1_000) == START + 1_000
    assert counter.gate_rising(2.0005e-6) == START + 3_000
    assert timeline_of(devices).cpu < START
    assert counter.fetch_count() == 2
    assert timeline_of(devices).cpu == START + 2_000
    assert counter.fetch_timestamped_count() == (START + 3_000, 1)
    with pytest.raises(RuntimeError, match="pmt_counter"):
        counter.fetch_count()


def test_edge_counter_timeout(devices):
    counter = devices.add(EdgeCounter, "pmt_counter", 0)
    counter.gate_rising_mu(1_000)
    assert counter.fetch_timestamped_count(START + 500) == (-1, 0)
    assert timeline_of(devices).cpu == START + 500


@pytest.fixture
def entangler(devices):
    driver = devices.add(Entangler, "entangler", 3, is_master=False)
    driver.init()
    driver.set_cycle_length(0.9755e-6)
    driver.set_heralds([0b0011, 0b0101, 0b1010, 0b1100])
    driver.set_timing_mu(sequencer_422ps_trigger, 650, 700)
    for gate in range(gate_apd0, gate_apd0 + 4):
        driver.set_timing(gate, 20.4e-9, 60e-9)
    driver.set_config(enable=True)
    return driver


CLICKS = [(664 + 30, 0), (664 + 35, 2)]


def test_entangler_run(devices, entangler):
    timeline = timeline_of(devices)
    assert timeline.now == START + 9 * 8
    start = timeline.now
    devices.apparatus.runs += [Clicks(attempt, CLICKS, CLICKS) for attempt in (99, 199)]
    end, reason = entangler.run_mu(500_001)
    assert reason == 0b0010
    (call,) = devices.apparatus.run_calls
    assert call[0] == start
    assert (call[1].trigger_ns, call[1].patterns) == (664, (0b0011, 0b0101, 0b1010, 0b1100))
    # Blocking: slack is gone, the cursor is where it was.
    assert timeline.now == start + 8
    assert timeline.cpu == end + 1_000
    timeline.now = start + 1_000_000
    later, _ = entangler.run_mu(500_000)
    assert (later - start - 1_000_000) - (end - start) == 100_000
    timeline.now = later + 10_000
    assert entangler.get_ncycles() == 200
    timeline.now = later + 20_000
    assert entangler.get_ntriggers() == 200
    assert timeline.now == later + 20_000
    timeline.now = later + 30_000
    assert entangler.get_status() == 2
    timeline.now = later + 40_000
    assert entangler.get_timestamp_mu(timestamp_apd0) == 694
    timeline.now = later + 50_000
    assert entangler.get_time_remaining() < (500_000 - 200_000) >> 3


def test_entangler_counters(devices, entangler):
    timeline = timeline_of(devices)
    entangler.set_counter_patterns(1, [0b0101, 0b0001])
    devices.apparatus.runs.append(Clicks(99, CLICKS, CLICKS))
    timeline.now = entangler.run_mu(500_000)[0] + 10_000
    assert entangler.get_input_count(2) == 1
    timeline.now += 10_000
    assert entangler.get_pattern_count(1) == 1
    with pytest.raises(ValueError, match="0 to 3"):
        entangler.get_pattern_count(4)


def test_entangler_timeout(devices, entangler):
    start = timeline_of(devices).now
    end, reason = entangler.run(100.5e-6)
    assert reason == TIMEOUT_REASON
    assert 100_496 <= end - start < 100_496 + 2_000


def test_entangler_refuses_to_run_unconfigured(devices, entangler):
    with pytest.raises(ValueError, match="leave some out"):
        entangler.set_heralds([1, 2, 3, 4, 5])
    entangler.set_config(enable=False)
    with pytest.raises(RuntimeError, match="set_config"):
        entangler.run_mu(1000)


def test_reset_takes_the_outputs_from_the_entangler(devices, entangler):
    devices.get("core").reset()
    with pytest.raises(RuntimeError, match="set_config"):
        entangler.run_mu(1000)


# Synthesisers


@pytest.fixture
def cpld(devices):
    return devices.add(CPLD, "cpld", "spi")


@pytest.fixture
def dds(devices, cpld):
    return devices.add(AD9910, "dds", 4, "cpld", pll_n=32)


def test_ad9910_phase_modes(devices, dds):
    timeline = timeline_of(devices)
    timeline.now = START + 5
    dds.set(94e6, phase=0.25, amplitude=0.5, phase_mode=PHASE_MODE_TRACKING, ref_time_mu=START - 1_000)
    update = START + WRITE32_MU + WRITE64_MU
    assert devices.apparatus.events == [("dds", update, 94e6, 0.25, 0.5, START - 1_000)]
    assert timeline.now == update + 8 + WRITE32_MU
    devices.apparatus.events.clear()

    dds.set_phase_mode(PHASE_MODE_TRACKING)
    timeline.now = START + 80_000
    dds.set(94e6)
    assert devices.apparatus.events.pop()[-1] == 0
    timeline.now = START + 160_000
    dds.set(94e6, phase_mode=PHASE_MODE_ABSOLUTE)
    event = devices.apparatus.events.pop()
    assert event[-1] == event[1]
    timeline.now = START + 240_000
    assert dds.set(94e6, phase=0.1, phase_mode=PHASE_MODE_CONTINUOUS) == 0.1
    assert devices.apparatus.events == [("dds", START + 240_000 + WRITE64_MU, 94e6, 0.1, 1.0, -1)]


def test_ad9910_tracking_returns_the_accumulated_phase(devices, dds):
    ftw = dds.frequency_to_ftw(125e6)
    dds.set_phase_mode(PHASE_MODE_TRACKING)
    assert ftw == 1 << 29
    pow_ = dds.set_mu(ftw, pow_=100, ref_time_mu=START - 3)
    # three periods of 1 GHz at an eighth of a turn each
    assert pow_ == 100 + 3 * 0x2000
    timeline_of(devices).now = START + 80_000
    turns = dds.set(125e6, ref_time_mu=START + 80_000 - 3)
    assert turns == pytest.approx(3 / 8)


def test_ad9910_words(devices, dds):
    assert dds.frequency_to_ftw(500e6) == -(1 << 31)
    assert dds.ftw_to_frequency(-(1 << 31)) == pytest.approx(500e6)
    assert dds.turns_to_pow(-0.25) == 0xC000
    assert dds.amplitude_to_asf(1.0) == 0x3FFF
    with pytest.raises(ValueError, match="amplitude"):
        dds.amplitude_to_asf(1.1)
    with pytest.raises(ValueError, match="amplitude"):
        dds.set(1e6, amplitude=-0.1)
    with pytest.raises(ValueError, match="chip_select"):
        devices.add(AD9910, "bad", 8, "cpld")
    with pytest.raises(ValueError, match="1 GHz"):
        devices.add(AD9910, "fast", 5, "cpld", pll_n=40)


def test_an_update_takes_sixteen_events_of_cpu_time(devices, dds):
    timeline = timeline_of(devices)
    dds.set(94e6, phase_mode=PHASE_MODE_TRACKING)
    assert timeline.cpu == 16 * timeline.model.output_mu
    timeline.now = timeline.cpu
    with pytest.raises(RTIOUnderflow, match="dds"):
        dds.set(94e6, phase_mode=PHASE_MODE_TRACKING)


def test_channels_of_a_card_share_its_bus(devices, cpld, dds):
    second = devices.add(AD9910, "second", 5, "cpld", pll_n=32)
    dds.set(94e6)
    end = timeline_of(devices).now
    timeline_of(devices).now = START + 8
    with pytest.raises(RTIOCollisionError, match="busy"):
        second.set(94e6)
    timeline_of(devices).now = end
    second.set(94e6)


def test_a_synchronised_chip_needs_a_sync_clock(devices, cpld):
    dds = devices.add(AD9910, "without", 5, "cpld", pll_n=32, sync_delay_seed=15)
    with pytest.raises(ValueError, match="does not drive SYNC"):
        dds.init()
    devices.devices["synchronised"] = CPLD(devices, "spi", sync_device="clock", key="synchronised")
    dds = devices.add(AD9910, "with", 4, "synchronised", pll_n=32, sync_delay_seed=15)
    start = timeline_of(devices).now
    dds.init()
    assert timeline_of(devices).now == start + 4_000_000


def test_ad9912(devices, cpld):
    dds = devices.add(AD9912, "dds_422", 4, "cpld", pll_n=8)
    assert dds.sysclk == 1e9
    dds.set(200e6, 0.5)
    assert devices.apparatus.events == [("dds_422", START + 1_376, 200e6, 0.5, 1.0, -1)]
    ftw = dds.frequency_to_ftw(200e6)
    assert dds.ftw_to_frequency(ftw) == pytest.approx(200e6, abs=4e-6)
    dds.set_mu(ftw, dds.turns_to_pow(0.25))
    assert devices.apparatus.events[-1][2:4] == (pytest.approx(200e6, abs=4e-6), 0.25)
    assert dds.get() == (pytest.approx(200e6, abs=4e-6), 0.25)


def test_attenuators_and_switches(devices, cpld, dds):
    dds.set_att(10.0)
    assert cpld.att_reg == 255 - 80
    assert dds.get_att() == 10.0
    with pytest.raises(ValueError, match="attenuation"):
        dds.set_att(32.0)
    timeline_of(devices).now += 1_000_000
    dds.cfg_sw(True)
    assert cpld.rf_sw == 1


# DACs


def test_fastino_holds_channels_until_update(devices):
    fastino = devices.add(Fastino, "fastino", 0)
    fastino.init()
    fastino.set_hold(1 << 15 | 1 << 16)
    for dac in (15, 16, 23):
        fastino.set_dac(dac, 1.0)
    now = timeline_of(devices).now
    assert devices.apparatus.events == [("fastino", now, 23, 1.0)]
    timeline_of(devices).now = now + 500
    fastino.update(1 << 15 | 1 << 23)
    assert devices.apparatus.events[1:] == [("fastino", now + 500, 15, 1.0)]


def test_fastino_codes(devices):
    fastino = devices.add(Fastino, "fastino", 0, log2_width=2)
    assert fastino.voltage_to_mu(0.0) == 0x8000
    assert fastino.voltage_to_mu(-10.0) == 0
    fastino.set_dac_mu(1, 0x8000)
    fastino.set_group(4, [0.0, 5.0, -5.0, 0.0])
    assert [event[2:] for event in devices.apparatus.events] == [(1, 0), (4, 0), (5, 5), (6, -5), (7, 0)]
    for voltage in (10.0, -10.1):
        with pytest.raises(ValueError, match="out of bounds"):
            fastino.set_dac(0, voltage)
    with pytest.raises(ValueError, match="LSBs"):
        fastino.set_group_mu(5, [0, 0])


def test_zotino_changes_at_load(devices):
    zotino = devices.add(Zotino, "zotino", "spi")
    zotino.write_dac(3, 2.5)
    zotino.write_dac(4, -2.5)
    assert devices.apparatus.events == []
    load = timeline_of(devices).now
    assert load == START + 2 * 808
    zotino.load()
    assert devices.apparatus.events == [("zotino", load, 3, 2.5), ("zotino", load, 4, -2.5)]
    timeline_of(devices).now = START + 100_000
    zotino.set_dac([0.0], [3])
    assert devices.apparatus.events[-1] == ("zotino", START + 100_000, 3, 0.0)
    assert timeline_of(devices).now == START + 100_000
    assert zotino.voltage_to_mu(0.0) == 0x8000


# DMA and cache


class Traces:
    def __init__(self, devices):
        self.core = devices.get("core")
        self.dma = devices.add(CoreDMA, "core_dma")
        self.ttl = devices.add(TTLOut, "ttl", 0)
        devices.add(CPLD, "cpld", "spi")
        self.dds = devices.add(AD9910, "dds", 4, "cpld", pll_n=32)

    @kernel
    def record(self):
        with self.dma.record("pulses"):
            delay_mu(50)
            self.ttl.pulse_mu(100)
            self.dds.set(94e6, phase_mode=PHASE_MODE_TRACKING, ref_time_mu=START)
            for _ in range(3):
                self.ttl.pulse_mu(100)
                delay_mu(100)

    @kernel
    def play(self, times):
        self.core.reset()
        handle = self.dma.get_handle("pulses")
        for _ in range(times):
            self.dma.playback_handle(handle)

    @kernel
    def direct(self):
        self.core.reset()
        delay_mu(50)
        self.ttl.pulse_mu(100)
        self.dds.set(94e6, phase_mode=PHASE_MODE_TRACKING, ref_time_mu=START)
        for _ in range(3):
            self.ttl.pulse_mu(100)
            delay_mu(100)

    @kernel
    def play_by_name(self, name):
        self.core.reset()
        self.dma.playback(name)


def test_playback_is_what_was_recorded(devices):
    traces = Traces(devices)
    traces.record()
    assert devices.apparatus.events == []
    traces.play(1)
    played = devices.apparatus.events[:]
    devices.apparatus.events.clear()
    traces.direct()
    offset = devices.apparatus.events[0][1] - played[0][1]
    assert [(key, time + offset, *values) for key, time, *values in played] == devices.apparatus.events


def test_playback_is_faster_than_the_cpu_but_not_endless(devices):
    traces = Traces(devices)
    traces.record()
    traces.play(10)
    duration = traces.dma.traces["pulses"][0]
    timeline = timeline_of(devices)
    assert timeline.now - timeline.cpu > 10 * duration
    timeline.cpu = timeline.now
    with pytest.raises(RTIOUnderflow):
        traces.dma.playback("pulses")


def test_dma_errors(devices):
    traces = Traces(devices)
    traces.record()
    handle = traces.dma.get_handle("pulses")
    traces.record()
    with pytest.raises(DMAError, match="Invalid handle"):
        traces.dma.playback_handle(handle)
    with pytest.raises(DMAError, match="pulses"):
        traces.play_by_name("other")
    traces.dma.erase("pulses")
    with pytest.raises(DMAError, match="pulses"):
        traces.play_by_name("pulses")
    with pytest.raises(KeyError), traces.dma.record("broken"):
        raise KeyError
    assert "broken" not in traces.dma.traces
    assert timeline_of(devices).recorder is None


class Cached:
    def __init__(self, devices):
        self.core = devices.get("core")
        self.cache = devices.add(CoreCache, "core_cache")

    @kernel
    def put(self, value):
        self.cache.put("row", value)

    @kernel
    def get(self):
        return self.cache.get("row")

    @kernel
    def replace(self):
        self.cache.get("row")
        self.cache.put("row", [9])


def test_cache_rows_in_use_stay(devices):
    cached = Cached(devices)
    assert cached.get() == []
    cached.put([1, 2])
    assert cached.get() == [1, 2]
    with pytest.raises(CacheError, match="row"):
        cached.replace()
    cached.put([])
    assert cached.get() == []


def test_time_manager_serves_functions_without_source(devices):
    timeline = timeline_of(devices)
    previous = language._time_manager
    set_time_manager(timeline)
    try:
        delay_mu(10)
    finally:
        set_time_manager(previous)
    assert timeline.now == START + 10
