"""SPI buses (`artiq.coredevice.spi2`) of cards that are simulated as a whole: no device answers on them."""

from __future__ import annotations

from typing import Any


class SPIMaster:
    """Takes the constructor arguments of the real bus, so that its device_db entry stays."""

    def __init__(
        self,
        dmgr: Any,
        channel: int,
        div: int = 0,
        length: int = 0,
        core_device: str = "core",
        *,
        key: str = "spi",
    ) -> None:
        self.core = dmgr.get(core_device)
        self.channel = channel
        self.key = key
        self.ref_period_mu = self.core.ref_multiplier
        self.update_xfer_duration_mu(div, length)

    def update_xfer_duration_mu(self, div: int, length: int) -> None:
        """Duration of a transfer of `length` bits."""
        self.xfer_duration_mu = ((length + 1) * div + 1) * self.ref_period_mu
