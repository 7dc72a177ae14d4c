"""Error correction by a linear code's syndrome: construction, encoding, decoding.

Names are imported on first use: the kernels' compiler takes its time to import, and many who import this
package only want a name.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diqkd_postproc.reconciliation.decoder import DecodeResult, decode
    from diqkd_postproc.reconciliation.ensemble_choice import minimum_syndrome_bits
    from diqkd_postproc.reconciliation.syndrome_code import SyndromeCode, build_code, code_for

__all__ = ["DecodeResult", "SyndromeCode", "build_code", "code_for", "decode", "minimum_syndrome_bits"]

_MODULES = {
    "DecodeResult": "decoder",
    "SyndromeCode": "syndrome_code",
    "build_code": "syndrome_code",
    "code_for": "syndrome_code",
    "decode": "decoder",
    "minimum_syndrome_bits": "ensemble_choice",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
