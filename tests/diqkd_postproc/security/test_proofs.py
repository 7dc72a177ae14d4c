"""One interface to all proofs: reference lengths, names, and what is not proven."""

from fractions import Fraction

import pytest

from diqkd_postproc.planning.design import exact_threshold, omega_threshold
from diqkd_postproc.planning.design_point import DesignPoint
from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.protocol.proof_status import PROOF_STATUS
from diqkd_postproc.security.certification import load_certified, require_certified
from diqkd_postproc.security.proofs import key_length_for, key_length_of

GAMMA = Fraction(13, 256)
LINK = (1_500_000, GAMMA, 2.64, 0.018)

KINDS = [
    ("paper", None, "trevisan", 95_885),
    ("counted", None, "trevisan", 155_815),
    ("renyi", "simple", "trevisan", 353_697),
    ("renyi", "simple", "toeplitz", 422_168),
    ("renyi", "full", "trevisan", 373_475),
    ("renyi", "full", "toeplitz", 440_835),
]


@pytest.mark.parametrize(("proof", "bound", "extractor", "bits"), KINDS)
def test_published_point_under_every_proof(proof, bound, extractor, bits, tmp_path):
    parameters = DesignPoint(*LINK, proof=proof, bound=bound, extractor=extractor).parameters()
    assert parameters.key_bits == bits
    assert (parameters.proof, parameters.bound, parameters.extractor) == (proof, bound, extractor)
    assert parameters.max_tests == (77_004 if proof == "counted" else None)
    parameters.save(tmp_path / "parameters.toml")
    assert load_certified(tmp_path / "parameters.toml") == parameters
    with pytest.raises(ParameterError, match=f"key_bits={bits + 1}"):
        require_certified(parameters.model_copy(update={"key_bits": bits + 1}))


@pytest.mark.parametrize(("proof", "bound", "extractor", "bits"), KINDS[:4])
def test_every_round_that_may_be_voided_costs_a_bit(proof, bound, extractor, bits, tmp_path):
    kind = {"proof": proof, "bound": bound, "extractor": extractor}
    parameters = DesignPoint(*LINK, **kind, max_late_losses=250).parameters()
    assert (parameters.key_bits, parameters.max_late_losses) == (bits - 250, 250)
    parameters.save(tmp_path / "parameters.toml")
    assert load_certified(tmp_path / "parameters.toml") == parameters
    length = key_length_of(parameters)
    assert length.bits == bits - 250 and length.terms["late_losses"] == -250
    assert sum(length.terms.values()) == pytest.approx(length.value, abs=1e-6)
    with pytest.raises(ParameterError, match=f"key_bits={bits - 250} "):
        require_certified(parameters.model_copy(update={"max_late_losses": 251}))


def test_a_key_that_pays_for_more_than_it_has_is_none():
    assert DesignPoint(*LINK, max_late_losses=95_885).parameters().key_bits == 0
    for max_late_losses in (-1, 1_500_000):
        with pytest.raises(ParameterError, match=f"max_late_losses={max_late_losses} "):
            DesignPoint(*LINK, max_late_losses=max_late_losses).parameters()


def test_a_search_for_the_smallest_run_pays_for_voided_rounds():
    smallest = DesignPoint(gamma=GAMMA, chsh_score=2.64, qber=0.018, max_late_losses=5000).minimum_rounds()
    assert smallest > DesignPoint(gamma=GAMMA, chsh_score=2.64, qber=0.018).minimum_rounds(4900)
    assert DesignPoint(smallest, GAMMA, 2.64, 0.018).parameters().key_bits >= 5001


@pytest.mark.parametrize(("proof", "bound", "extractor", "bits"), KINDS)
def test_answers_say_what_they_rest_on(proof, bound, extractor, bits):
    result = key_length_for(
        proof,
        bound,
        extractor,
        num_rounds=1_500_000,
        gamma=GAMMA,
        omega_threshold=omega_threshold(1_500_000, GAMMA, 2.64),
        syndrome_bits=296_517,
        soundness_error=1e-10,
    )
    assert result.bits == bits
    assert result.proof.split()[0] == proof
    assert result.status == PROOF_STATUS[proof]
    assert ("not peer-reviewed" in result.status) == (proof != "paper")
    assert "double precision" in result.certificate
    assert sum(result.terms.values()) == pytest.approx(result.value, abs=1e-6)


