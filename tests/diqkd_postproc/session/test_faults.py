"""Bad days over TCP: an adversary on the line, silence, interruptions, processes that are killed."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import queue
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from campaigns.session_attacks import resealed
from diqkd_postproc.key_store import KeyStore
from diqkd_postproc.protocol.errors import (
    AuthenticationError,
    InsufficientKeyError,
    ParameterError,
    RemoteProtocolError,
    StorageError,
)
from diqkd_postproc.session import PeerUnavailable, SessionResult, driver, run_session, transport
from diqkd_postproc.session.engine import SessionEngine, derive_session_id
from diqkd_postproc.session.journal import SessionJournal, journal_path
from diqkd_postproc.session.messages import AbortReason, MessageType
from diqkd_postproc.session.result_file import load_result, save_result
from diqkd_postproc.session.transport import Connection
from tests.support.joined_parties import RUN_ID, correlated_records, small_parameters
from tests.support.sessions_over_tcp import both, make_stores

HEADER_BYTES = 26


def frames(line: socket.socket) -> Iterator[bytes]:
    """Whole frames of a stream."""
    with line.makefile("rb") as stream:
        while header := stream.read(HEADER_BYTES):
            yield header + stream.read(int.from_bytes(header[-4:], "big") + 8)


def adversary(kind: MessageType, change: Callable[[bytes], bytes]) -> Callable[[int], int]:
    """A proxy that changes the frames of one type; called with the true port, gives its own."""

    def through(port: int) -> int:
        server = socket.create_server(("127.0.0.1", 0))

        def forward(source: socket.socket, target: socket.socket) -> None:
            try:
                for frame in frames(source):
                    target.sendall(change(frame) if frame[5] == kind else frame)
                target.shutdown(socket.SHUT_WR)
            except OSError:
                pass

        def serve() -> None:
            with server, server.accept()[0] as near, socket.create_connection(("127.0.0.1", port)) as far:
                back = threading.Thread(target=forward, args=(far, near), daemon=True)
                back.start()
                forward(near, far)
                back.join(300.0)

        threading.Thread(target=serve, daemon=True).start()
        return int(server.getsockname()[1])

    return through


def flip_a_bit(frame: bytes) -> bytes:
    return resealed(frame[:-10] + bytes([frame[-10] ^ 1]) + frame[-9:])


def flip_a_key_rounds_bit(frame: bytes) -> bytes:
    return resealed(frame[:40] + bytes([frame[40] ^ 0x80]) + frame[41:])


ROUND_TYPES = (AuthenticationError, "round types")
LEFT = (PeerUnavailable, "tag wrong")
CONFIRMATION = (AuthenticationError, "Alice's tag")
DECISION = (AuthenticationError, "Bob's decision")


@pytest.mark.parametrize(
    ("kind", "alice_says", "bob_says"),
    [
        (MessageType.SYNDROME, CONFIRMATION, CONFIRMATION),
        (MessageType.OUTCOME_HASH, CONFIRMATION, CONFIRMATION),
        (MessageType.ROUND_TYPES_TAG, ROUND_TYPES, LEFT),
        (MessageType.CONFIRMATION, CONFIRMATION, CONFIRMATION),
        (MessageType.DECISION, DECISION, None),
    ],
)
def test_both_sides_know_what_was_changed(
    folder: Path, kind: MessageType, alice_says: tuple[type, str], bob_says: tuple[type, str] | None
) -> None:
    parameters = small_parameters()
    stores = make_stores(folder, parameters)
    alice, bob = both(correlated_records(parameters), stores, through=adversary(kind, flip_a_bit))
    assert isinstance(alice, alice_says[0]) and alice_says[1] in str(alice)
    assert stores[0].generated_bits == 0
    if bob_says is None:
        assert isinstance(bob, SessionResult) and not bob.peer_confirmed
    else:
        assert isinstance(bob, bob_says[0]) and bob_says[1] in str(bob)
        assert stores[1].generated_bits == 0


def test_a_changed_setting_of_a_key_round_is_found_by_the_tag(folder: Path) -> None:
    parameters = small_parameters()
    records, stores = correlated_records(parameters), make_stores(folder, parameters)
    first_bit = 8 * (40 - HEADER_BYTES - 4)
    assert records[0].round_type[first_bit] == 0
    through = adversary(MessageType.BASIS_REVELATION, flip_a_key_rounds_bit)
    for result in both(records, stores, through=through):
        assert isinstance(result, AuthenticationError) and "Alice's tag" in str(result)
    assert stores[0].generated_bits == stores[1].generated_bits == 0


def speak(port: int, data: bytes) -> socket.socket:
    line = socket.create_connection(("127.0.0.1", port))
    line.sendall(data)
    return line


def test_a_silent_peer_is_not_waited_for_endlessly(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "SILENCE_S", 0.2)
    parameters = small_parameters()
    record, store = correlated_records(parameters)[0], make_stores(folder, parameters)[0]
    hello = SessionEngine("bob", parameters, store.key_id, RUN_ID).data_to_send()
    lines: list[socket.socket] = []
    with pytest.raises(PeerUnavailable, match="said nothing"):
        run_session(
            "alice",
            record,
            store,
            parameters,
            "127.0.0.1",
            0,
            True,
            timeout=300,
            listening=lambda host, port: lines.append(speak(port, hello)),
        )
    lines[0].close()
    assert store.balance_sheet().consumed == 0


def test_a_flood_ends_the_session(folder: Path) -> None:
    parameters = small_parameters()
    record, store = correlated_records(parameters)[1], make_stores(folder, parameters)[1]
    hello = SessionEngine("alice", parameters, store.key_id, RUN_ID).data_to_send()

    def flood(port: int) -> None:
        with speak(port, hello) as line:
            try:
                while True:
                    line.sendall(bytes(1 << 16))
            except OSError:
                pass

    with pytest.raises(RemoteProtocolError):
        run_session(
            "bob",
            record,
            store,
            parameters,
            "127.0.0.1",
            0,
            True,
            timeout=300,
            listening=lambda host, port: threading.Thread(target=flood, args=(port,), daemon=True).start(),
        )


def test_the_peer_hears_of_an_interruption_and_both_go_on_later(folder: Path) -> None:
    parameters = small_parameters()
    records, stores = correlated_records(parameters), make_stores(folder, parameters)
    ports: queue.Queue[int] = queue.Queue()

    def interrupted(stage: str, done: float, total: float = 1.0) -> None:
        if stage == "outcome hash" and done == 1.0:
            raise KeyboardInterrupt

    with ThreadPoolExecutor(1) as thread:
        bob = thread.submit(
            run_session,
            "bob",
            records[1],
            stores[1],
            parameters,
            "127.0.0.1",
            0,
            True,
            timeout=300,
            listening=lambda host, port: ports.put(port),
        )
        with pytest.raises(KeyboardInterrupt):
            run_session(
                "alice",
                records[0],
                stores[0],
                parameters,
                "127.0.0.1",
                ports.get(timeout=300),
                False,
                progress=interrupted,
            )
        error = bob.exception(20)
    assert isinstance(error, PeerUnavailable) and "interrupted" in str(error)
    assert all(isinstance(result, SessionResult) and result.resumed for result in both(records, stores))
    assert stores[0].has_same_key(stores[1])


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ParameterError("x"), AbortReason.PROTOCOL_ERROR),
        (RemoteProtocolError("x"), AbortReason.PROTOCOL_ERROR),
        (StorageError("x"), AbortReason.STORAGE),
        (InsufficientKeyError("x"), AbortReason.INSUFFICIENT_KEY),
        (KeyboardInterrupt(), AbortReason.INTERRUPTED),
        (ZeroDivisionError(), AbortReason.INTERNAL),
    ],
)
def test_the_peer_is_told_only_a_kind_of_reason(error: BaseException, reason: AbortReason) -> None:
    assert driver.abort_reason(error) is reason


def test_a_journal_of_another_session_is_refused(folder: Path) -> None:
    parameters = small_parameters()
    records, stores = correlated_records(parameters), make_stores(folder, parameters)
    both(records, stores)
    mine = journal_path(stores[0].path, derive_session_id(parameters, stores[0].key_id, RUN_ID))
    other = derive_session_id(parameters, stores[0].key_id, "9" * 32)
    with pytest.raises(StorageError, match="not a journal of this session"):
        SessionJournal(mine, parameters, other)


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("PRAGMA user_version=2", "protocol version 2, this program speaks"),
        ("DELETE FROM begin", "the epoch is missing"),
        ("UPDATE frames SET frame = 1000000000000", "no message"),
        ("UPDATE frames SET frame = zeroblob(1000000)", "no message"),
        ("UPDATE frames SET position = 9 WHERE position = 1", "do not fit"),
    ],
)
def test_a_journal_that_makes_no_sense_is_refused(folder: Path, statement: str, expected: str) -> None:
    parameters = small_parameters()
    records, stores = correlated_records(parameters), make_stores(folder, parameters)
    both(records, stores)
    session_id = derive_session_id(parameters, stores[0].key_id, RUN_ID)
    with contextlib.closing(sqlite3.connect(journal_path(stores[0].path, session_id))) as journal:
        journal.execute(statement)
        journal.commit()
    with pytest.raises(StorageError, match=expected):
        run_session("alice", records[0], stores[0], parameters, "127.0.0.1", 9, False, timeout=0.1)


@pytest.mark.parametrize("owner", ["journal", "key store"])
def test_a_file_whose_tables_have_no_readable_name_is_refused(folder: Path, owner: str) -> None:
    """SQLite quotes such names in its error, and Python cannot decode them."""
    parameters = small_parameters()
    store = make_stores(folder, parameters)[0]
    session_id = derive_session_id(parameters, store.key_id, RUN_ID)
    journal = journal_path(store.path, session_id)
    SessionJournal(journal, parameters, session_id).close()
    store.close()
    path, table = (journal, b"frames") if owner == "journal" else (store.path, b"segments")
    damaged = path.read_bytes().replace(b"CREATE TABLE " + table, b"CREATE TABLE \xff" + table[1:])
    path.write_bytes(damaged.replace(b"table" + table, b"table\xff" + table[1:]))
    with pytest.raises(StorageError, match="damaged"):
        if owner == "journal":
            SessionJournal(path, parameters, session_id)
        else:
            KeyStore.open(path).segment_state("pad_a")


def test_a_reset_connection_is_one_that_has_ended() -> None:
    class Reset(asyncio.StreamReader):
        async def read(self, n: int = -1) -> bytes:
            raise ConnectionResetError

    async def receive() -> bytes:
        with socket.socket() as line:
            writer: Any = SimpleNamespace(get_extra_info=lambda name: line)
            return await Connection(Reset(), writer).receive()

    assert asyncio.run(receive()) == b""


def test_a_peer_that_reads_nothing_cannot_keep_a_connection_from_closing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transport, "CLOSE_TIMEOUT_S", 0.05)

    async def close_with_bytes_that_nobody_reads() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            connection = Connection(*await asyncio.open_connection(*server.getsockname()))
            connection._writer.write(bytes(1 << 25))
            async with asyncio.timeout(30):
                await connection.close()

    asyncio.run(close_with_bytes_that_nobody_reads())


def test_a_damaged_result_file_is_named(folder: Path) -> None:
    parameters = small_parameters()
    stores = make_stores(folder, parameters)
    results = both(correlated_records(parameters), stores)
    assert isinstance(results[0], SessionResult)
    result = dataclasses.replace(results[0], peer_confirmed=True)
    path = save_result(stores[0].path, result)
    save_result(stores[0].path, dataclasses.replace(result, peer_confirmed=False, resumed=True))
    document = load_result(stores[0].path, result.session_id)
    assert document is not None and document["peer_confirmed"], "a confirmation is not forgotten"
    for text, expected in ((b"{", "not JSON"), (b"[]", "not the result")):
        path.write_bytes(text)
        with pytest.raises(StorageError, match=expected):
            load_result(stores[0].path, result.session_id)
