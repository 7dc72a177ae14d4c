"""A syndrome in parts: prefixes, the codes that they belong to, and that each part helps."""

from __future__ import annotations

import numpy as np
import pytest

from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.roles import lost_test_probability
from diqkd_postproc.reconciliation.decoder import decode
from diqkd_postproc.reconciliation.ensemble import conditional_entropy
from diqkd_postproc.reconciliation.nested_code import (
    NestedCode,
    _weak_distances,
    _weak_neighbours,
    build_nested_code,
    rounded_totals,
    schedule,
)
from diqkd_postproc.reconciliation.syndrome_code import build_code, lifting_for

NUM_ROUNDS, GAMMA = 20_000, 0.05
TOTALS = rounded_totals(NUM_ROUNDS, (3300, 3500, 3700, 4200))


def family() -> NestedCode:
    return build_nested_code(NUM_ROUNDS, TOTALS, GAMMA, "near-limit", 1)


def frame(seed: int, qber: float = 0.018, test_error: float = 0.17):
    rng = np.random.default_rng(seed)
    is_test = (rng.random(NUM_ROUNDS) < GAMMA).astype(np.uint8)
    alice = rng.integers(0, 2, NUM_ROUNDS, dtype=np.uint8)
    flips = rng.random(NUM_ROUNDS) < np.where(is_test, test_error, qber)
    return is_test, alice, alice ^ flips.astype(np.uint8)


def test_what_was_sent_gives_the_syndrome_of_each_code() -> None:
    nested = family()
    is_test, alice, _ = frame(1)
    sent = nested.syndrome(alice, is_test)
    assert sent.shape == (TOTALS[-1],)
    for total in TOTALS:
        code = nested.at(total)
        assert code.syndrome_bits == total and code.row_start.size - 1 == total // code.lifting
        assert np.array_equal(nested.checks(sent[:total]), code.syndrome(alice, is_test))


def test_the_last_code_is_the_plain_one_up_to_order() -> None:
    nested, plain = family(), build_code(NUM_ROUNDS, TOTALS[-1], GAMMA, "near-limit", 1)
    is_test, alice, _ = frame(2)

    def rows(bits: np.ndarray) -> list[bytes]:
        return sorted(row.tobytes() for row in bits.reshape(-1, plain.lifting))

    last = nested.at(TOTALS[-1]).syndrome(alice, is_test)
    assert rows(last) == rows(plain.syndrome(alice, is_test))
    assert nested.code.digest == plain.digest != nested.digest


def test_one_length_is_the_plain_code() -> None:
    nested = build_nested_code(NUM_ROUNDS, (3301,), GAMMA, "near-limit", 1)
    plain = build_code(NUM_ROUNDS, 3301, GAMMA, "near-limit", 1)
    is_test, alice, _ = frame(3)
    assert nested.digest == plain.digest and nested.at(3301) is nested.code
    sent = nested.syndrome(alice, is_test)
    assert np.array_equal(sent, plain.syndrome(alice, is_test))
    assert nested.checks(sent) is sent


def test_an_increment_rescues_frames_that_the_first_syndrome_does_not() -> None:
    nested = family()
    decoded = {total: 0 for total in TOTALS}
    for seed in range(12):
        is_test, alice, bob = frame(100 + seed)
        sent = nested.syndrome(alice, is_test)
        for total in TOTALS:
            code = nested.at(total)
            result = decode(code, nested.checks(sent[:total]), bob, is_test, 0.018, 0.17)
            decoded[total] += bool(result.converged and np.array_equal(result.bits, alice))
    counts = list(decoded.values())
    assert counts[0] <= 4 and counts[-1] == 12 and counts == sorted(counts)


def test_messages_carry_over_to_the_next_code() -> None:
    """The rest of the decoding takes fewer iterations than the whole of it."""
    nested, saved = family(), []
    for seed in range(8):
        is_test, alice, bob = frame(200 + seed)
        sent = nested.syndrome(alice, is_test)
        first, last = nested.at(TOTALS[0]), nested.at(TOTALS[-1])
        assert np.array_equal(first.edge_column, last.edge_column)
        noisy = (bob, is_test, 0.018, 0.17)
        tried = decode(first, nested.checks(sent[: TOTALS[0]]), *noisy, can_extend=True)
        if tried.converged:
            assert tried.messages is None
            continue
        assert tried.iterations < 100
        anew = decode(last, nested.checks(sent), *noisy)
        resumed = decode(last, nested.checks(sent), *noisy, start=tried.messages)
        assert np.array_equal(resumed.bits, alice) and np.array_equal(anew.bits, alice)
        saved.append(anew.iterations - resumed.iterations)
    assert len(saved) > 4 and min(saved) > 0


def test_adding_up_pairs_makes_no_short_cycle_of_weak_columns() -> None:
    nested = family()
    partner = np.full(nested.code.row_start.size - 1, -1)
    row_of_edge = np.repeat(np.arange(partner.size), np.diff(nested.code.row_start))
    neighbours = _weak_neighbours(nested.code, row_of_edge)
    for first, second in nested.pairs:
        assert _weak_distances(first, neighbours, partner, nested.code.lifting)[second] >= 8
        partner[first], partner[second] = second, first


@pytest.mark.parametrize("link", [(14_000, 82 / 256, 2.677, 0.0144), (1_500_000, 13 / 256, 2.677, 0.0144)])
def test_lengths_begin_near_the_threshold_of_the_link(link: tuple[int, float, float, float]) -> None:
    totals = schedule(*link, threshold=1.04)
    num_rounds, gamma, chsh_score, qber = link
    limit = num_rounds * conditional_entropy(gamma, qber, lost_test_probability(chsh_score))
    lifting = lifting_for(num_rounds, totals[0])
    assert all(total % lifting == 0 for total in totals) and list(totals) == sorted(set(totals))
    assert 1.035 < totals[0] / limit < 1.05 < totals[-1] / limit < 1.3
    assert len(totals) == (7 if num_rounds > 10**6 else 8)


def test_lengths_that_no_family_has_are_refused() -> None:
    lifting = family().code.lifting
    assert all(total % lifting == 0 for total in TOTALS)
    with pytest.raises(ParameterError, match="multiples of"):
        build_nested_code(NUM_ROUNDS, (TOTALS[0] + 1, TOTALS[1]), GAMMA, "near-limit", 1)
    with pytest.raises(ParameterError, match="within a factor of two"):
        build_nested_code(NUM_ROUNDS, (TOTALS[0], 3 * TOTALS[0]), GAMMA, "near-limit", 1)
    with pytest.raises(ParameterError, match="none of"):
        family().at(TOTALS[0] + lifting * 1000)
    with pytest.raises(ParameterError, match="has no increments"):
        build_nested_code(NUM_ROUNDS, TOTALS, GAMMA, "sc-ldpc", 1)
