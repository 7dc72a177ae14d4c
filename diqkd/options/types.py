"""Types of command-line arguments; each raises argparse.ArgumentTypeError with what was expected."""

from __future__ import annotations

import argparse
from fractions import Fraction


def count(text: str) -> int:
    """A number of rounds or bits; scientific notation allowed as long as the value is whole.

    Accepts `1500000`, `1.5e6` and `1_500_000`; the value is from 1 to 2^63 - 1.
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1 <= value < 2**63 or value != int(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(value)


def count_or_none(text: str) -> int:
    """Like `count`, or 0."""
    return 0 if text == "0" else count(text)


def gamma(text: str) -> Fraction:
    """A test probability k/2^b, given as `13/256` or as an exactly representable decimal.

    Kept exact as a Fraction; whether it is k/2^b and inside (0, 1) is checked where it is used.
    """
    try:
        value = Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"{text!r} is not a fraction such as 13/256") from None
    return value


def address(text: str) -> tuple[str, int]:
    """HOST:PORT."""
    host, separator, port = text.rpartition(":")
    if not separator or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT, for example 192.0.2.7:7700")
    return host, int(port)
