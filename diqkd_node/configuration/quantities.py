"""Kinds of values in a node configuration, in SI units, with the range that each may have.

Numbers are taken strictly: the compiler of kernels wants a float for a voltage that is 1 in the file, and an
integer for a threshold, so 1 becomes 1.0, and 15.5 photons or "94e6" are refused.
"""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Strict


class Step(BaseModel):
    """Base of the steps' parameters: immutable, and an unknown name is refused, so that a misspelt one does
    not fall back to its default."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    def value(self, field: str) -> Any:
        """Value of a field, as it is used."""
        return getattr(self, field)


def within(low: float, high: float, unit: str = "") -> AfterValidator:
    """Refuse a number that is not between `low` and `high`, both included; NaN among them."""

    def check(value: float) -> float:
        if not low <= value <= high:
            raise ValueError(f"is outside {low:g} to {high:g} {unit}".rstrip() + "; give a value within")
        return value

    return AfterValidator(check)


def _in_order(window: tuple[float, float]) -> tuple[float, float]:
    if window[0] > window[1]:
        raise ValueError("ends before it begins; give start, then stop")
    return window


Integer = Annotated[int, Strict()]
Number = Annotated[float, Strict()]

Count = Annotated[Integer, within(1, 10_000)]
PhotonCount = Annotated[Integer, within(0, 10_000, "counts")]
Time = Annotated[Number, within(1e-9, 0.1, "s")]
"""Duration or delay of the sequence: from the RTIO period up, and far below the time between two checks."""

HostTime = Annotated[Number, within(1e-3, 60.0, "s")]
"""Time between two calls of the host."""

PiTime = Annotated[Number, within(0.1e-6, 1e-3, "s")]
Frequency = Annotated[Number, within(1e6, 400e6, "Hz")]
"""What a synthesiser puts out at a clock of 1 GHz."""

MagneticField = Annotated[Number, within(1e-6, 10e-3, "T")]
Attenuation = Annotated[Number, within(0.0, 31.5, "dB")]
Amplitude = Annotated[Number, within(1e-3, 1.0, "of full scale")]
Turns = Annotated[Number, within(-1.0, 1.0, "turns")]
Volts = Annotated[Number, within(-9.999, 9.999, "V")]
"""The Fastino's range, without its ends."""

_InAttempt = Annotated[Number, within(0.0, 10e-6, "s")]
OutputWindow = Annotated[tuple[_InAttempt, _InAttempt], AfterValidator(_in_order)]
"""Start and stop of an output, after the start of an attempt."""

_AfterPulse = Annotated[Number, within(0.0, 1e-6, "s")]
PhotonWindow = Annotated[tuple[_AfterPulse, _AfterPulse], AfterValidator(_in_order)]
"""Start and stop of the detectors' gates, after the picosecond pulse."""
