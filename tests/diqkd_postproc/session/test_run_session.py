"""Whole sessions over loopback TCP with the real key stores."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import socket
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diqkd_postproc.key_store import KeyStore
from diqkd_postproc.planning.design import syndrome_length
from diqkd_postproc.protocol.errors import (
    AuthenticationError,
    InsufficientKeyError,
    ParameterError,
    ProtocolAbort,
    RemoteProtocolError,
    StorageError,
)
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.records.sealed_record import SHARED_OUTCOMES, RoundRecord
from diqkd_postproc.session import PeerUnavailable, SessionResult, run_session
from diqkd_postproc.session.framing import PROTOCOL_VERSION
from diqkd_postproc.session.messages import Role
from tests.support.joined_parties import correlated_records, lose_late, small_parameters
from tests.support.sessions_over_tcp import both, make_stores


def test_a_session_of_20000_rounds_over_tcp(folder: Path) -> None:
    gamma = Fraction(13, 256)
    parameters = small_parameters(
        20_000,
        test_numerator=13,
        omega_threshold=0.8,
        syndrome_bits=syndrome_length(20_000, gamma, 2.64, 0.018),
        key_bits=500,
        design_qber=0.018,
    )
    records = correlated_records(parameters, chsh_score=2.677, qber=0.0144)
    stores = make_stores(folder, parameters)
    alice, bob = both(records, stores)
    assert isinstance(alice, SessionResult) and isinstance(bob, SessionResult)
    assert stores[0].has_same_key(stores[1])
    assert alice.key_bits == bob.key_bits == stores[0].generated_key().size == 500
    assert alice.transcript_digest == bob.transcript_digest and alice.session_id == bob.session_id
    x, y = records[0].setting, records[1].setting
    lost = (y != 2) & ((records[0].outcome ^ records[1].outcome) != (x & y))
    assert bob.num_losses == np.count_nonzero(lost) <= bob.max_losses and alice.num_losses is None
    assert bob.num_tests == alice.num_tests == np.count_nonzero(y != 2)
    assert bob.decode_iterations is not None and bob.decode_iterations > 0
    for result in (alice, bob):
        sheet = result.balance_sheet
        assert sheet.consumed == 256 and sheet.generated == 500 and sheet.net_gain == 244
        assert result.peer_confirmed and not result.resumed
        assert result.seconds["privacy amplification"] > 0
        assert result.to_dict()["balance_sheet"]["generated"] == 500


def test_a_finished_session_can_be_run_again(folder: Path) -> None:
    parameters = small_parameters()
    records, stores = correlated_records(parameters), make_stores(folder, parameters)
    first = both(records, stores)
    key = stores[0].generated_key()
    again = both(records, stores, bob_listens=False)
    for before, after in zip(first, again, strict=True):
        assert isinstance(before, SessionResult) and isinstance(after, SessionResult)
        assert after.resumed and after.transcript_digest == before.transcript_digest
        assert after.balance_sheet == before.balance_sheet
    assert np.array_equal(stores[0].generated_key(), key) and stores[0].has_same_key(stores[1])
    alone = run_session("bob", records[1], stores[1], parameters, "127.0.0.1", 0, True, timeout=0.1)
    assert not alone.peer_confirmed and alone.key_bits == parameters.key_bits


def test_too_few_wins_abort_both_sides_with_the_numbers(folder: Path) -> None:
    parameters = small_parameters(omega_threshold=0.9)
    stores = make_stores(folder, parameters)
    results = both(correlated_records(parameters), stores)
    for result in results:
        assert isinstance(result, ProtocolAbort) and result.exit_code == 3
        assert f"{parameters.max_losses} are allowed" in str(result)
    for store in stores:
        assert store.generated_bits == 0


def test_a_noisy_link_aborts_both_sides(folder: Path) -> None:
    parameters = small_parameters()
    results = both(correlated_records(parameters, qber=0.4), make_stores(folder, parameters))
    assert all(isinstance(r, ProtocolAbort) and "error correction failed" in str(r) for r in results)


def test_different_initial_keys_of_one_name_make_no_key(folder: Path) -> None:
    parameters = small_parameters()
    with make_stores(folder, parameters)[1] as bob:
        size, key_id = (bob.k0_bits + 7) // 8, bob.key_id
    alice = KeyStore.import_initial_key(folder / "other" / "a.db", parameters, os.urandom(size), key_id)
    bob = KeyStore.import_initial_key(folder / "other" / "b.db", parameters, os.urandom(size), key_id)
    results = both(correlated_records(parameters), (alice, bob))
    assert isinstance(results[0], AuthenticationError) and "initial keys differ" in str(results[0])
    assert isinstance(results[1], PeerUnavailable) and "tag wrong" in str(results[1])
    assert alice.generated_bits == bob.generated_bits == 0


def test_sides_that_do_not_fit_spend_nothing(folder: Path) -> None:
    parameters, others = small_parameters(), small_parameters(key_bits=41)
    stores, other_stores = make_stores(folder, parameters), make_stores(folder, others, "others")
    records, other_records = correlated_records(parameters), correlated_records(others)
    elsewhere = correlated_records(parameters, run_id="b" * 32)
    third = make_stores(folder, parameters, "third")
    for what, bobs_record, bobs_store in (
        ("protocol parameters", other_records[1], other_stores[1]),
        ("run", elsewhere[1], stores[1]),
        ("initial key", records[1], third[1]),
    ):
        results = both((records[0], bobs_record), (stores[0], bobs_store))
        for result in results:
            assert isinstance(result, ParameterError) and f"different {what}" in str(result)
        assert stores[0].balance_sheet().consumed == bobs_store.balance_sheet().consumed == 0


def test_more_late_losses_than_are_paid_for_are_refused_before_the_network(folder: Path) -> None:
    for allowed, name in ((0, "none"), (9, "nine")):
        parameters = small_parameters(max_late_losses=allowed)
        record, _ = lose_late(lose_late(correlated_records(parameters), 5, 7), 20, 3)
        store = make_stores(folder, parameters, name)[0]
        with pytest.raises(
            ProtocolAbort, match=f"10 rounds .* max_late_losses={allowed}; .* --max-late-losses 10"
        ) as e:
            run_session("alice", record, store, parameters, "127.0.0.1", 1, False)
        assert e.value.exit_code == 3 and store.balance_sheet().consumed == 0


def test_a_run_with_late_losses_that_are_paid_for_makes_a_key(folder: Path) -> None:
    parameters = small_parameters(max_late_losses=10)
    stores = make_stores(folder, parameters)
    results = both(lose_late(correlated_records(parameters), 5, 10), stores)
    assert all(isinstance(result, SessionResult) for result in results), results
    assert stores[0].has_same_key(stores[1])


def test_wrong_input_is_refused_before_the_network(folder: Path) -> None:
    parameters, others = small_parameters(), small_parameters(key_bits=41)
    record, store = correlated_records(parameters)[0], make_stores(folder, parameters)[0]
    anywhere = ("127.0.0.1", 1, False)
    with pytest.raises(ParameterError, match="this is alice's record"):
        run_session("bob", record, store, parameters, *anywhere)
    with pytest.raises(ParameterError, match="neither"):
        run_session("eve", record, store, parameters, *anywhere)  # type: ignore[arg-type]
    shared = dataclasses.replace(record, attributes={"provenance": SHARED_OUTCOMES})
    with pytest.raises(ParameterError, match="known to both nodes"):
        run_session("alice", shared, store, parameters, *anywhere)
    with pytest.raises(ParameterError, match="the record was made with parameters"):
        run_session("alice", record, store, others, *anywhere)
    with pytest.raises(ParameterError, match="the key store was made with parameters"):
        run_session("alice", correlated_records(others)[0], store, others, *anywhere)
    keyless = small_parameters(key_bits=0)
    with pytest.raises(ProtocolAbort, match="allow no secret key"):
        run_session(
            "alice",
            correlated_records(keyless)[0],
            make_stores(folder, keyless, "keyless")[0],
            keyless,
            *anywhere,
        )
    store.consume("pad_a", "00" * 16, b"another session")
    with pytest.raises(InsufficientKeyError, match="pad_a"):
        run_session("alice", record, store, parameters, *anywhere)


@pytest.mark.parametrize("listens", [True, False])
def test_an_absent_peer_is_named(folder: Path, listens: bool) -> None:
    parameters = small_parameters()
    record, store = correlated_records(parameters)[0], make_stores(folder, parameters)[0]
    with pytest.raises(PeerUnavailable, match=r"127\.0\.0\.1") as caught:
        run_session(
            "alice", record, store, parameters, "127.0.0.1", 0 if listens else 9, listens, timeout=0.3
        )
    assert "start the other side" in str(caught.value)
    assert caught.value.exit_code == 1 and not isinstance(caught.value, ProtocolAbort)  # as at a node
    assert "127.0.0.1:0 " not in str(caught.value)  # the port that is listened on, not the one asked for
    assert store.balance_sheet().consumed == 0


def test_an_address_in_use_is_named(folder: Path) -> None:
    parameters = small_parameters()
    record, store = correlated_records(parameters)[0], make_stores(folder, parameters)[0]
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(PeerUnavailable, match="cannot listen"),
    ):
        run_session("alice", record, store, parameters, *server.getsockname(), True, timeout=1)


def test_a_stranger_is_hung_up_on_and_the_peer_still_served(folder: Path) -> None:
    parameters = small_parameters()
    records, stores = correlated_records(parameters), make_stores(folder, parameters)

    def strangers_first(port: int) -> int:
        for greeting in (b"GET / HTTP/1.1\r\n\r\n", b"DI"):
            with socket.create_connection(("127.0.0.1", port), timeout=300) as line:
                line.sendall(greeting)
                line.shutdown(socket.SHUT_WR)
                with contextlib.suppress(ConnectionError):
                    assert line.recv(1) == b""
        return port

    assert all(isinstance(r, SessionResult) for r in both(records, stores, through=strangers_first))


def test_a_session_that_begins_well_and_goes_on_as_garbage_is_refused(folder: Path) -> None:
    parameters = small_parameters()
    record, store = correlated_records(parameters)[1], make_stores(folder, parameters)[1]

    def stranger(host: str, port: int) -> None:
        def talk() -> None:
            with socket.create_connection((host, port)) as line, contextlib.suppress(ConnectionError):
                line.sendall(b"DIQK" + bytes([PROTOCOL_VERSION, *bytes(100)]))
                while line.recv(4096):
                    pass

        threading.Thread(target=talk, daemon=True).start()

    with pytest.raises(RemoteProtocolError, match="unknown type 0"):
        run_session("bob", record, store, parameters, "127.0.0.1", 0, True, timeout=300, listening=stranger)
    assert store.balance_sheet().consumed == 0


def test_one_session_runs_in_one_process_at_a_time(folder: Path) -> None:
    parameters = small_parameters()
    record, store = correlated_records(parameters)[0], make_stores(folder, parameters)[0]
    errors: list[BaseException] = []

    def second(host: str, port: int) -> None:
        with pytest.raises(StorageError, match="another process") as caught:
            run_session("alice", record, store, parameters, host, port, False, timeout=1)
        errors.append(caught.value)

    with pytest.raises(PeerUnavailable):
        run_session(
            "alice",
            record,
            store,
            parameters,
            "127.0.0.1",
            0,
            True,
            timeout=2,
            listening=lambda host, port: threading.Thread(target=second, args=(host, port)).start(),
        )
    assert len(errors) == 1


def test_a_session_lost_at_the_last_message_is_taken_up_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = small_parameters()
    records, stores = correlated_records(parameters), make_stores(folder, parameters)
    activate, calls = KeyStore.activate, []

    def full_disk(store: KeyStore, session_id: str, key_bits: Any) -> None:
        calls.append(store.path)
        if len(calls) == 1:
            raise StorageError("the disk is full")
        activate(store, session_id, key_bits)

    monkeypatch.setattr(KeyStore, "activate", full_disk)
    both(records, stores)
    assert sum(store.generated_bits > 0 for store in stores) <= 1
    second = both(records, stores)
    assert all(isinstance(result, SessionResult) and result.resumed for result in second)
    assert stores[0].has_same_key(stores[1])


def test_a_damaged_journal_is_refused(folder: Path) -> None:
    parameters = small_parameters()
    records, stores = correlated_records(parameters), make_stores(folder, parameters)
    both(records, stores)
    (journal,) = (p for p in (folder / "alice").glob("keys.db.session-*") if "journal" not in p.name)
    if os.name == "posix":
        assert journal.stat().st_mode & 0o777 == 0o600
    journal.write_bytes(b"nonsense" * 1000)
    with pytest.raises(StorageError, match="session-"):
        run_session("alice", records[0], stores[0], parameters, "127.0.0.1", 9, False, timeout=0.1)


def test_nothing_private_is_in_journal_result_or_representation(folder: Path) -> None:
    parameters = small_parameters()
    alice, bob = correlated_records(parameters)
    pattern = np.unpackbits(np.frombuffer(b"CANARY--" * 32, dtype=np.uint8))
    outcome = np.resize(pattern, parameters.num_rounds)
    wrong = bob.outcome ^ alice.outcome
    records = (
        dataclasses.replace(alice, outcome=outcome),
        dataclasses.replace(bob, outcome=outcome ^ wrong),
    )
    stores = make_stores(folder, parameters)
    results = both(records, stores)
    assert stores[0].has_same_key(stores[1])
    text = "".join(map(repr, [*results, *records, *stores]))
    assert "CANARY" not in text and "pad_" not in text
    for file in (p for p in folder.rglob("*") if "session-" in p.name):
        assert b"CANARY" not in file.read_bytes()


def party_process(number: int, folder: str, port: Any, outcome: Any) -> None:
    parameters = ProtocolParameters.load(Path(folder) / "parameters.toml")
    role: Role = "bob" if number else "alice"
    with KeyStore.open(Path(folder) / role / "keys.db", parameters) as store:
        result = run_session(
            role,
            RoundRecord.read(Path(folder) / role / "record.h5"),
            store,
            parameters,
            "127.0.0.1",
            0 if number else port.get(timeout=300),
            bool(number),
            timeout=300,
            listening=lambda host, bound: port.put(bound),
        )
    outcome.put((role, result.transcript_digest))


def test_two_processes_agree(folder: Path) -> None:
    parameters = small_parameters()
    records, stores = correlated_records(parameters), make_stores(folder, parameters)
    parameters.save(folder / "parameters.toml")
    for record, store in zip(records, stores, strict=True):
        record.write(folder / record.role / "record.h5")
        store.close()
    context = multiprocessing.get_context("spawn")
    port, outcome = context.Queue(), context.Queue()
    processes = [
        context.Process(target=party_process, args=(number, str(folder), port, outcome)) for number in (0, 1)
    ]
    for process in processes:
        process.start()
    digests = dict(outcome.get(timeout=300) for _ in processes)
    for process in processes:
        process.join(300.0)
        assert process.exitcode == 0
    assert digests["alice"] == digests["bob"]
    with (
        KeyStore.open(folder / "alice" / "keys.db") as alice,
        KeyStore.open(folder / "bob" / "keys.db") as bob,
    ):
        assert alice.has_same_key(bob)


def test_a_second_run_on_pads_from_the_first_key(folder: Path) -> None:
    parameters = small_parameters(4000, key_bits=1500)
    stores = make_stores(folder, parameters)
    first = correlated_records(parameters, run_id="1" * 32, seed=11)
    second = correlated_records(parameters, run_id="2" * 32, seed=12)
    (result, _) = both(first, stores)
    assert isinstance(result, SessionResult)
    with pytest.raises(InsufficientKeyError, match="keys next"):
        run_session("alice", second[0], stores[0], parameters, "127.0.0.1", 1, False)
    first_key = stores[0].generated_key()
    assert stores[0].renew() == stores[1].renew()
    for answer in both(second, stores):
        assert isinstance(answer, SessionResult) and answer.session_id != result.session_id
        assert answer.balance_sheet.net_gain == 1500 - 256
    assert stores[0].has_same_key(stores[1])
    assert stores[0].generated.delivery_seed(result.session_id) == stores[1].generated.delivery_seed(
        result.session_id
    )
    assert not np.array_equal(stores[0].generated_key(), first_key)
    # The first record has had its session: it is answered from the journal, never run with the new pads.
    for again in both(first, stores):
        assert isinstance(again, SessionResult) and again.resumed
        assert again.session_id == result.session_id and again.balance_sheet.net_gain == 1500 - 256
    assert len(stores[0].generated.held()) == 2


def test_a_record_whose_session_aborted_is_not_run_again_with_new_pads(folder: Path) -> None:
    parameters = small_parameters(4000, key_bits=2100)
    stores = make_stores(folder, parameters)
    both(correlated_records(parameters, run_id="1" * 32, seed=11), stores)
    for store in stores:
        store.renew()
    failing = correlated_records(parameters, run_id="2" * 32, chsh_score=0.5, seed=12)
    assert all(isinstance(answer, ProtocolAbort) for answer in both(failing, stores))
    assert stores[0].renew() == stores[1].renew()
    with pytest.raises(ParameterError, match="a record serves one session"):
        run_session("alice", failing[0], stores[0], parameters, "127.0.0.1", 1, False)
    assert stores[0].balance_sheet().consumed == stores[1].balance_sheet().consumed == 0
