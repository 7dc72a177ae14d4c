"""Facts of the protocol that every other part shares: parameters, roles, errors, balance of key bits.

>>> from diqkd_postproc.protocol.parameters import ProtocolParameters
>>> parameters = ProtocolParameters(
...     num_rounds=1_500_000, test_numerator=13, test_bits=8, omega_threshold=0.82553763,
...     syndrome_bits=296_517, key_bits=95_885, soundness_error=1e-10, one_bit_error=1.36e-18,
...     design_chsh_score=2.64, design_qber=0.018,
... )
>>> parameters.gamma, parameters.max_losses
(Fraction(13, 256), 13289)
>>> ProtocolParameters.from_toml(parameters.to_toml()) == parameters
True
"""
