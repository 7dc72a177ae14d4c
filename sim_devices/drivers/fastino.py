"""Fastino 32-channel DAC (`artiq.coredevice.fastino`)."""

from __future__ import annotations

from collections.abc import MutableSequence, Sequence
from typing import Any

FRAME_MU = 14 * 7 * 4


class Fastino:
    """Channels that are held change only at `update`; the others at once. Writes leave the cursor alone."""

    def __init__(
        self, dmgr: Any, channel: int, core_device: str = "core", log2_width: int = 0, *, key: str
    ) -> None:
        self.core = dmgr.get(core_device)
        self.channel = channel << 8
        self.width = 1 << log2_width
        self.t_frame = FRAME_MU
        self.key = key
        self._bind(self.core.timeline.traced(key, dmgr.get("apparatus").dac_sink(key)))

    def _bind(self, sink: Any) -> None:
        timeline, key = self.core.timeline, self.key
        cost = timeline.model.output_mu
        beyond = 10.0 - 0.5 * 10.0 / 0x8000
        staged: dict[int, float] = {}
        held = 0

        def write(action: Any, *args: Any) -> bool:
            """Account for one register write; False if it was recorded instead."""
            if timeline.now < timeline.cpu + cost:
                timeline.late(key, cost, action, *args)
                return False
            timeline.cpu += cost
            return True

        def set_dac(dac: int, voltage: float) -> None:
            """Voltage of one channel, -10 V to 9.9997 V."""
            if not -10.0 <= voltage < beyond:
                raise ValueError("DAC voltage out of bounds")
            now = timeline.now
            cpu = timeline.cpu + cost
            if now < cpu:
                timeline.late(key, cost, set_dac, dac, voltage)
                return
            timeline.cpu = cpu
            if held >> dac & 1:
                staged[dac] = voltage
            else:
                sink(now, dac, voltage)

        def set_dac_mu(dac: int, data: int) -> None:
            """Code of one channel, 16 bits, 0x8000 for 0 V."""
            set_dac(dac, ((int(data) & 0xFFFF) - 0x8000) * 10.0 / 0x8000)

        def update(update: int) -> None:
            """Let the held channels of a bit field take their staged voltages."""
            if write(self.update, update):
                now = timeline.now
                for dac in [dac for dac in staged if update >> dac & 1]:
                    sink(now, dac, staged.pop(dac))

        def set_hold(hold: int) -> None:
            """Bit field of the channels that wait for `update`."""
            nonlocal held
            if write(self.set_hold, hold):
                held = int(hold) & 0xFFFF_FFFF

        self._write = write
        self.set_dac = set_dac
        self.set_dac_mu = set_dac_mu
        self.update = update
        self.set_hold = set_hold

    def init(self) -> None:
        """Configure the card and let all channels update at once; advances the cursor by seven frames."""
        for _ in range(6):
            self._write(self._no_operation)
            self.core.timeline.now += self.t_frame
        self.set_hold(0)
        self.core.timeline.now += self.t_frame

    def _no_operation(self) -> None:
        """Replays a write to a register that nothing hangs on."""

    def set_group_mu(self, dac: int, data: Sequence[int]) -> None:
        """Codes of a group of channels, two a word; missing ones become code 0."""
        if dac & (self.width - 1):
            raise ValueError("Group index LSBs must be zero")
        for position in range(self.width):
            word = int(data[position // 2]) if position // 2 < len(data) else 0
            self.set_dac_mu(dac + position, word >> 16 * (position & 1))

    def set_group(self, dac: int, voltage: Sequence[float]) -> None:
        """Voltages of a group of channels; missing ones become code 0."""
        data = [0] * (len(voltage) // 2)
        self.voltage_group_to_mu(voltage, data)
        self.set_group_mu(dac, data)

    def voltage_to_mu(self, voltage: float) -> int:
        """Code of a voltage."""
        data = round((0x8000 / 10.0) * voltage) + 0x8000
        if not 0 <= data <= 0xFFFF:
            raise ValueError("DAC voltage out of bounds")
        return data

    def voltage_group_to_mu(self, voltage: Sequence[float], data: MutableSequence[int]) -> None:
        """Codes of voltages, packed two a word into `data`."""
        for position, volts in enumerate(voltage):
            code = self.voltage_to_mu(volts)
            data[position // 2] = data[position // 2] | code << 16 if position & 1 else code

    def set_leds(self, leds: int) -> None:
        """User LEDs as a bit field."""
        self._write(self._no_operation)

    def set_cfg(self, reset: int = 0, afe_power_down: int = 0, dac_clr: int = 0, clr_err: int = 0) -> None:
        """Configuration bits; clearing puts all channels to 0 V."""
        self._write(self._no_operation)
        if dac_clr:
            for dac in range(32):
                self.set_dac(dac, 0.0)
