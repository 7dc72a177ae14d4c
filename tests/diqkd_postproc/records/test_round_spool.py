from __future__ import annotations

import os
import secrets
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diqkd_postproc.protocol.errors import DiqkdError, ParameterError, StorageError
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.protocol.roles import HERALD_PATTERNS
from diqkd_postproc.records import round_spool
from diqkd_postproc.records.batch import Draws
from diqkd_postproc.records.columns import NONE, Columns
from diqkd_postproc.records.round_spool import RoundSpool
from diqkd_postproc.records.sealed_record import RoundRecord

RUN_ID = "0123456789abcdef" * 2
MakeParameters = Callable[..., ProtocolParameters]


def source_of(data: bytes) -> Callable[[int], bytes]:
    position = 0

    def read_bytes(num_bytes: int) -> bytes:
        nonlocal position
        position += num_bytes
        return data[position - num_bytes : position]

    return read_bytes


def make_spool(path: Path, role: str, parameters: ProtocolParameters, pool: bytes) -> RoundSpool:
    spool = RoundSpool.create(path, role, parameters, {"rid": 7}, RUN_ID)
    spool.fill_pool(source_of(pool), len(pool))
    return spool


def store_random(
    spool: RoundSpool, draws: Draws, rng: np.random.Generator, **changes: Any
) -> dict[str, np.ndarray]:
    """Store one chunk of plausible rounds and return what the journal has to hold."""
    count = draws.num_rounds
    received = rng.integers(0, 2, count).astype(np.uint8)
    rounds: dict[str, Any] = {
        "outcome": rng.integers(0, 2, count).astype(np.uint8),
        "received": received,
        "received_setting": np.full(count, NONE, dtype=np.uint8),
        "received_end": np.full(count, NONE, dtype=np.uint8),
        "herald_pattern": rng.choice((0, *HERALD_PATTERNS), count).astype(np.uint8),
        "timestamp_mu": rng.integers(0, 2**62, count),
        "edge_mu": rng.integers(-1, 2**62, count),
        "lost": np.zeros(count, dtype=np.uint8),
    } | changes
    spool.store(spool.rounds_done, **rounds)
    kept = {
        name: rounds[name]
        for name in ("outcome", "received", "herald_pattern", "timestamp_mu", "edge_mu", "lost")
    }
    if spool.role == "alice":
        return {**kept, "setting": draws.settings * (received == 1), "sent": draws.tokens}
    return {**kept, "setting": draws.settings, "sent": (draws.settings != 2).astype(np.uint8)}


def store_peer(spool: RoundSpool, rng: np.random.Generator) -> Columns:
    """Store random columns of the other node for all rounds that lack them."""
    count = spool.rounds_done - spool.peer_rounds_done
    columns: Columns = {
        "sent": rng.integers(0, 2, count).astype(np.uint8),
        "received": rng.integers(0, 3, count).astype(np.uint8),
        "end_token": np.full(count, NONE if spool.role == "bob" else 0, dtype=np.uint8),
        "lost": rng.integers(0, 2, count).astype(np.uint8),
        "herald_pattern": np.zeros(count, dtype=np.uint8),
    }
    spool.store_peer(spool.peer_rounds_done, columns)
    return columns


def draws_reference(role: str, parameters: ProtocolParameters, pool: bytes) -> list[tuple[int, int]]:
    """(setting, token) by the text of the protocol: bits of the pool in order, most significant first."""
    bits = "".join(f"{byte:08b}" for byte in pool)
    width = 2 if role == "alice" else parameters.test_bits + 1
    words = [bits[i : i + width] for i in range(0, len(bits) - width + 1, width)]
    if role == "alice":
        return [(int(word[0]), int(word[1])) for word in words]
    return [(int(word[-1]) if int(word[:-1], 2) < parameters.test_numerator else 2, 0) for word in words]


def pairs_of(draws: Draws) -> list[tuple[int, int]]:
    return list(zip(draws.settings.tolist(), draws.tokens.tolist(), strict=True))


