"""Errors of a key store: bits that were issued already, pieces that it does not hold."""

from __future__ import annotations

from diqkd_postproc.protocol.errors import InsufficientKeyError


class KeyReuseError(InsufficientKeyError):
    """Secret bits were requested a second time: they stay locked, other bits are needed.

    Raised for a pad of another message or session, a piece that was delivered, and a range or label that is
    taken.
    """


class UnknownPieceError(InsufficientKeyError):
    """No piece of a generated key has this name, or it is reserved for another purpose.

    Also a session that has no key here, and a range outside its key.
    """
