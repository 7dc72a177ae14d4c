"""Check of a parameter file's key length, the one number whose error nobody would notice.

Parameter files are written by `diqkd plan`, but are text that anybody can edit. Whoever reads one in order
to spend or to make key, checks it against the theorem that it names.
"""

from __future__ import annotations

from pathlib import Path

from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.security.proofs import key_length_of


def require_certified(parameters: ProtocolParameters) -> None:
    """Raise ParameterError where the named proof does not certify `key_bits` at `one_bit_error`.

    A shorter key than the theorem's optimum is allowed, and any split of the soundness error that suffices.
    """
    if parameters.key_bits == 0:
        return
    certified = key_length_of(parameters)
    if parameters.key_bits > certified.bits:
        raise ParameterError(
            f"key_bits={parameters.key_bits} at one_bit_error={parameters.one_bit_error:.4g} exceeds the "
            f"{certified.bits} bits that the proof {parameters.proof!r} certifies for them; write the file "
            "anew with `diqkd plan`"
        )


def load_certified(path: Path | str) -> ProtocolParameters:
    """Parameters of a file, with a key length that their proof certifies.

    Raises ParameterError where the file is missing, invalid or promises a longer key.
    """
    parameters = ProtocolParameters.load(path)
    require_certified(parameters)
    return parameters
