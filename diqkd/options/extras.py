"""Optional extras that a command needs."""

from __future__ import annotations

from diqkd_postproc.protocol.errors import ParameterError


def require_delivery() -> None:
    """Raise ParameterError, with the remedy, where the extra `delivery` is not installed."""
    try:
        import cryptography
        import h11
    except ImportError as missing:
        raise ParameterError(
            f"key delivery needs {missing.name}: install it with `pip install diqkd[delivery]`"
        ) from None
    del cryptography, h11
