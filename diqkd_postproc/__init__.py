"""Post-processing of device-independent quantum key distribution between two ion-trap nodes.

Data flows one way: records -> reconciliation -> validation -> privacy amplification -> key store.
Protocol and symbols: Nadlinger et al., Nature 607, 682 (2022), arXiv:2109.14600v2. The names below are the
public interface, explained with examples in docs/library.md:

>>> from diqkd_postproc import DesignPoint
>>> DesignPoint(num_rounds=1_500_000, chsh_score=2.64, qber=0.018).key_length().bits
95885
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from diqkd_postproc.protocol.version import __version__

if TYPE_CHECKING:
    from diqkd_postproc.key_store import KeyStore
    from diqkd_postproc.link.characterisation import (
        Characterisation,
        characterisation_parameters,
        characterise,
        read_records,
    )
    from diqkd_postproc.link.statistics import Estimate, chsh_score, outcome_probabilities, qber
    from diqkd_postproc.planning.design_point import DesignPoint
    from diqkd_postproc.planning.plan import Plan, make_plan
    from diqkd_postproc.protocol.errors import DiqkdError, ParameterError, ProtocolAbort
    from diqkd_postproc.protocol.parameters import ProtocolParameters
    from diqkd_postproc.records.sealed_record import RoundRecord
    from diqkd_postproc.report import write_report
    from diqkd_postproc.security.key_length import KeyLength
    from diqkd_postproc.security.proofs import key_length_of
    from diqkd_postproc.session import ExchangePending, SessionResult, run_exchange, run_session

__all__ = [
    "Characterisation",
    "DesignPoint",
    "DiqkdError",
    "Estimate",
    "ExchangePending",
    "KeyLength",
    "KeyStore",
    "ParameterError",
    "Plan",
    "ProtocolAbort",
    "ProtocolParameters",
    "RoundRecord",
    "SessionResult",
    "__version__",
    "characterisation_parameters",
    "characterise",
    "chsh_score",
    "key_length_of",
    "make_plan",
    "outcome_probabilities",
    "qber",
    "read_records",
    "run_exchange",
    "run_session",
    "write_report",
]

_MODULES = {
    "key_store": ("KeyStore",),
    "link.characterisation": (
        "Characterisation",
        "characterisation_parameters",
        "characterise",
        "read_records",
    ),
    "link.statistics": ("Estimate", "chsh_score", "outcome_probabilities", "qber"),
    "planning.design_point": ("DesignPoint",),
    "planning.plan": ("Plan", "make_plan"),
    "protocol.errors": ("DiqkdError", "ParameterError", "ProtocolAbort"),
    "protocol.parameters": ("ProtocolParameters",),
    "records.sealed_record": ("RoundRecord",),
    "report": ("write_report",),
    "security.key_length": ("KeyLength",),
    "security.proofs": ("key_length_of",),
    "session": ("ExchangePending", "SessionResult", "run_exchange", "run_session"),
}


def __getattr__(name: str) -> Any:
    # On first use: numba and matplotlib take seconds to import, and every module below runs this file first.
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
