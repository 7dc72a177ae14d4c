"""Sessions under each proof: extractors, the limit of test rounds, and what the reports say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.linalg import toeplitz

from diqkd_postproc.protocol.errors import ParameterError, ProtocolAbort
from diqkd_postproc.session import SessionResult, run_session
from tests.support.joined_parties import correlated_records, small_parameters
from tests.support.sessions_over_tcp import both, make_stores

RENYI = {"proof": "renyi", "bound": "full"}


@pytest.mark.parametrize(
    ("choice", "label"),
    [
        ({}, "paper trevisan"),
        ({"proof": "counted", "max_tests": 2000}, "counted trevisan"),
        ({**RENYI, "bound": "simple"}, "renyi simple trevisan"),
        ({**RENYI, "extractor": "toeplitz"}, "renyi full toeplitz"),
    ],
)
def test_keys_name_the_proof_they_rest_on(folder: Path, choice: dict[str, object], label: str) -> None:
    parameters = small_parameters(**choice)
    stores = make_stores(folder, parameters)
    for result in both(correlated_records(parameters), stores):
        assert isinstance(result, SessionResult)
        report = result.to_dict()
        assert report["proof"] == report["balance_sheet"]["proof"] == label
        assert report["proof_status"] == parameters.proof_status
        assert ("not peer-reviewed" in report["proof_status"]) == (parameters.proof != "paper")
    assert stores[0].has_same_key(stores[1])


def test_toeplitz_keys_are_the_matrix_product(folder: Path) -> None:
    parameters = small_parameters(**RENYI, extractor="toeplitz")
    n, length = parameters.num_rounds, parameters.key_bits
    records, stores = correlated_records(parameters), make_stores(folder, parameters)
    both(records, stores)
    seed = np.unpackbits(np.frombuffer(stores[0].peek_seed("extractor_seed"), np.uint8), count=n + length - 1)
    matrix = toeplitz(seed[n - 1 :], seed[n - 1 :: -1]).astype(np.int64)
    assert np.array_equal(stores[1].generated_key(), matrix @ records[0].outcome % 2)
    row = stores[0].balance_sheet().rows[-1]
    assert row.used_reusable == n + length - 1 and row.generated == length


def test_too_many_test_rounds_abort_both_sides_before_anything_is_spent(folder: Path) -> None:
    records = correlated_records(small_parameters())
    num_tests = int(records[0].round_type.sum())
    parameters = small_parameters(proof="counted", max_tests=num_tests - 1)
    stores = make_stores(folder, parameters)
    for record, store in zip(correlated_records(parameters), stores, strict=True):
        with pytest.raises(ProtocolAbort, match=f"{num_tests} of the rounds .* allows {num_tests - 1}"):
            run_session(record.role, record, store, parameters, "127.0.0.1", 0, listen=True, timeout=0.1)
        assert store.balance_sheet().consumed == 0
    parameters = small_parameters(proof="counted", max_tests=num_tests)
    stores = make_stores(folder, parameters, "others")
    assert all(isinstance(r, SessionResult) for r in both(correlated_records(parameters), stores))


def test_parties_with_different_proofs_make_no_key(folder: Path) -> None:
    paper, renyi = small_parameters(), small_parameters(**RENYI)
    stores = make_stores(folder, paper)
    with pytest.raises(ParameterError, match="made with parameters"):
        run_session("bob", correlated_records(renyi)[1], stores[1], renyi, "127.0.0.1", 0, True, timeout=0.1)
