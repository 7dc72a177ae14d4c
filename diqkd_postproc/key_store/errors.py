"""Errors of a key store: bits that were issued already, pieces that it does not hold."""

from __future__ import annotations

from diqkd_postproc.protocol.errors import InsufficientKeyError


class KeyReuseError(InsufficientKeyError):
    """Secret bits were requested a second time: they stay locked, other bits are needed."""


class UnknownPieceError(InsufficientKeyError):
    """No piece of a generated key has this name, or it is reserved for another purpose."""
