"""Kernels that use every driver that the nodes have; the compiler needs them in a file of their own."""

# ruff: noqa: F403, F405

from artiq.coredevice.ad9910 import PHASE_MODE_ABSOLUTE, PHASE_MODE_CONTINUOUS, PHASE_MODE_TRACKING
from artiq.experiment import *
from numpy import int64

START = 10_000_000_000
"""Past the initialisation, whose length differs between the engines: one time for both."""

# Channels of the entangler core.
SEQUENCER_PICOSECOND = 0b001010
GATE_APD0 = 0b001100
TIMESTAMP_APD0 = 0b101000


class Drivers(EnvExperiment):
    def build(self):
        for key in (
            *("core", "ttl_422_cool", "ttl_674", "pmt", "pmt_counter", "ttl_laser_lock", "ttl_trigger"),
            *("urukul0_cpld", "dds_674", "urukul1_cpld", "dds_422", "fastino", "entangler"),
        ):
            self.setattr_device(key)
        self.reports = []

    def say(self, *values):
        self.reports.append(values)

    @kernel
    def initialise(self):
        self.core.reset()
        self.urukul0_cpld.init()
        self.core.break_realtime()
        self.dds_674.init()
        self.core.break_realtime()
        self.urukul1_cpld.init()
        self.core.break_realtime()
        self.dds_422.init()
        self.core.break_realtime()
        self.fastino.init()
        self.core.break_realtime()
        self.entangler.init()

    @kernel
    def switches(self):
        self.core.reset()
        at_mu(int64(START))
        with parallel:
            self.ttl_422_cool.pulse_mu(500)
            self.ttl_674.pulse(1 * us)
        delay_mu(1000)
        self.ttl_422_cool.on()
        delay_mu(8)
        self.ttl_422_cool.set_o(False)
        delay_mu(80)
        self.ttl_674.on()
        self.ttl_674.off()

    @kernel
    def inputs(self):
        self.core.reset()
        self.ttl_trigger.input()
        at_mu(int64(START))
        end = self.ttl_trigger.gate_rising_mu(10_000)
        self.say(self.ttl_trigger.timestamp_mu(end) - int64(START))
        self.say(self.ttl_trigger.timestamp_mu(end) - int64(START))
        self.say(self.ttl_trigger.timestamp_mu(end))
        self.core.break_realtime()
        self.say(self.ttl_trigger.timestamp_mu(now_mu()))
        at_mu(int64(START) + 10_000_000)
        self.pmt_counter.gate_rising_mu(1000)
        delay_mu(500)
        self.pmt_counter.gate_rising(2 * us)
        self.ttl_laser_lock.sample_input()
        self.say(self.pmt_counter.fetch_count(), self.pmt_counter.fetch_count())
        self.say(self.ttl_laser_lock.sample_get())
        delay_mu(20_000_000)
        stamp = self.pmt_counter.gate_rising_mu(100)
        self.say(self.pmt_counter.fetch_timestamped_count(stamp + 1000))
        self.say(self.pmt_counter.fetch_timestamped_count(stamp + 2000))

    @kernel
    def synthesisers(self):
        self.initialise()
        at_mu(int64(START))
        reference = int64(START) - 12_345_678
        self.dds_674.set(94.0 * MHz, phase=0.25, amplitude=0.5, phase_mode=PHASE_MODE_CONTINUOUS)
        delay_mu(20_000)
        self.dds_674.set(
            71.6 * MHz, phase=0.375, amplitude=0.25, phase_mode=PHASE_MODE_TRACKING, ref_time_mu=reference
        )
        delay_mu(20_003)
        self.dds_674.set(108.0 * MHz, phase=-0.125, phase_mode=PHASE_MODE_TRACKING, ref_time_mu=reference)
        delay_mu(20_000)
        self.dds_674.set(108.0 * MHz, phase=0.5, phase_mode=PHASE_MODE_ABSOLUTE)
        delay_mu(20_000)
        self.dds_422.set(213.7 * MHz, 0.25)

    @kernel
    def read_synthesisers(self):
        self.initialise()
        self.dds_674.set(94.0 * MHz, phase=0.25, amplitude=0.5)
        self.core.break_realtime()
        self.say(self.dds_674.get())
        self.core.break_realtime()
        self.dds_674.set_att(10.0)
        self.core.break_realtime()
        self.say(self.dds_674.get_att())
        self.core.break_realtime()
        self.say(self.urukul0_cpld.sta_read() >> 8 & 0xF)

    @kernel
    def electrodes(self):
        self.initialise()
        at_mu(int64(START))
        self.fastino.set_dac(15, 1.0)
        delay_mu(8)
        self.fastino.set_dac_mu(16, 0x8000)
        delay_mu(392)
        self.fastino.set_hold(1 << 23)
        delay_mu(392)
        self.fastino.set_dac(23, -2.5)
        delay_mu(392)
        self.fastino.set_dac(24, -9.0)
        delay_mu(392)
        self.fastino.update(1 << 23)

    @kernel
    def attempts(self):
        self.initialise()
        self.entangler.set_cycle_length_mu(970)
        self.entangler.set_heralds([0b0011, 0b1100])
        self.entangler.set_timing_mu(SEQUENCER_PICOSECOND, 650, 700)
        for i in range(4):
            self.entangler.set_timing(GATE_APD0 + i, 20.4 * ns, 60 * ns)
        self.entangler.set_counter_patterns(1, [0b0100])
        self.entangler.set_config(enable=True)
        at_mu(int64(START))
        self.say(self.entangler.run_mu(500_000))
        self.say(now_mu() - int64(START))
        self.core.break_realtime()
        self.say(self.entangler.get_ncycles())
        self.core.break_realtime()
        self.say(self.entangler.get_ntriggers())
        self.core.break_realtime()
        self.say(self.entangler.get_status())
        self.core.break_realtime()
        self.say(self.entangler.get_timestamp_mu(TIMESTAMP_APD0 + 2))
        self.core.break_realtime()
        self.say(self.entangler.get_timestamp_mu(TIMESTAMP_APD0 + 3))
        self.core.break_realtime()
        self.say(self.entangler.get_input_count(2))
        self.core.break_realtime()
        self.say(self.entangler.get_pattern_count(1))
        self.core.break_realtime()
        self.say(self.entangler.run(100 * us))
        self.core.break_realtime()
        self.say(self.entangler.get_time_remaining())

    @kernel
    def tune_synchronisation(self):
        self.initialise()
        self.say(self.dds_674.tune_sync_delay(15))

    @kernel
    def blocked(self):
        self.core.reset()
        self.pmt_counter.fetch_count()

    @kernel
    def collide(self):
        self.core.reset()
        self.ttl_674.on()
        delay_mu(1)
        self.ttl_674.off()
        delay_mu(-1000)
        self.ttl_674.on()

    @kernel
    def one_pulse(self):
        self.core.reset()
        self.ttl_674.pulse_mu(1000)

    @kernel
    def overflow_the_stack(self):
        self.say(self.recurse(1))

    @kernel
    def recurse(self, depth) -> TInt32:
        values = [depth + i for i in range(1000)]
        return self.recurse(depth + 1) + values[depth % 1000]


class Converter(EnvExperiment):
    def build(self):
        self.setattr_device("core")
        self.setattr_device("zotino")
        self.codes = []

    def say(self, code):
        self.codes.append(code)

    @kernel
    def play(self):
        self.core.reset()
        self.zotino.init()
        at_mu(int64(START))
        self.zotino.write_dac(3, 2.5)
        self.zotino.write_dac(9, -7.25)
        self.zotino.load()
        at_mu(int64(START) + 100_000)
        self.zotino.set_dac([1.0, -1.0, 0.0])

    @kernel
    def read(self):
        self.core.break_realtime()
        self.say(self.zotino.read_reg(9))


class Groups(EnvExperiment):
    def build(self):
        self.setattr_device("core")
        self.setattr_device("wide")

    @kernel
    def play(self):
        self.core.reset()
        at_mu(int64(START))
        self.wide.set_group(4, [1.0, -1.0, 2.0, -2.0])
        delay_mu(1000)
        self.wide.set_group_mu(8, [0x8000_9000, 0x7000_8000])
