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


def store_random(spool: RoundSpool, setting: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Store one chunk of plausible rounds and return what the record has to hold."""
    count = setting.size
    is_test = (setting != 2) if spool.role == "bob" else rng.integers(0, 2, count) == 1
    rounds = {
        "outcome": rng.integers(0, 2, count).astype(np.uint8),
        "round_type": is_test.astype(np.uint8),
        "herald_pattern": rng.choice(HERALD_PATTERNS, count).astype(np.uint8),
        "timestamp_mu": rng.integers(0, 2**62, count),
    }
    spool.store(spool.rounds_done, **rounds)
    effective = setting if spool.role == "bob" else np.where(is_test, setting, 0)
    return {**rounds, "setting": effective.astype(np.uint8), "lost": np.zeros(count, dtype=np.uint8)}


def settings_reference(role: str, parameters: ProtocolParameters, pool: bytes) -> list[int]:
    """Settings by the text of the protocol: bits of the pool in order, most significant first."""
    bits = "".join(f"{byte:08b}" for byte in pool)
    if role == "alice":
        return [int(bit) for bit in bits]
    width = parameters.test_bits + 1
    words = [bits[i : i + width] for i in range(0, len(bits) - width + 1, width)]
    return [int(word[-1]) if int(word[:-1], 2) < parameters.test_numerator else 2 for word in words]


@pytest.mark.parametrize("role", ["alice", "bob"])
def test_settings_are_the_pool_in_order_over_batches(
    private_directory: Path, make_parameters: MakeParameters, role: str
) -> None:
    parameters = make_parameters(50_000, test_numerator=13, test_bits=8)
    pool = np.random.default_rng(3).bytes((50_000 * parameters.setting_bits_per_round[role] + 7) // 8)
    drawn: list[int] = []
    with make_spool(private_directory / "spool", role, parameters, pool) as spool:
        for num_rounds in (1, 2, 7, 4097, 8192, 37_000, 701):
            settings_now = spool.begin_batch(num_rounds)
            drawn += settings_now.tolist()
            for chunk in np.array_split(settings_now, 3 if num_rounds > 3 else 1):
                store_random(spool, chunk, np.random.default_rng(1))
            spool.end_batch()
        assert spool.rounds_done == 50_000
        assert spool.bits_needed == 0 and spool.bits_available < 8
    assert drawn == settings_reference(role, parameters, pool)[:50_000]
    if role == "bob":
        # Five standard deviations of a binomial: false alarm 6e-7.
        assert abs(np.mean(np.array(drawn) != 2) - 13 / 256) < 5 * np.sqrt(13 / 256 / 50_000)


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
            setting = spool.begin_batch(min(size, parameters.num_rounds - spool.rounds_done))
            if action == "store":
                expected.append(store_random(spool, setting, rng))
            elif action == "lose":
                types = (setting != 2).astype(np.uint8) if role == "bob" else rng.integers(0, 2, size)
                spool.record_lost(size, types, 5, "ion lost")
                effective = setting if role == "bob" else setting * types
                zeros = np.zeros(size, dtype=np.uint8)
                expected.append(
                    {
                        "setting": effective,
                        "outcome": zeros,
                        "round_type": types,
                        "herald_pattern": zeros + 5,
                        "timestamp_mu": np.full(size, -1),
                        "lost": zeros + 1,
                    }
                )
            spool.end_batch()
            if reopen:
                spool.close()
                spool = RoundSpool.open(path, role, parameters, RUN_ID)
        spool.add_gap("reload", 1.5, 2.5)
        record = spool.seal(Path(directory) / "record.h5")
        spool.close()
        again = RoundRecord.read(Path(directory) / "record.h5")
        for name in expected[0]:
            np.testing.assert_array_equal(getattr(again, name), np.concatenate([e[name] for e in expected]))
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
    spool.begin_batch(8 * 50_000)
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
        "round_type": [1, 0],
        "herald_pattern": [3, 12],
        "timestamp_mu": [5, 6],
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
        {"round_type": [1, 2]},
        {"round_type": [1]},
        {"herald_pattern": [3, 0]},
        {"herald_pattern": [3, 7]},
        {"herald_pattern": [3, 300]},
        {"timestamp_mu": [5]},
        {key: [1] * 11 if key != "herald_pattern" else [3] * 11 for key in list(good_chunk())[1:]},
    ],
)
def test_wrong_rounds_are_refused(
    private_directory: Path, make_parameters: MakeParameters, changes: dict[str, Any]
) -> None:
    with make_spool(private_directory / "spool", "alice", make_parameters(), b"\xff" * 20) as spool:
        with pytest.raises(StorageError, match="no batch is open"):
            spool.store(**good_chunk())
        spool.begin_batch(10)
        with pytest.raises(DiqkdError):
            spool.store(**good_chunk(**changes))
        assert spool.rounds_done == 0
        spool.store(**good_chunk())
        assert spool.rounds_done == 2


def test_bob_refuses_round_types_that_contradict_his_settings(
    private_directory: Path, make_parameters: MakeParameters
) -> None:
    with make_spool(private_directory / "spool", "bob", make_parameters(), bytes(20)) as spool:
        assert spool.begin_batch(2).tolist() == [0, 0]
        with pytest.raises(StorageError, match="do not follow from this node's y"):
            spool.store(**good_chunk())


def test_acknowledgement_follows_commits(
    private_directory: Path, make_parameters: MakeParameters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(round_spool, "COMMIT_INTERVAL_S", 1e9)
    monkeypatch.setattr(round_spool, "COMMIT_ROUNDS", 20)
    spool = make_spool(private_directory / "spool", "alice", make_parameters(), bytes(20))
    settings_now = spool.begin_batch(100)
    acknowledged = []
    for start in range(0, 50, 8):
        store_random(spool, settings_now[start : start + 8], np.random.default_rng(start))
        acknowledged.append(spool.rounds_acknowledged)
    assert acknowledged == [0, 0, 24, 24, 24, 48, 48]
    monkeypatch.setattr(round_spool, "COMMIT_INTERVAL_S", 0.0)
    store_random(spool, settings_now[56:57], np.random.default_rng(1))
    assert spool.rounds_acknowledged == spool.rounds_done == 57
    spool.close()


def test_interrupted_batch_is_completed_as_lost_and_its_rest_discarded(
    private_directory: Path, make_parameters: MakeParameters
) -> None:
    pool = np.random.default_rng(8).bytes(50)
    reference = np.array(settings_reference("alice", make_parameters(), pool))
    path = private_directory / "spool"
    spool = make_spool(path, "alice", make_parameters(), pool)
    store_random(spool, spool.begin_batch(20)[:6], np.random.default_rng(1))
    spool.close()

    spool = RoundSpool.open(path, "alice")
    pending = spool.pending_batch
    assert pending is not None and (pending.first_round, pending.num_rounds) == (6, 14)
    np.testing.assert_array_equal(pending.settings, reference[6:20])
    with pytest.raises(StorageError, match="record_lost"):
        spool.store(**good_chunk(first_round=6))
    with pytest.raises(StorageError, match="batch has 14 left"):
        spool.record_lost(15, 1)
    with pytest.raises(ParameterError, match="request it from the peer"):
        spool.record_lost(1)
    spool.record_lost(3, [1, 0, 1], 0, "power cut")
    spool.end_batch()
    assert spool.pending_batch is None
    # 20 bits are spent, though only 9 rounds have been recorded.
    np.testing.assert_array_equal(spool.begin_batch(91), reference[20:111])
    store_random(spool, reference[20:111], np.random.default_rng(2))
    spool.end_batch()
    record = spool.seal(private_directory / "record.h5")
    for first in (0, 7):
        types, patterns = spool.public_rounds(first)
        np.testing.assert_array_equal(types, record.round_type[first:])
        np.testing.assert_array_equal(patterns, record.herald_pattern[first:])
    assert record.setting[6:9].tolist() == [reference[6], 0, reference[8]]
    assert record.outcome[6:9].tolist() == [0, 0, 0] and record.num_lost == 3
    assert record.attributes["losses"] == [{"first_round": 6, "num_rounds": 3, "reason": "power cut"}]
    spool.close()


def test_bob_knows_the_round_type_of_lost_rounds(
    private_directory: Path, make_parameters: MakeParameters
) -> None:
    with make_spool(private_directory / "spool", "bob", make_parameters(6), bytes(2) + b"\xff" * 2) as spool:
        assert spool.begin_batch(6).tolist() == [0, 0, 0, 0, 2, 2]
        spool.record_lost(6)
        record = spool.seal(private_directory / "record.h5")
    assert record.round_type.tolist() == [1, 1, 1, 1, 0, 0]


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
        spool.fill_pool(secrets.token_bytes, 20)
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
    spool = make_spool(path, "alice", make_parameters(10_000), bytes(2000))
    limit_pages(spool, 0)
    with pytest.raises(StorageError, match="disk is full"):
        spool.begin_batch(10_000)
    with pytest.raises(StorageError, match="disk is full"):
        spool.fill_pool(secrets.token_bytes, 100_000)
    assert spool.bits_available == 16_000 and spool.pending_batch is None
    limit_pages(spool, 1000)
    settings_now = spool.begin_batch(10_000)
    limit_pages(spool, 0)
    expected = store_random(spool, settings_now[:8000], np.random.default_rng(1))
    for _ in range(2):
        with pytest.raises(StorageError, match="disk is full"):
            spool.end_batch()
    assert (spool.rounds_done, spool.rounds_acknowledged) == (8000, 0)
    limit_pages(spool, 1000)
    store_random(spool, settings_now[8000:], np.random.default_rng(2))
    spool.end_batch()
    record = spool.seal(private_directory / "record.h5")
    np.testing.assert_array_equal(record.outcome[:8000], expected["outcome"])
    spool.close()


def test_interrupt_between_a_commit_and_its_bookkeeping(
    private_directory: Path, make_parameters: MakeParameters, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: RoundSpool) -> None:
        raise KeyboardInterrupt

    spool = make_spool(private_directory / "spool", "alice", make_parameters(), bytes(20))
    settings_now = spool.begin_batch(100)
    store_random(spool, settings_now[:60], np.random.default_rng(1))
    monkeypatch.setattr(RoundSpool, "_committed", interrupt)
    with pytest.raises(KeyboardInterrupt):
        spool.record_lost(3, 1)
    monkeypatch.undo()
    spool.close()
    with RoundSpool.open(private_directory / "spool") as spool:
        assert spool.rounds_done == 63 and spool.pending_batch is not None
        spool.record_lost(37, 0)
        losses = spool.seal(private_directory / "record.h5").attributes["losses"]
    assert [loss["num_rounds"] for loss in losses] == [3, 37]


def test_damaged_spools_are_refused(private_directory: Path, make_parameters: MakeParameters) -> None:
    path = private_directory / "spool"
    with make_spool(path, "alice", make_parameters(), bytes(20)) as spool:
        settings_now = spool.begin_batch(30)
        for start in (0, 10, 20):
            store_random(spool, settings_now[start : start + 10], np.random.default_rng(start))
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
            private_directory / name, "alice", make_parameters(), secrets.token_bytes(13)
        ) as spool:
            store_random(spool, spool.begin_batch(100), np.random.default_rng(5))
            records.append(spool.seal(private_directory / f"{name}.h5"))
            assert spool.seal(private_directory / f"{name}.h5").same_as(records[-1])
            if name == "two":
                with pytest.raises(StorageError, match="holds other rounds"):
                    spool.seal(private_directory / "one.h5")
    assert RoundRecord.read(private_directory / "one.h5").same_as(records[0])


def test_no_secret_is_shown(private_directory: Path, make_parameters: MakeParameters) -> None:
    spool = make_spool(private_directory / "spool", "bob", make_parameters(), b"\xde\xad\xbe\xef" * 15)
    setting = spool.begin_batch(100)
    shown = [repr(spool), str(spool), repr(spool.pending_batch)]
    with pytest.raises(DiqkdError) as caught:
        spool.store(0, [1, 1, 7], [1, 1, 1], [3, 3, 3], [1, 2, 3])
    shown.append(str(caught.value))
    store_random(spool, setting, np.random.default_rng(4))
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
