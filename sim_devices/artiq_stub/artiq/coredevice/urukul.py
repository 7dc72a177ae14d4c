"""Constant of the Urukul cards."""

DEFAULT_PROFILE = 7
