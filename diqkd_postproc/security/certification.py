"""Check of a parameter file's key length, the one number whose error nobody would notice.

Parameter files are written by `diqkd plan`, but are text that anybody can edit. Whoever reads one in order
to spend or to make key, checks it against the theorem that it names.
"""

from __future__ import annotations

from pathlib import Path

from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.security.key_length import KeyLength
from diqkd_postproc.security.proofs import key_length_of, length_of_certificate
from diqkd_postproc.security.variable_certification import certificate_of, confirm_in_balls


def require_certified(parameters: ProtocolParameters) -> None:
    """Raise ParameterError where the named proof does not certify `key_bits` at `one_bit_error`.

    A shorter key than the theorem's optimum is allowed, and any split of the soundness error that suffices.
    """
    if parameters.key_bits == 0:
        return
    certified = key_length_of(parameters)
    constant = certified.analysis.get("constant_bits")
    if parameters.constant_bits is not None and constant is not None and parameters.constant_bits > constant:
        raise ParameterError(
            f"constant_bits={parameters.constant_bits} exceeds the {constant:.0f} that the theorem certifies "
            "at these free_parameters; write the file anew with `diqkd plan`"
        )
    if parameters.key_bits > certified.bits:
        raise ParameterError(
            f"key_bits={parameters.key_bits} at one_bit_error={parameters.one_bit_error:.4g} exceeds the "
            f"{certified.bits} bits that the proof {parameters.proof!r} certifies for them; write the file "
            "anew with `diqkd plan`"
        )


def confirmed(parameters: ProtocolParameters, length: KeyLength) -> tuple[ProtocolParameters, KeyLength]:
    """Parameters and key length confirmed in ball arithmetic, shorter where bits cannot be.

    length: `key_length_of(parameters)`. Raises ParameterError without python-flint.
    """
    from diqkd_postproc.security import ball_arithmetic

    if parameters.length_rule is None:
        length = ball_arithmetic.confirm(parameters, length)
        return parameters.model_copy(update={"key_bits": min(length.bits, parameters.key_bits)}), length
    certificate = confirm_in_balls(certificate_of(parameters))
    changes = {"constant_bits": min(certificate.constant_bits, parameters.constant_bits or 0)}
    if parameters.length == "fixed":
        changes["key_bits"] = min(parameters.key_bits, changes["constant_bits"])
    parameters = parameters.model_copy(update=changes)
    return parameters, length_of_certificate(parameters, certificate)


def load_certified(path: Path | str) -> ProtocolParameters:
    """Parameters of a file, with a key length that their proof certifies.

    Raises ParameterError where the file is missing, invalid or promises a longer key.
    """
    parameters = ProtocolParameters.load(path)
    require_certified(parameters)
    return parameters
