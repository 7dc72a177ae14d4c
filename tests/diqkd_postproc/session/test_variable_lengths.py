"""Sessions whose key length follows from the public counts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.linalg import toeplitz

from diqkd_postproc.protocol.errors import ProtocolAbort, RemoteProtocolError
from diqkd_postproc.session import SessionResult
from diqkd_postproc.session.computation import count_losses
from diqkd_postproc.session.messages import Decision, MessageType, Verdict, decode_payload
from tests.support.joined_parties import (
    FREE,
    VARIABLE,
    assert_no_key,
    assert_same_key,
    converse,
    correlated_records,
    small_parameters,
    two_parties,
)
from tests.support.sessions_over_tcp import both, make_stores


def counts(records) -> tuple[int, int]:
    """k and N_t of an honest run."""
    alice, bob = records
    lost = count_losses(alice.outcome, bob.outcome, alice.setting, bob.setting)
    return lost, int(bob.round_type.sum())


@pytest.mark.parametrize("extractor", ["toeplitz", "trevisan"])
def test_both_sides_compute_the_length_from_the_counts(folder: Path, extractor: str) -> None:
    parameters = small_parameters(**VARIABLE | {"extractor": extractor})
    records, stores = correlated_records(parameters), make_stores(folder, parameters)
    losses, tests = counts(records)
    expected = 1700 + (512 * tests - 3072 * losses) // 1024 - 1500
    if extractor == "trevisan":
        expected = max(n for n in range(1, expected) if n + 4 * np.log2(n) <= expected)
    assert 0 < expected < 400
    for result in both(records, stores):
        assert isinstance(result, SessionResult)
        assert (result.key_bits, result.num_losses, result.num_tests) == (expected, losses, tests)
        assert result.balance_sheet.generated == expected
    assert stores[0].has_same_key(stores[1])
    assert stores[0].generated_key().size == expected
    if extractor == "toeplitz":
        n, rows = parameters.num_rounds, parameters.key_bits
        packed = np.frombuffer(stores[0].peek_seed("extractor_seed"), np.uint8)
        seed = np.unpackbits(packed, count=n + rows - 1)
        matrix = toeplitz(seed[n - 1 :], seed[n - 1 :: -1]).astype(np.int64)
        assert np.array_equal(stores[1].generated_key(), (matrix @ records[0].outcome % 2)[:expected])


def test_a_key_ends_where_its_length_does() -> None:
    losses, tests = counts(correlated_records(small_parameters(**VARIABLE)))
    shortfall = -((512 * tests - 3072 * losses) // 1024) + 1500
    for constant, key_bits in ((shortfall + 1, 1), (shortfall, 0)):
        alice, bob = two_parties(small_parameters(**VARIABLE | {"constant_bits": constant}))
        converse(alice, bob)
        if key_bits:
            assert_same_key(alice, bob)
            assert alice.ledger.key.size == key_bits
        else:
            assert_no_key(alice, bob)
            assert alice.engine.verdict is Verdict.TOO_MANY_LOSSES
            assert bob.computation.most_losses == losses - 1


def test_the_cap_and_the_limit_hold() -> None:
    alice, bob = two_parties(small_parameters(**VARIABLE | {"key_bits": 17}))
    converse(alice, bob)
    assert_same_key(alice, bob)
    assert alice.ledger.key.size == 17
    losses, _ = counts(correlated_records(small_parameters(**VARIABLE)))
    limit = 1 - (losses - 0.5) / (2000 / 8)
    alice, bob = two_parties(small_parameters(**VARIABLE | {"omega_threshold": limit, "constant_bits": 9000}))
    converse(alice, bob)
    assert_no_key(alice, bob)


def test_a_fixed_length_of_the_rule_says_no_counts() -> None:
    fixed = {**VARIABLE, "length": "fixed", "key_bits": 30, "constant_bits": 30}
    losses, tests = counts(correlated_records(small_parameters()))
    cost = 3072 * losses - 512 * tests
    for budget, is_made in ((cost, True), (cost - 1, False)):
        free = replace(FREE, loss_budget=budget)
        alice, bob = two_parties(small_parameters(**fixed | {"free_parameters": free}))
        converse(alice, bob)
        if is_made:
            assert_same_key(alice, bob)
            assert alice.ledger.key.size == 30 and alice.engine.num_losses == 0
        else:
            assert_no_key(alice, bob)


@pytest.mark.parametrize("offset", range(9))
def test_a_changed_decision_makes_no_key_at_alice(offset: int) -> None:
    alice, bob = two_parties(small_parameters(**VARIABLE))

    def change(sender: str, data: bytes) -> bytes:
        if sender == "alice" or MessageType.DECISION not in bob.engine.messages:
            return data
        payload = bob.engine.messages[MessageType.DECISION].payload()
        changed = bytearray(payload)
        changed[offset] ^= 1
        return data.replace(payload, bytes(changed))

    converse(alice, bob, change)
    assert alice.ledger.key is None


def test_a_decision_has_a_length_where_the_parameters_say_so() -> None:
    with_length = Decision(verdict=Verdict.ACCEPTED, num_losses=3, key_bits=9, tag=bytes(8)).payload()
    without = Decision(verdict=Verdict.ACCEPTED, tag=bytes(8)).payload()
    variable, fixed = small_parameters(**VARIABLE), small_parameters()
    assert decode_payload(MessageType.DECISION, with_length, variable).key_bits == 9
    for payload, parameters in ((without, variable), (with_length, fixed)):
        with pytest.raises(RemoteProtocolError, match="names a key of"):
            decode_payload(MessageType.DECISION, payload, parameters)
    with pytest.raises(RemoteProtocolError, match="names a key of 401 bits"):
        too_long = Decision(verdict=Verdict.ACCEPTED, num_losses=3, key_bits=401, tag=bytes(8)).payload()
        decode_payload(MessageType.DECISION, too_long, variable)


def test_an_abort_names_the_losses_that_would_make_a_key(folder: Path) -> None:
    parameters = small_parameters(**VARIABLE | {"constant_bits": 1470})
    records, stores = correlated_records(parameters), make_stores(folder, parameters)
    losses, tests = counts(records)
    most = (512 * tests - 1024 * 31) // 3072
    for result in both(records, stores):
        assert isinstance(result, ProtocolAbort)
        assert f"{losses} test rounds were lost, {most} are allowed" in str(result)
