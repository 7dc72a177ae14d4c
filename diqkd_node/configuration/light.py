"""Beams and what each step does with them: cooling, pumping, readout, scrambling (PROTOCOL 3.2, 3.8, 3.9)."""

from typing import Annotated

from diqkd_node.configuration.quantities import (
    Attenuation,
    Frequency,
    Number,
    PhotonCount,
    Step,
    Time,
    within,
)


class BeamParameters(Step):
    """Frequencies of the beams' modulators, attenuation of every synthesiser, dark time between two beams."""

    frequency_422: Frequency = 210.0e6
    frequency_1092: Frequency = 200.0e6
    frequency_1033: Frequency = 200.0e6
    attenuation: Attenuation = 10.0
    gap: Time = 1e-6


class CoolingParameters(Step):
    """Doppler cooling between windows of attempts; the delay after a window is the CPU's turn."""

    time: Time = 300e-6
    recooling_delay: Time = 10e-6


class StatePreparationParameters(Step):
    """Optical pumping into S1/2 m=+1/2 before the shots of a calibration."""

    pumping_time: Time = 5e-6


class ReadoutParameters(Step):
    """An ion with more photons than the threshold is bright."""

    time: Time = 250e-6
    threshold: PhotonCount = 15


class ScramblingParameters(Step):
    """100 us are ten time constants of deshelving (SI section S2)."""

    time: Annotated[Number, within(100e-6, 10e-3, "s")] = 100e-6
