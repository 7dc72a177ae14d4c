"""Urukul CPLD (`artiq.coredevice.urukul`): attenuators, switches, and the SPI bus that its DDS share."""

from __future__ import annotations

from typing import Any

from sim_devices.engines.host.timeline import RTIOCollisionError

STA_PROTO_REV_8 = 0x08
STA_PROTO_REV_9 = 0x09


class CPLD:
    """One Urukul card. The bus, update and reset devices exist only as names: nothing is behind them."""

    def __init__(
        self,
        dmgr: Any,
        spi_device: str,
        io_update_device: str | None = None,
        dds_reset_device: str | None = None,
        sync_device: str | None = None,
        sync_sel: int = 0,
        clk_sel: int = 0,
        clk_div: int = 0,
        rf_sw: int = 0,
        refclk: float = 125e6,
        att: int = 0,
        sync_div: int | None = None,
        proto_rev: int = STA_PROTO_REV_9,
        core_device: str = "core",
        *,
        key: str = "urukul_cpld",
    ) -> None:
        if proto_rev not in (STA_PROTO_REV_8, STA_PROTO_REV_9):
            raise ValueError(f"Urukul unsupported proto_rev: {proto_rev}")
        self.core = dmgr.get(core_device)
        self.key = key
        self.refclk = refclk
        self.clk_div = clk_div
        self.proto_rev = proto_rev
        self.att_reg = int(att)
        self.rf_sw = rf_sw
        self.sync_div = (2 if sync_div is None else sync_div) if sync_device is not None else 0
        self.bus_free_at = 0
        self._timeline = self.core.timeline
        self._timeline.reset_hooks.append(self._release_bus)

    def _release_bus(self) -> None:
        self.bus_free_at = 0

    def transfer(self, duration_mu: int, num_events: int = 4) -> None:
        """Occupy the SPI bus from the cursor for `duration_mu`; advances the cursor by it."""
        timeline = self._timeline
        cost = num_events * timeline.model.output_mu
        now = timeline.now
        if now < timeline.cpu + timeline.model.output_mu:
            timeline.late(self.key, cost, self.transfer, duration_mu, num_events)
            timeline.now = now + duration_mu
            return
        if now < self.bus_free_at:
            self.bus_busy(now)
        timeline.cpu += cost
        timeline.now = self.bus_free_at = now + duration_mu

    def bus_busy(self, now: int) -> None:
        raise RTIOCollisionError(
            f"{self.key}: SPI transfer at {now} mu while the bus is busy until {self.bus_free_at} mu; "
            "program the channels of a card one after another"
        )

    def init(self, blind: bool = False) -> None:
        """Wake the card up; advances the cursor by about 1.1 ms."""
        self.transfer(1_101_000)

    def sta_read(self) -> int:
        """Status: the protocol revision, all PLLs locked."""
        self.transfer(3_000)
        self._timeline.wait_until(self._timeline.now)
        return (self.proto_rev << 16) | (0xF << 8) | self.rf_sw

    def cfg_sw(self, channel: int, on: bool) -> None:
        """Switch of one channel in the configuration register, OR-ed with its TTL line on the card."""
        self.cfg_switches(self.rf_sw | 1 << channel if on else self.rf_sw & ~(1 << channel))

    def cfg_switches(self, state: int) -> None:
        """All four switches as a bit field."""
        self.transfer(440, 2)
        self.rf_sw = state & 0xF

    def mu_to_att(self, att_mu: int) -> float:
        """Attenuation in dB of a register value."""
        return (255 - (att_mu & 0xFF)) / 8

    def att_to_mu(self, att: float) -> int:
        """Register value of an attenuation in dB, 0 to 31.5."""
        code = 255 - round(att * 8)
        if not 0 <= code <= 255:
            raise ValueError("Invalid urukul.CPLD attenuation!")
        return code

    def set_att_mu(self, channel: int, att: int) -> None:
        """Attenuator of one channel, in machine units; writes all four."""
        self.set_all_att_mu((self.att_reg & ~(0xFF << channel * 8)) | (att << channel * 8))

    def set_all_att_mu(self, att_reg: int) -> None:
        self.transfer(8 + (33 * 6 + 1) * 8, 2)
        self.att_reg = att_reg

    def set_att(self, channel: int, att: float) -> None:
        """Attenuator of one channel in dB."""
        self.set_att_mu(channel, self.att_to_mu(att))

    def get_att_mu(self) -> int:
        """All four attenuators; consumes all slack."""
        self.transfer(20_000, 6)
        self._timeline.wait_until(self._timeline.now)
        return self.att_reg

    def get_channel_att_mu(self, channel: int) -> int:
        return (self.get_att_mu() >> channel * 8) & 0xFF

    def get_channel_att(self, channel: int) -> float:
        return self.mu_to_att(self.get_channel_att_mu(channel))
