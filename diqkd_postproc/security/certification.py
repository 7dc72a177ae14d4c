"""Guards the one number whose error nobody would notice: a parameter file's key length.

Parameter files are written by `diqkd plan`, but are text that anybody can edit. Whoever reads one in order
to spend or to make key, checks it against the theorem that it names.
"""

from __future__ import annotations

from pathlib import Path

from diqkd_postproc.errors import ParameterError
from diqkd_postproc.parameters import ProtocolParameters
from diqkd_postproc.security.paper import key_length


def require_certified(parameters: ProtocolParameters) -> None:
    """Raise ParameterError where the named proof does not certify `key_bits` at `one_bit_error`.

    A shorter key or a smaller extractor error than the theorem's optimum is allowed: both are safe.
    """
    certified = key_length(
        parameters.num_rounds,
        parameters.gamma,
        parameters.omega_threshold,
        parameters.syndrome_bits,
        parameters.soundness_error,
    )
    if parameters.key_bits > certified.bits:
        raise ParameterError(
            f"key_bits={parameters.key_bits} exceeds the {certified.bits} bits that the proof "
            f"{parameters.proof!r} certifies for these parameters; write the file anew with `diqkd plan`"
        )
    extractor_error = parameters.one_bit_error * max(1, parameters.key_bits)
    if extractor_error > certified.extractor_error * (1 + 1e-12):
        raise ParameterError(
            f"one_bit_error={parameters.one_bit_error} spends {extractor_error:.4g} on the extractor, the "
            f"proof allows {certified.extractor_error:.4g}; write the file anew with `diqkd plan`"
        )


def load_certified(path: Path | str) -> ProtocolParameters:
    """Parameters of a file, checked; ParameterError where it is missing, invalid or promises too much."""
    parameters = ProtocolParameters.load(path)
    require_certified(parameters)
    return parameters