@pytest.mark.parametrize("role", ["alice", "bob"])
def test_draws_are_the_pool_in_order_over_batches(
    private_directory: Path, make_parameters: MakeParameters, role: str
) -> None:
    parameters = make_parameters(50_000, test_numerator=13, test_bits=8)
    pool = np.random.default_rng(3).bytes((50_000 * parameters.random_bits_per_round[role] + 7) // 8)
    drawn: list[tuple[int, int]] = []
    with make_spool(private_directory / "spool", role, parameters, pool) as spool:
        for num_rounds in (1, 2, 7, 4097, 8192, 37_000, 701):
            draws = spool.begin_batch(num_rounds)
            drawn += pairs_of(draws)
            for chunk in np.array_split(np.arange(num_rounds), 3 if num_rounds > 3 else 1):
                store_random(spool, draws.part(chunk[0], chunk[-1] + 1), np.random.default_rng(1))
            spool.end_batch()
        assert spool.rounds_done == 50_000
        assert spool.bits_needed == 0 and spool.bits_available < 8
    assert drawn == draws_reference(role, parameters, pool)[:50_000]
    if role == "bob":
        # Five standard deviations of a binomial: false alarm 6e-7.
        assert abs(np.mean(np.array(drawn)[:, 0] != 2) - 13 / 256) < 5 * np.sqrt(13 / 256 / 50_000)


chunk_sizes = st.lists(
    st.tuples(st.integers(1, 12), st.sampled_from(["store", "lose", "discard"])), max_size=12
)


@settings(max_examples=15)
@given(st.sampled_from(["alice", "bob"]), chunk_sizes, st.integers(0, 2**32), st.booleans())
def test_what_goes_in_comes_out_of_the_record(
    make_parameters: Callable[..., ProtocolParameters],
    role: str,
    plan: list[tuple[int, str]],
    seed: int,
    reopen: bool,
) -> None:
    rng = np.random.default_rng(seed)
    stored = sum(size for size, action in plan if action != "discard")
    parameters = make_parameters(num_rounds=stored + 5)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "spool"
        spool = make_spool(path, role, parameters, rng.bytes(400))
        expected: list[dict[str, np.ndarray]] = []
        for size, action in [*plan, (5, "store")]:
            draws = spool.begin_batch(min(size, parameters.num_rounds - spool.rounds_done))
            if action == "store":
                expected.append(store_random(spool, draws, rng))
            elif action == "lose":
                spool.record_used(spool.rounds_done + size, "ion lost")
                zeros = np.zeros(size, dtype=np.uint8)
                expected.append(
                    {
                        "setting": draws.settings if role == "bob" else zeros,
                        "sent": (draws.settings != 2).astype(np.uint8) if role == "bob" else draws.tokens,
                        "received": zeros + NONE,
                        "outcome": zeros,
                        "herald_pattern": zeros,
                        "timestamp_mu": np.full(size, -1),
                        "edge_mu": np.full(size, -1),
                        "lost": zeros + 1,
                    }
                )
            spool.end_batch()
            if reopen:
                spool.close()
                spool = RoundSpool.open(path, role, parameters, RUN_ID)
        peer = store_peer(spool, rng)
        spool.add_gap("reload", 1.5, 2.5)
        record = spool.seal(Path(directory) / "record.h5")
        spool.close()
        again = RoundRecord.read(Path(directory) / "record.h5")
        renamed = {"sent": "token", "received": "received_type"}
        peers = {"sent": "round_type", "received": "received_token"}
        if role == "bob":
            renamed, peers = (
                {"sent": "round_type", "received": "received_token"},
                {"sent": "token", "received": "received_type", "lost": "late_loss"},
            )
        for name in expected[0]:
            held = getattr(again, renamed.get(name, name))
            np.testing.assert_array_equal(held, np.concatenate([e[name] for e in expected]))
        for name, recorded in peers.items():
            np.testing.assert_array_equal(getattr(again, recorded), peer[name])
        if role == "alice":
            np.testing.assert_array_equal(again.late_loss, again.lost)
        assert again.same_as(record) and (again.role, again.run_id) == (role, RUN_ID)
        assert again.attributes["provenance"] == {"rid": 7}
        assert again.attributes["gaps"] == [
            {"first_round": parameters.num_rounds, "reason": "reload", "start_unix": 1.5, "end_unix": 2.5}
        ]
        assert sum(loss["num_rounds"] for loss in again.attributes["losses"]) == again.num_lost


def test_spent_bits_are_on_disk_no_more(private_directory: Path, make_parameters: MakeParameters) -> None:
    parameters = make_parameters(1_000_000)
    pool = secrets.token_bytes(100_000)
    spool = make_spool(private_directory / "spool", "alice", parameters, pool)

    def on_disk(piece: bytes) -> bool:
        # Read through a second descriptor only here, where no other process competes for the lock.
        return any(piece in path.read_bytes() for path in private_directory.iterdir())

    assert on_disk(pool[40_000:40_016]) and on_disk(pool[-16:])
    spool.begin_batch(4 * 50_000)
    for start in range(0, 49_984, 64):
        assert not on_disk(pool[start : start + 16])
    assert on_disk(pool[50_000:50_016]) and on_disk(pool[-16:])
    spool.end_batch()
    leftover = np.unpackbits(np.frombuffer(pool[:32], dtype=np.uint8)).tobytes()
    assert not on_disk(leftover)
    spool.close()


def test_reservation_errors_name_numbers_and_change_nothing(
    private_directory: Path, make_parameters: MakeParameters
) -> None:
    spool = make_spool(private_directory / "spool", "bob", make_parameters(100), bytes(5))
    with pytest.raises(StorageError, match=r"needs 44 bits, 40 are left; fill it with at least 50 bytes"):
        spool.begin_batch(11)
    for wrong in (0, -1, 101):
        with pytest.raises(ParameterError, match="100 of 100 left"):
            spool.begin_batch(wrong)
    assert spool.bits_available == 40
    spool.begin_batch(10)
    with pytest.raises(StorageError, match="batch is open"):
        spool.begin_batch(1)
    with pytest.raises(StorageError, match="gave 0 bytes"):
        spool.fill_pool(lambda _: b"", 3)
    with pytest.raises(StorageError, match="0 of 100 rounds"):
        spool.seal(private_directory / "record.h5")
    spool.close()


def good_chunk(**changes: Any) -> dict[str, Any]:
    rounds: dict[str, Any] = {
        "first_round": 0,
        "outcome": [0, 1],
        "received": [1, 0],
        "received_setting": [2, 2],
        "received_end": [2, 2],
        "herald_pattern": [3, 12],
        "timestamp_mu": [5, 6],
        "edge_mu": [7, -1],
        "lost": [0, 0],
    }
    return {**rounds, **changes}


@pytest.mark.parametrize(
    "changes",
    [
        {"first_round": 1},
        {"first_round": -1},
        {"outcome": [0, 2]},
        {"outcome": [0, -1]},
        {"outcome": [0, 257]},
        {"outcome": [[0, 1]]},
        {"outcome": [0, 1, 1]},
        {"received": [1, 3]},
        {"received": [1]},
        {"received_setting": [1, 3]},
        {"received_end": [1, 3]},
        {"lost": [0, 2]},
        {"lost": [0, 1]},
        {"reasons": ["a reason without a lost round"]},
        {"edge_mu": [1]},
        {"herald_pattern": [3, 7]},
        {"herald_pattern": [3, 300]},
        {"timestamp_mu": [5]},
        {key: [3 if key == "herald_pattern" else 0] * 11 for key in list(good_chunk())[1:]},
    ],
)
def test_wrong_rounds_are_refused(
    private_directory: Path, make_parameters: MakeParameters, changes: dict[str, Any]
) -> None:
    with make_spool(private_directory / "spool", "alice", make_parameters(), b"\xff" * 50) as spool:
        with pytest.raises(StorageError, match="no batch is open"):
            spool.store(**good_chunk())
        spool.begin_batch(10)
        with pytest.raises(DiqkdError):
            spool.store(**good_chunk(**changes))
        assert spool.rounds_done == 0
        spool.store(**good_chunk())
        assert spool.rounds_done == 2


def test_acknowledgement_follows_commits(
    private_directory: Path, make_parameters: MakeParameters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(round_spool, "COMMIT_INTERVAL_S", 1e9)
    monkeypatch.setattr(round_spool, "COMMIT_ROUNDS", 20)
    spool = make_spool(private_directory / "spool", "alice", make_parameters(), bytes(50))
    draws = spool.begin_batch(100)
    acknowledged = []
    for start in range(0, 50, 8):
        store_random(spool, draws.part(start, start + 8), np.random.default_rng(start))
        acknowledged.append(spool.rounds_acknowledged)
    assert acknowledged == [0, 0, 24, 24, 24, 48, 48]
    monkeypatch.setattr(round_spool, "COMMIT_INTERVAL_S", 0.0)
    store_random(spool, draws.part(56, 57), np.random.default_rng(1))
    assert spool.rounds_acknowledged == spool.rounds_done == 57
    spool.close()


def test_interrupted_batch_is_completed_as_lost_and_its_rest_discarded(
    private_directory: Path, make_parameters: MakeParameters
) -> None:
    pool = np.random.default_rng(8).bytes(50)
    reference = draws_reference("alice", make_parameters(), pool)
    path = private_directory / "spool"
    spool = make_spool(path, "alice", make_parameters(), pool)
    store_random(spool, spool.begin_batch(20).part(0, 6), np.random.default_rng(1))
    spool.close()

    spool = RoundSpool.open(path, "alice")
    assert (spool.rounds_done, spool.rounds_begun) == (6, 20)
    with pytest.raises(StorageError, match="record_used"):
        spool.store(**good_chunk(first_round=6))
    for end in (5, 21):
        with pytest.raises(StorageError, match="up to round 19"):
            spool.record_used(end, "power cut")
    spool.record_used(9, "power cut")
    spool.end_batch()
    # 40 bits are spent, though only 9 rounds have been recorded.
    draws = spool.begin_batch(91)
    assert pairs_of(draws) == reference[20:111]
    store_random(spool, draws, np.random.default_rng(2))
    spool.end_batch()
    store_peer(spool, np.random.default_rng(3))
    record = spool.seal(private_directory / "record.h5")
    for first in (0, 7):
        own = spool.own_columns(first)
        np.testing.assert_array_equal(own["sent"], record.token[first:])
        np.testing.assert_array_equal(own["received"], record.received_type[first:])
        np.testing.assert_array_equal(own["lost"], record.lost[first:])
    assert record.setting[6:9].tolist() == record.outcome[6:9].tolist() == [0, 0, 0] and record.num_lost == 3
    assert record.received_type[6:9].tolist() == [NONE] * 3
    assert record.token[6:9].tolist() == [token for _, token in reference[6:9]]
    assert record.attributes["losses"] == [{"first_round": 6, "num_rounds": 3, "reason": "power cut"}]
    assert spool.num_late_losses == 3
    spool.close()


@pytest.mark.parametrize("reason", ["\ud800", "a\nline", "\x1b[2J", "x" * 201])
def test_a_reason_that_cannot_be_shown_poisons_nothing(
    private_directory: Path, make_parameters: MakeParameters, reason: str
) -> None:
    """A lone surrogate among the waiting rounds used to make every later commit fail."""
    spool = make_spool(private_directory / "spool", "alice", make_parameters(10), bytes(10))
    spool.begin_batch(10)
    spool.record_used(3, "power cut")
    for record in (lambda: spool.record_used(5, reason), lambda: spool.add_gap(reason, 0.0, 1.0)):
        with pytest.raises(ParameterError, match="printable ASCII"):
            record()
    assert spool.rounds_done == 3 and not spool._table.gaps()
    spool.record_used(5, "power cut")
    assert spool.rounds_acknowledged == 5
    spool.close()


def test_bob_knows_the_type_of_lost_rounds(private_directory: Path, make_parameters: MakeParameters) -> None:
    with make_spool(private_directory / "spool", "bob", make_parameters(6), bytes(2) + b"\xff" * 2) as spool:
        assert spool.begin_batch(6).settings.tolist() == [0, 0, 0, 0, 2, 2]
        spool.record_used(6, "interrupted")
        store_peer(spool, np.random.default_rng(1))
        record = spool.seal(private_directory / "record.h5")
    assert record.round_type.tolist() == [1, 1, 1, 1, 0, 0]
    assert record.received_token.tolist() == [NONE] * 6


def test_key_rounds_of_measure_first_take_the_basis_that_came(
    private_directory: Path, make_parameters: MakeParameters
) -> None:
    parameters = make_parameters(6).model_copy(update={"protocol": "late-type"})
    with make_spool(private_directory / "spool", "bob", parameters, bytes(2) + b"\xff" * 2) as spool:
        draws = spool.begin_batch(6)
        assert draws.settings.tolist() == [0, 0, 0, 0, 2, 2]
        changes = {"received_setting": np.array([1, 0, 2, 1, 1, 2], dtype=np.uint8)}
        store_random(spool, draws, np.random.default_rng(1), **changes)
        store_peer(spool, np.random.default_rng(1))
        record = spool.seal(private_directory / "record.h5")
    assert record.setting.tolist() == [0, 0, 0, 0, 3, 2]
    with make_spool(private_directory / "other", "alice", parameters, b"\xcc" * 2) as spool:
        changes = {"received": np.array([0, 1, 2, 0, 1, 2], dtype=np.uint8)}
        store_random(spool, spool.begin_batch(6), np.random.default_rng(1), **changes)
        store_peer(spool, np.random.default_rng(1))
        assert spool.seal(private_directory / "other.h5").setting.tolist() == [1, 0, 1, 0, 1, 0]


def test_columns_of_the_other_node_come_in_order_and_of_played_rounds_only(
    private_directory: Path, make_parameters: MakeParameters
) -> None:
    with make_spool(private_directory / "spool", "alice", make_parameters(), bytes(50)) as spool:
        store_random(spool, spool.begin_batch(20), np.random.default_rng(1))
        bits = np.zeros(21, dtype=np.uint8)
        peer = {name: bits for name in ("sent", "received", "end_token", "lost", "herald_pattern")}
        for first, columns in ((0, peer), (1, {name: column[:3] for name, column in peer.items()})):
            with pytest.raises(StorageError, match="from 0 to 19 were due"):
                spool.store_peer(first, columns)
        with pytest.raises(ParameterError, match="received has an entry"):
            spool.store_peer(
                0, {name: column[:3] for name, column in (peer | {"received": bits + 3}).items()}
            )
        assert spool.peer_rounds_done == 0
        spool.store_peer(0, {name: column[:3] for name, column in peer.items()})
        assert spool.peer_rounds_done == 3
    with RoundSpool.open(spool.path) as spool:
        assert spool.peer_rounds_done == 3


def test_resume_compares_role_parameters_and_run(
    private_directory: Path, make_parameters: MakeParameters
) -> None:
    path = private_directory / "spool"
    parameters, others = make_parameters(), make_parameters(101)
    make_spool(path, "alice", parameters, b"").close()
    with pytest.raises(StorageError, match="belongs to alice, not to bob"):
        RoundSpool.open(path, "bob")
    with pytest.raises(StorageError, match=f"{parameters.digest[:16]}.*{others.digest[:16]}"):
        RoundSpool.open(path, "alice", others)
    with pytest.raises(StorageError, match="belongs to run 0123"):
        RoundSpool.open(path, "alice", parameters, "f" * 32)
    with pytest.raises(StorageError, match="exists already"):
        RoundSpool.create(path, "alice", parameters, {})
    with pytest.raises(StorageError, match="does not exist"):
        RoundSpool.open(private_directory / "other")
    with pytest.raises(ParameterError, match="role 'eve'"):
        RoundSpool.create(private_directory / "other", "eve", parameters, {})
    RoundSpool.open(path, "alice", parameters, RUN_ID).close()


def test_run_id_is_needed_before_the_first_batch(
    private_directory: Path, make_parameters: MakeParameters
) -> None:
    with RoundSpool.create(private_directory / "spool", "alice", make_parameters(), {}) as spool:
        spool.fill_pool(secrets.token_bytes, 50)
        with pytest.raises(StorageError, match="no run id"):
            spool.begin_batch(1)
        with pytest.raises(StorageError, match="32 lower-case"):
            spool.adopt_run_id("run 1")
        spool.adopt_run_id(RUN_ID)
        spool.adopt_run_id(RUN_ID)
        spool.begin_batch(1)


def test_creation_is_whole_or_nothing(
    private_directory: Path, make_parameters: MakeParameters, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(StorageError, match="No space left"):
        RoundSpool.create(private_directory / "spool", "alice", make_parameters(), {})
    monkeypatch.undo()
    assert list(private_directory.iterdir()) == []
    RoundSpool.create(private_directory / "spool", "alice", make_parameters(), {}).close()


def test_one_process_at_a_time(private_directory: Path, make_parameters: MakeParameters) -> None:
    path = private_directory / "spool"
    with make_spool(path, "alice", make_parameters(), b""):
        code = (
            "import sys; from diqkd_postproc.records import round_spool as r; r.LOCK_TIMEOUT_S = 0.05\n"
            "try: r.RoundSpool.open(sys.argv[1])\n"
            "except r.StorageError as error: print(error)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=300
        )
    assert "in use by another process" in done.stdout, done
    RoundSpool.open(path).close()


def limit_pages(spool: RoundSpool, extra: int) -> None:
    (pages,) = spool._connection.execute("PRAGMA page_count").fetchone()
    spool._connection.execute(f"PRAGMA max_page_count = {pages + extra}")


def test_full_disk_loses_nothing(private_directory: Path, make_parameters: MakeParameters) -> None:
    path = private_directory / "spool"
    spool = make_spool(path, "alice", make_parameters(10_000), bytes(2500))
    limit_pages(spool, 0)
    with pytest.raises(StorageError, match="disk is full"):
        spool.begin_batch(10_000)
    with pytest.raises(StorageError, match="disk is full"):
        spool.fill_pool(secrets.token_bytes, 100_000)
    assert spool.bits_available == 20_000 and spool.rounds_begun == 0
    limit_pages(spool, 1000)
    draws = spool.begin_batch(10_000)
    limit_pages(spool, 0)
    expected = store_random(spool, draws.part(0, 8000), np.random.default_rng(1))
    for _ in range(2):
        with pytest.raises(StorageError, match="disk is full"):
            spool.end_batch()
    assert (spool.rounds_done, spool.rounds_acknowledged) == (8000, 0)
    limit_pages(spool, 1000)
    store_random(spool, draws.part(8000), np.random.default_rng(2))
    spool.end_batch()
    store_peer(spool, np.random.default_rng(3))
    record = spool.seal(private_directory / "record.h5")
    np.testing.assert_array_equal(record.outcome[:8000], expected["outcome"])
    spool.close()


def test_interrupt_between_a_commit_and_its_bookkeeping(
    private_directory: Path, make_parameters: MakeParameters, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: RoundSpool) -> None:
        raise KeyboardInterrupt

    spool = make_spool(private_directory / "spool", "alice", make_parameters(), bytes(50))
    store_random(spool, spool.begin_batch(100).part(0, 60), np.random.default_rng(1))
    monkeypatch.setattr(RoundSpool, "_committed", interrupt)
    with pytest.raises(KeyboardInterrupt):
        spool.record_used(63, "a reason")
    monkeypatch.undo()
    spool.close()
    with RoundSpool.open(private_directory / "spool") as spool:
        assert spool.rounds_done == 63 and spool.rounds_begun == 100
        spool.record_used(100, "interrupted")
        store_peer(spool, np.random.default_rng(2))
        losses = spool.seal(private_directory / "record.h5").attributes["losses"]
    assert [loss["num_rounds"] for loss in losses] == [3, 37]


def test_damaged_spools_are_refused(private_directory: Path, make_parameters: MakeParameters) -> None:
    path = private_directory / "spool"
    with make_spool(path, "alice", make_parameters(), bytes(50)) as spool:
        draws = spool.begin_batch(30)
        for start in (0, 10, 20):
            store_random(spool, draws.part(start, start + 10), np.random.default_rng(start))
            spool.flush()
    intact = path.read_bytes()

    def change(statement: str) -> None:
        path.write_bytes(intact)
        with sqlite3.connect(path) as connection:
            connection.execute(statement)
        connection.close()

    change("DELETE FROM rounds WHERE first_round = 10")
    with pytest.raises(StorageError, match="rounds 10 to 19 are missing"):
        RoundSpool.open(path)
    change("UPDATE meta SET value = '99' WHERE name = 'schema_version'")
    with pytest.raises(StorageError, match="schema 99"):
        RoundSpool.open(path)
    change("UPDATE batch SET num_rounds = 29")
    with pytest.raises(StorageError, match="batch does not fit"):
        RoundSpool.open(path)
    change("PRAGMA application_id = 1")
    with pytest.raises(StorageError, match="not the expected kind"):
        RoundSpool.open(path)
    path.write_bytes(b"not a database, but long enough to have a header" * 100)
    with pytest.raises(StorageError, match="damaged or not one of ours"):
        RoundSpool.open(path)
    path.write_bytes(b"")
    with pytest.raises(StorageError, match="not the expected kind"):
        RoundSpool.open(path)


def test_a_foreign_journal_is_never_rolled_into_a_new_spool(
    private_directory: Path, make_parameters: MakeParameters
) -> None:
    (private_directory / "spool-journal").write_bytes(b"journal of a spool that was moved away")
    with pytest.raises(StorageError, match="spool-journal is left of another file"):
        RoundSpool.create(private_directory / "spool", "alice", make_parameters(), {})
    assert not (private_directory / "spool").exists()


def test_sealing_is_idempotent_and_never_overwrites(
    private_directory: Path, make_parameters: MakeParameters
) -> None:
    records = []
    for name in ("one", "two"):
        with make_spool(
            private_directory / name, "alice", make_parameters(), secrets.token_bytes(26)
        ) as spool:
            store_random(spool, spool.begin_batch(100), np.random.default_rng(5))
            store_peer(spool, np.random.default_rng(6))
            records.append(spool.seal(private_directory / f"{name}.h5"))
            assert spool.seal(private_directory / f"{name}.h5").same_as(records[-1])
            if name == "two":
                with pytest.raises(StorageError, match="holds other rounds"):
                    spool.seal(private_directory / "one.h5")
    assert RoundRecord.read(private_directory / "one.h5").same_as(records[0])


def test_no_secret_is_shown(private_directory: Path, make_parameters: MakeParameters) -> None:
    spool = make_spool(private_directory / "spool", "bob", make_parameters(), b"\xde\xad\xbe\xef" * 15)
    draws = spool.begin_batch(100)
    shown = [repr(spool), str(spool), repr(draws)]
    with pytest.raises(DiqkdError) as caught:
        spool.store(**good_chunk(outcome=[1, 7]))
    shown.append(str(caught.value))
    store_random(spool, draws, np.random.default_rng(4))
    store_peer(spool, np.random.default_rng(5))
    record = spool.seal(private_directory / "record.h5")
    shown += [repr(record), str(record)]
    spool.close()
    for text in shown:
        assert "array" not in text and "\\x" not in text and "deadbeef" not in text
        assert "0, 0" not in text and "1, 1" not in text and "2, 2" not in text


FILL_UNDER_A_SIZE_LIMIT = """
import resource, sys
from diqkd_postproc.protocol.errors import DiqkdError
from diqkd_postproc.records.round_spool import RoundSpool
spool = RoundSpool.open(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 10,) * 2)
try:
    spool.fill_pool(bytes, 1 << 20)
except DiqkdError as error:
    sys.exit(f"{error.exit_code}: {error}")
"""


@pytest.mark.skipif(os.name != "posix", reason="limits of a process")
def test_a_limit_of_the_file_size_is_named(private_directory: Path, make_parameters: MakeParameters) -> None:
    path = private_directory / "spool"
    make_spool(path, "alice", make_parameters(1000), bytes(2000)).close()
    command = [sys.executable, "-c", FILL_UNDER_A_SIZE_LIMIT, str(path)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert finished.returncode == 1
    assert finished.stderr.startswith(f"6: {path}: ")
    assert "limit" in finished.stderr and "free space" in finished.stderr and "ulimit -f" in finished.stderr
    with RoundSpool.open(path) as spool:
        assert spool.bits_available == 16_000
