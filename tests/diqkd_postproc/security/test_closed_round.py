"""Closed-form bounds of one round: the document's forty-digit values, a scan of psi, and ball arithmetic."""

import numpy as np
import pytest

from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.security.closed_round import ClosedRound, certify_closed, chsh_form_of_both
from diqkd_postproc.security.exact_round import ExactRound
from diqkd_postproc.security.exact_round_search import certify_exact

GAMMA = 13 / 256

# Evaluated independently, with 40 digits: (alpha-1, kappa, gamma, eta, bases), l, 1 - u, G - 1.
VALUES = [
    ((4.85e-4, 191, GAMMA, 32, 2), 0.7, None, -0.00024500040070262754),
    ((4.8385e-4, 189.824, GAMMA, 33.135, 2), 0.764, None, -0.000221522430726263529),
    ((0.01, 60, 0.25, 8, 2), 0.5, None, -0.00691389740541105461),
    ((0.3, 20, 0.125, 2, 2), 0.2, None, -0.000397637624018839216),
    ((4.5934e-4, 199.594, GAMMA, 35.07, 1), 0.645, 1e-7, -0.000170593220326606753),
    ((4.4e-4, 211, GAMMA, 36, 1), 0.6, 0.3, -0.000197055349128541082),
    ((0.05, 30, 0.375, 4, 1), 0.3, 0.1, -0.0116169513463549813),
    ((1.0, 8, 0.5, 0.5, 1), 0.0, 1.0, 0.0310206198559131311),
]

# "certified maxima (g-1 in [best, bound])": (alpha-1, kappa, gamma, eta, bases), best.
MAXIMA = [
    ((4.4e-4, 211, GAMMA, 36, 1), -1.7927405054220e-04),
    ((4.85e-4, 191, GAMMA, 32, 2), -2.4475044704228e-04),
    ((0.01, 60, 0.25, 8, 2), -5.2855507624153e-03),
    ((0.01, 60, 0.25, 8, 1), -5.0959119475028e-03),
    ((0.3, 20, 0.125, 2, 2), 1.7838524090091e-02),
    ((0.3, 20, 0.125, 2, 1), 1.7838524090091e-02),
    ((1.0, 8, 0.5, 0.5, 2), 3.1020619855913e-02),
    ((4.3e-4, 190, GAMMA, 0, 2), -6.9771363977021e-04),
    ((4.3e-4, 190, GAMMA, 0, 1), -6.6359951840991e-04),
]


def test_largest_score_of_both_bases_against_the_document_and_a_scan():
    t = np.array([0, 0.25, 0.5, 0.75, 1, 0.7, 0.764, 0.9, 0.1])
    documented = [1, 1.1683182724616763, 1.3714118841335177, 1.628431364944141, 2]
    documented += [1.57107166659121503, 1.64517379026837684, 1.82802970825542361, 1.06388042753701026]
    found = chsh_form_of_both(t)
    assert found == pytest.approx(documented, abs=5e-14)
    for correlation in (0.03, 0.44, 0.83, 0.999):
        # The other parametrisation: sqrt F2 = max over z of sqrt(1-z^2) + z sqrt((t-z^2)/(1-z^2)).
        scan = np.linspace(0, np.sqrt(correlation), 200_001)
        scores = np.sqrt(1 - scan**2) + scan * np.sqrt(np.maximum(correlation - scan**2, 0) / (1 - scan**2))
        assert 0 <= chsh_form_of_both(np.array([correlation]))[0] - scores.max() ** 2 + 1e-14 < 1e-9


@pytest.mark.parametrize(("numbers", "low", "beta", "value"), VALUES)
def test_values_against_forty_digits(numbers, low, beta, value):
    d, kappa, gamma, eta, bases = numbers
    one_round = ClosedRound(d, kappa, gamma, eta, bases)
    point = np.array([low])
    found = one_round.simple_value(point) if beta is None else one_round.value(point, np.array([beta]))
    assert found[0] == pytest.approx(value, abs=3e-14)


@pytest.mark.parametrize(("numbers", "best"), MAXIMA)
def test_certified_maxima_of_the_document(numbers, best):
    d, kappa, gamma, eta, bases = numbers
    found = certify_closed(ClosedRound(d, kappa, gamma, eta, bases), 1e-9)
    assert best - 1e-12 <= found.upper <= best + 1e-9 + 1e-11


@pytest.mark.parametrize("bases", [1, 2])
def test_never_below_the_exact_value(bases):
    for d, kappa, gamma, eta in (
        (4.4e-4, 205.0, GAMMA, 35.0),
        (0.01, 60.0, 0.25, 8.0),
        (0.3, 20.0, 0.125, 2.0),
    ):
        exact = certify_exact(ExactRound(d, kappa, eta, gamma, bases))
        assert certify_closed(ClosedRound(d, kappa, gamma, eta, bases), 1e-7 * d).upper >= exact.lower


def test_illegal_values_are_named():
    with pytest.raises(ParameterError, match="test_credit=-1"):
        ClosedRound(0.1, 5.0, 0.25, -1.0)
    with pytest.raises(ParameterError, match="num_key_bases=3"):
        ClosedRound(0.1, 5.0, 0.25, 1.0, 3)
