"""AD9910 DDS channels (`artiq.coredevice.ad9910`).

`set` hands the apparatus frequency, phase and amplitude as they were given: the rounding to tuning words
(0.1 Hz, 1e-5 turns) is far below what the ions resolve, and `set_mu` has it. The time that the apparatus
gets is that of the IO_UPDATE pulse, as on hardware: about 2 us after the cursor at the call.
"""

from __future__ import annotations

from operator import index
from typing import Any

from sim_devices.drivers.dds_channel import DDSChannel

PHASE_MODE_CONTINUOUS = 0
PHASE_MODE_ABSOLUTE = 1
PHASE_MODE_TRACKING = 2
_PHASE_MODE_DEFAULT = -1

# Durations of SPI transfers at the write divider of Urukul, and the events they take
WRITE32_MU = 704
WRITE64_MU = 1248
IO_UPDATE_MU = 8
NUM_EVENTS_CONTINUOUS = 8
NUM_EVENTS_AUTOCLEAR = 16


class AD9910(DDSChannel):
    """One AD9910 in single-tone operation."""

    def __init__(
        self,
        dmgr: Any,
        chip_select: int,
        cpld_device: str,
        sw_device: str | None = None,
        pll_n: int = 40,
        pll_cp: int = 7,
        pll_vco: int = 5,
        sync_delay_seed: int | str = -1,
        io_update_delay: int | str = 0,
        pll_en: int = 1,
        *,
        key: str,
    ) -> None:
        super().__init__(dmgr, chip_select, cpld_device, sw_device, 3, key)
        clk = self.cpld.refclk / (4, 1, 2, 4)[self.cpld.clk_div]
        self.sysclk = clk * pll_n if pll_en else clk
        if self.sysclk > 1e9:
            raise ValueError(f"{key}: system clock of {self.sysclk / 1e9:g} GHz; the limit is 1 GHz")
        self.ftw_per_hz = (1 << 32) / self.sysclk
        self.sysclk_per_mu = round(self.sysclk * self.core.ref_period)
        self.phase_mode = PHASE_MODE_CONTINUOUS
        self._synchronised = isinstance(sync_delay_seed, str) or sync_delay_seed >= 0
        self.io_update_delay_mu = io_update_delay if isinstance(io_update_delay, int) else 0
        self._registers = (0.0, 0.0, 0.0)
        self._bind(dmgr.get("apparatus"))

    def _bind(self, apparatus: Any) -> None:
        timeline, key, cpld = self.core.timeline, self.key, self.cpld
        sink = timeline.traced(key, apparatus.dds_sink(key))
        cost = timeline.model.output_mu
        ref_period = timeline.ref_period
        # start to IO_UPDATE, CPU time of all events, IO_UPDATE to end
        continuous = (WRITE64_MU + self.io_update_delay_mu, NUM_EVENTS_CONTINUOUS * cost, 0)
        autoclear = (
            WRITE32_MU + WRITE64_MU + self.io_update_delay_mu,
            NUM_EVENTS_AUTOCLEAR * cost,
            WRITE32_MU,
        )

        def update(
            frequency: float, turns: float, amplitude: float, phase_mode: int, ref_time_mu: int
        ) -> tuple[int, int]:
            """Program the profile; the aligned start and the fiducial time (-1: no phase reference)."""
            now = timeline.now & -8
            if phase_mode < 0:
                phase_mode = self.phase_mode
            before, events, after = autoclear if phase_mode else continuous
            at = now + before
            end = (at + IO_UPDATE_MU & -8) + after
            cpu = timeline.cpu + events
            if end < cpu or now < cpu - events + cost:
                timeline.late(key, events, update, frequency, turns, amplitude, phase_mode, ref_time_mu)
                timeline.now = end
                return now, -1
            if now < cpld.bus_free_at:
                cpld.bus_busy(now)
            timeline.cpu = cpu
            timeline.now = cpld.bus_free_at = end
            if not phase_mode:
                reference = -1
            elif ref_time_mu >= 0:
                reference = index(ref_time_mu)
            else:
                reference = 0 if phase_mode == PHASE_MODE_TRACKING else at
            sink(at, frequency, turns, amplitude, reference)
            return now, reference

        def set(
            frequency: float = 0.0,
            phase: float = 0.0,
            amplitude: float = 1.0,
            phase_mode: int = _PHASE_MODE_DEFAULT,
            ref_time_mu: int = -1,
            profile: int = 7,
            ram_destination: int = -1,
        ) -> float:
            """Set frequency (Hz), phase (turns) and amplitude (of full scale).

            Advances the cursor by the transfers and the update pulse; returns the phase offset in turns.
            """
            if not 0.0 <= amplitude <= 1.0:
                raise ValueError("Invalid AD9910 fractional amplitude!")
            now, reference = update(frequency, phase, amplitude, phase_mode, ref_time_mu)
            self._registers = (frequency, phase, amplitude)
            if reference < 0 or reference > now:
                return phase
            return phase + (now - reference) * ref_period * frequency

        def set_mu(
            ftw: int = 0,
            pow_: int = 0,
            asf: int = 0x3FFF,
            phase_mode: int = _PHASE_MODE_DEFAULT,
            ref_time_mu: int = -1,
            profile: int = 7,
            ram_destination: int = -1,
        ) -> int:
            """Set tuning word (32 bits), phase word (16 bits) and amplitude word (14 bits)."""
            frequency = (int(ftw) & 0xFFFF_FFFF) / self.ftw_per_hz
            turns = (int(pow_) & 0xFFFF) / 0x10000
            now, reference = update(frequency, turns, asf / 0x3FFF, phase_mode, ref_time_mu)
            self._registers = (frequency, turns, asf / 0x3FFF)
            if reference < 0 or reference > now:
                return pow_
            return pow_ + ((now - reference) * int(ftw) * self.sysclk_per_mu >> 16)

        self._update = update
        self.set = set
        self.set_mu = set_mu

    def init(self, blind: bool = False, dds_channel_idx: int = 0) -> None:
        """Start the chip and lock its PLL; advances the cursor by about 2 ms, by 4 ms with SYNC."""
        if not self._synchronised:
            self.cpld.transfer(2_000_000, 40)
            return
        if not self.cpld.sync_div:
            raise ValueError("parent CPLD does not drive SYNC")
        self.cpld.transfer(4_000_000, 400)

    def power_down(self, bits: int = 0b1111) -> None:
        self.cpld.transfer(WRITE32_MU + IO_UPDATE_MU)

    def set_phase_mode(self, phase_mode: int) -> None:
        """Default phase mode of later calls; does not touch the timeline."""
        self.phase_mode = phase_mode

    def set_frequency(self, frequency: float) -> None:
        self.set(frequency, self._registers[1], self._registers[2])

    def set_amplitude(self, amplitude: float) -> None:
        self.set(self._registers[0], self._registers[1], amplitude)

    def set_phase(self, turns: float) -> None:
        self.set(self._registers[0], turns, self._registers[2])

    def get(self, profile: int = 7) -> tuple[float, float, float]:
        """Frequency, phase and amplitude as last set; consumes all slack."""
        self.cpld.transfer(10_000, 8)
        self.core.timeline.wait_until(self.core.timeline.now)
        return self._registers

    def frequency_to_ftw(self, frequency: float) -> int:
        return _signed32(round(self.ftw_per_hz * frequency))

    def ftw_to_frequency(self, ftw: int) -> float:
        return (int(ftw) & 0xFFFF_FFFF) / self.ftw_per_hz

    def turns_to_pow(self, turns: float) -> int:
        return round(turns * 0x10000) & 0xFFFF

    def pow_to_turns(self, pow_: int) -> float:
        return pow_ / 0x10000

    def amplitude_to_asf(self, amplitude: float) -> int:
        code = round(amplitude * 0x3FFF)
        if not 0 <= code <= 0x3FFF:
            raise ValueError("Invalid AD9910 fractional amplitude!")
        return code

    def asf_to_amplitude(self, asf: int) -> float:
        return asf / 0x3FFF


def _signed32(value: int) -> int:
    return ((value + 0x8000_0000) & 0xFFFF_FFFF) - 0x8000_0000
