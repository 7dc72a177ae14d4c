"""Error correction by a linear code's syndrome: construction, encoding, decoding."""

from diqkd_postproc.reconciliation.decoder import DecodeResult, decode
from diqkd_postproc.reconciliation.syndrome_code import SyndromeCode, code_for

__all__ = ["DecodeResult", "SyndromeCode", "code_for", "decode"]
