"""Base of the DDS channels of a Urukul card: the card, the switch and the attenuator."""

from __future__ import annotations

from typing import Any

from sim_devices.drivers.urukul import CPLD


class DDSChannel:
    """One DDS on a Urukul card."""

    def __init__(
        self,
        dmgr: Any,
        chip_select: int,
        cpld_device: str,
        sw_device: str | None,
        lowest_chip_select: int,
        key: str,
    ) -> None:
        if not lowest_chip_select <= chip_select <= 7:
            raise ValueError(f"{key}: chip_select is {chip_select}; it must be {lowest_chip_select} to 7")
        self.cpld: CPLD = dmgr.get(cpld_device)
        self.core = self.cpld.core
        self.chip_select = chip_select
        self.key = key
        if sw_device:
            self.sw = dmgr.get(sw_device)

    def set_att_mu(self, att: int) -> None:
        """Attenuator of this channel in machine units."""
        self.cpld.set_att_mu(self.chip_select - 4, att)

    def set_att(self, att: float) -> None:
        """Attenuator of this channel in dB."""
        self.cpld.set_att(self.chip_select - 4, att)

    def get_att_mu(self) -> int:
        return self.cpld.get_channel_att_mu(self.chip_select - 4)

    def get_att(self) -> float:
        return self.cpld.get_channel_att(self.chip_select - 4)

    def cfg_sw(self, state: bool) -> None:
        """RF switch of this channel in the configuration register of the card."""
        self.cpld.cfg_sw(self.chip_select - 4, state)
