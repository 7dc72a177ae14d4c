"""Protocol parameters for tests that do not care where they come from: no proof stands behind them."""

from diqkd_postproc.protocol.parameters import ProtocolParameters


def small_parameters(num_rounds: int = 400, **changes: object) -> ProtocolParameters:
    """A short run, half of it tests, without a key; `changes` are fields of `ProtocolParameters`."""
    fields: dict[str, object] = {
        "num_rounds": num_rounds,
        "test_numerator": 128,
        "test_bits": 8,
        "omega_threshold": 0.8,
        "syndrome_bits": 3 * num_rounds // 4,
        "key_bits": 0,
        "soundness_error": 1e-10,
        "one_bit_error": 1e-12,
        "design_chsh_score": 2.64,
        "design_qber": 0.018,
    }
    return ProtocolParameters.model_validate(fields | changes)
