"""Experiment language: primitives, types, environment and units."""

from artiq.language import core, environment, types, units
from artiq.language.core import *  # noqa: F403
from artiq.language.environment import *  # noqa: F403
from artiq.language.types import *  # noqa: F403
from artiq.language.units import *  # noqa: F403

__all__ = [*core.__all__, *types.__all__, *environment.__all__, *units.__all__]
