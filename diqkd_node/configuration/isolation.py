"""Isolation of the ion from the link (PROTOCOL 3.5): electrodes Q15, Q16, Q23, Q24 move it by 3 um."""

from typing import Annotated, Self

from pydantic import model_validator

from diqkd_node.configuration.quantities import Integer, Number, Step, Volts, within

_Channel = Annotated[Integer, within(0, 31)]


class IsolationParameters(Step):
    """Channels of the Fastino and their voltages; the electrodes' filter needs 30 us to settle."""

    channels: tuple[_Channel, ...] = (15, 16, 23, 24)
    connected_voltages: tuple[Volts, ...] = (0.0, 0.0, 0.0, 0.0)
    isolated_voltages: tuple[Volts, ...] = (1.0, 1.0, 1.0, 1.0)
    settling_time: Annotated[Number, within(30e-6, 1e-3, "s")] = 30e-6

    @model_validator(mode="after")
    def _one_voltage_each(self) -> Self:
        if len(set(self.channels)) != len(self.channels) or not self.channels:
            raise ValueError(f"channels={list(self.channels)} names none, or one twice; give different ones")
        for name in ("connected_voltages", "isolated_voltages"):
            if (given := len(getattr(self, name))) != len(self.channels):
                raise ValueError(
                    f"{name} has {given} entries for {len(self.channels)} electrodes; give one for each"
                )
        return self
