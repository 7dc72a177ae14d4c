"""Physics of the simulated laboratory: the ions, the light between them, and their parameters."""

from sim_devices.physics.constants import NOMINAL_PATTERN_PHASES

__all__ = ["NOMINAL_PATTERN_PHASES"]
