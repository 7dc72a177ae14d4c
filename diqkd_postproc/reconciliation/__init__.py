"""Error correction by a linear code's syndrome: construction, encoding, decoding.

Names are imported on first use: the kernels' compiler takes its time to import, and many who import this
package only want a name.

>>> import numpy as np
>>> from diqkd_postproc.reconciliation import build_code, decode
>>> random = np.random.default_rng(1)
>>> code = build_code(num_rounds=20_000, syndrome_bits=6_000, gamma=0.05, design="robust", seed=1)
>>> is_test = (random.random(20_000) < 0.05).astype(np.uint8)
>>> alice = random.integers(0, 2, 20_000, dtype=np.uint8)
>>> bob = alice ^ (random.random(20_000) < np.where(is_test, 0.17, 0.018))
>>> result = decode(code, code.syndrome(alice, is_test), bob, is_test, qber=0.018, test_error=0.17)
>>> result.converged, bool((result.bits == alice).all())
(True, True)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diqkd_postproc.reconciliation.decoder import DecodeResult, decode
    from diqkd_postproc.reconciliation.ensemble_choice import minimum_syndrome_bits
    from diqkd_postproc.reconciliation.nested_code import NestedCode, nested_code_for
    from diqkd_postproc.reconciliation.syndrome_code import SyndromeCode, build_code, code_for

__all__ = [
    "DecodeResult",
    "NestedCode",
    "SyndromeCode",
    "build_code",
    "code_for",
    "decode",
    "minimum_syndrome_bits",
    "nested_code_for",
]

_MODULES = {
    "DecodeResult": "decoder",
    "SyndromeCode": "syndrome_code",
    "NestedCode": "nested_code",
    "nested_code_for": "nested_code",
    "build_code": "syndrome_code",
    "code_for": "syndrome_code",
    "decode": "decoder",
    "minimum_syndrome_bits": "ensemble_choice",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
