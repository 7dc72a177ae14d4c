"""Runs of a few thousand rounds on disk, with real key stores and sessions."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from diqkd_postproc.files import make_private_directory
from diqkd_postproc.key_store import KeyStore
from diqkd_postproc.protocol.errors import DiqkdError
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.records.sealed_record import RoundRecord, undisturbed
from diqkd_postproc.session.result_file import save_result
from diqkd_postproc.session.run import run_session

NUM_ROUNDS = 6000
RUN_ID = "5ec2e7" + "0" * 26
START_UNIX = 1_700_000_000.0
PARAMETERS = ProtocolParameters(
    num_rounds=NUM_ROUNDS,
    test_numerator=1,
    test_bits=3,
    omega_threshold=0.8,
    syndrome_bits=2400,
    key_bits=200,
    soundness_error=1e-10,
    one_bit_error=1e-15,
    max_late_losses=3,
    design_chsh_score=2.7,
    design_qber=0.01,
)
GAP = {
    "first_round": 2000,
    "reason": "ion lost",
    "start_unix": START_UNIX + 20.0,
    "end_unix": START_UNIX + 620.0,
}
PROVENANCE = {
    "diqkd": "0.1.0",
    "artiq": "9.0",
    "rid": 4711,
    "revision": "abcdef0",
    "start_unix": START_UNIX,
    "node_configuration": '{"host": "kasli-basement"}',
}


def records(
    parameters: ProtocolParameters = PARAMETERS, winning: float = 0.85, seed: int = 3
) -> tuple[RoundRecord, RoundRecord]:
    """Alice's and Bob's records: 1 % of the key rounds differ, `winning` of the tests are won.

    seed: of settings and outcomes alone; the public columns are always the same.
    """
    public, random = np.random.default_rng(1), np.random.default_rng(seed)
    n = parameters.num_rounds
    is_test = public.random(n) < float(parameters.gamma)
    x = np.where(is_test, random.integers(0, 2, n), 0).astype(np.uint8)
    y = np.where(is_test, random.integers(0, 2, n), 2).astype(np.uint8)
    a = random.integers(0, 2, n).astype(np.uint8)
    wrong = np.where(is_test, random.random(n) > winning, random.random(n) < 0.01)
    b = (a ^ (x & y & 1 & is_test) ^ wrong).astype(np.uint8)
    lost = np.zeros(n, dtype=np.uint8)
    lost[2000:2003] = 1
    stamps = (np.arange(n, dtype=np.int64) + 1) * 10_000_000
    stamps[2000:] += 600 * 10**9
    stamps[lost == 1] = -1
    common: dict[str, Any] = {
        "parameters": parameters,
        "run_id": RUN_ID,
        **undisturbed(is_test.astype(np.uint8), public.integers(0, 2, n).astype(np.uint8)),
        "late_loss": lost,
        "herald_pattern": public.choice(np.array([3, 5, 10, 12], dtype=np.uint8), n),
        "timestamp_mu": stamps,
        "lost": lost,
        "attributes": {
            "provenance": PROVENANCE,
            "gaps": [GAP],
            "losses": [{"first_round": 2000, "num_rounds": 3, "reason": "ion lost"}],
        },
    }

    def known(outcome: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        return np.where(lost == 1, 0, outcome).astype(np.uint8)

    alice = RoundRecord(role="alice", setting=x, outcome=known(a), **common)
    return alice, RoundRecord(role="bob", setting=y, outcome=known(b), **common)


def write_pair(
    directory: Path, pair: tuple[RoundRecord, RoundRecord], with_keys: bool = True, seed: int = 4
) -> tuple[KeyStore, KeyStore] | None:
    """The files of a demonstration's two nodes in `directory`; the open stores of the initial key."""
    make_private_directory(directory)
    for record in pair:
        make_private_directory(directory / record.role)
        record.write(directory / record.role / "record.h5")
    if not with_keys:
        return None
    random = np.random.default_rng(seed)
    paths = (directory / role / "keys.sqlite" for role in ("alice", "bob"))
    return KeyStore.create_pair(*paths, pair[0].parameters, random.bytes)


def hold_session(directory: Path, pair: tuple[RoundRecord, RoundRecord]) -> dict[str, BaseException]:
    """Post-process as `diqkd postprocess` does, both parties in this process; their errors."""
    address: list[int] = []
    listening = threading.Event()
    errors: dict[str, BaseException] = {}

    def heard(host: str, port: int) -> None:
        address.append(port)
        listening.set()

    def party(record: RoundRecord) -> None:
        try:
            with KeyStore.open(directory / record.role / "keys.sqlite") as keys:
                is_bob = record.role == "bob"
                if not is_bob:
                    assert listening.wait(300.0)
                result = run_session(
                    role=record.role,
                    record=record,
                    key_store=keys,
                    parameters=record.parameters,
                    host="127.0.0.1",
                    port=0 if is_bob else address[0],
                    listen=is_bob,
                    listening=heard,
                )
                save_result(keys.path, result)
        except DiqkdError as error:
            errors[record.role] = error

    threads = [threading.Thread(target=party, args=(record,)) for record in pair]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300.0)
    return errors


@dataclass(frozen=True)
class Run:
    """A run on disk and its two records."""

    directory: Path
    alice: RoundRecord
    bob: RoundRecord


def make_run(
    directory: Path, parameters: ProtocolParameters, session: bool, seed: int = 3, winning: float = 0.85
) -> Run:
    """A run of both nodes, all its secrets from `seed`; with `session`, post-processed."""
    pair = records(parameters, winning, seed)
    stores = write_pair(directory, pair, seed=seed + 1)
    assert stores is not None
    for store in stores:
        store.close()
    if session:
        hold_session(directory, pair)
    return Run(directory, *pair)