def test_longer_keys_of_another_proof_are_refused():
    longer = DesignPoint(*LINK, proof="renyi", bound="simple").parameters()
    with pytest.raises(ParameterError, match="exceeds the 95885 bits"):
        require_certified(longer.model_copy(update={"proof": "paper", "bound": None}))
    counting = DesignPoint(*LINK, proof="counted").parameters()
    with pytest.raises(ParameterError, match="key_bits=155815"):
        require_certified(counting.model_copy(update={"max_tests": 78_000}))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"proof": "paper", "extractor": "toeplitz"}, "toeplitz"),
        ({"proof": "counted", "extractor": "toeplitz"}, "toeplitz"),
        ({"proof": "paper", "bound": "full"}, "bound"),
        ({"proof": "eat"}, "proof"),
        ({"proof": "renyi", "bound": "fuller"}, "bound"),
        ({"proof": "renyi", "extractor": "sha"}, "extractor"),
    ],
)
def test_combinations_without_a_proof_are_refused(choice, message):
    with pytest.raises(ParameterError, match=message):
        DesignPoint(*LINK, **choice).parameters()


@pytest.mark.parametrize(
    "update",
    [
        {"extractor": "toeplitz"},
        {"bound": "full"},
        {"max_tests": 77_004},
        {"proof": "renyi"},
        {"proof": "counted"},
        {"proof": "counted", "max_tests": 77_004, "extractor": "toeplitz"},
    ],
)
def test_parameter_files_without_a_proof_are_refused(update):
    text = DesignPoint(*LINK).parameters().model_copy(update=update).to_toml()
    with pytest.raises(ParameterError):
        ProtocolParameters.from_toml(text)


def test_digest_depends_on_proof_and_extractor():
    kinds = [DesignPoint(*LINK, proof=p, bound=b, extractor=e).parameters() for p, b, e, _ in KINDS]
    base = kinds[0]
    assert len({parameters.digest for parameters in kinds}) == len(kinds)
    assert b"max_tests" not in base.canonical() and b"bound" not in base.canonical()


@pytest.mark.parametrize(
    ("choice", "rounds"),
    [
        ({"proof": "counted"}, 834_300),
        ({"proof": "renyi", "bound": "simple"}, 343_600),
        ({"proof": "renyi", "bound": "simple", "extractor": "toeplitz"}, 224_100),
    ],
)
def test_minimum_rounds_of_every_proof(choice, rounds):
    smallest = DesignPoint(gamma=GAMMA, chsh_score=2.64, qber=0.018, **choice).minimum_rounds()
    assert smallest == pytest.approx(rounds, rel=0.002)
    assert DesignPoint(smallest, GAMMA, 2.64, 0.018, **choice).parameters().key_bits > 0
    assert DesignPoint(int(0.995 * smallest), GAMMA, 2.64, 0.018, **choice).parameters().key_bits == 0


def test_no_number_of_rounds_suffices():
    assert DesignPoint(gamma=GAMMA, chsh_score=2.2, qber=0.1, proof="renyi").minimum_rounds() is None
    assert (
        DesignPoint(
            gamma=GAMMA, chsh_score=2.0, qber=0.0, proof="renyi", bound="full", extractor="toeplitz"
        ).minimum_rounds()
        is None
    )


@pytest.mark.parametrize("error", [0.3, 1e-2, 1e-3, 1e-6])
def test_exact_threshold_keeps_the_completeness_error(error):
    from scipy.stats import binom

    threshold = exact_threshold(1_500_000, GAMMA, 2.64, error)
    parameters = DesignPoint(*LINK, completeness_error=error).parameters()
    assert parameters.omega_threshold == threshold
    losing = float(GAMMA) * (4 - 2.64) / 8
    assert binom.sf(parameters.max_losses, 1_500_000, losing) <= error
    assert binom.sf(parameters.max_losses - 1, 1_500_000, losing) > error


def test_thresholds_of_three_deviations_agree_with_the_exact_tail():
    assert exact_threshold(1_500_000, GAMMA, 2.64, 1.35e-3) == pytest.approx(
        omega_threshold(1_500_000, GAMMA, 2.64), abs=3e-5
    )
