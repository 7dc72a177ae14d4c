from __future__ import annotations

import os
import secrets
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from diqkd_postproc.key_store import (
    LINK_KEY_BITS,
    PAD_NAMES,
    PAD_SET_BITS,
    PAD_SETS,
    UNUSED,
    KeyReuseError,
    KeyStore,
    segment_sizes,
)
from diqkd_postproc.protocol.errors import (
    InsufficientKeyError,
    LocalProtocolError,
    ParameterError,
    StorageError,
)
from tests.support.example_stores import SEED_BITS, make_key, make_pair, make_parameters

PUBLISHED_SEED_BITS = 1_201_886
PUBLISHED_KEY_BITS = 95_884


def test_segments_are_consecutive_bits_of_the_initial_key(directory: Path) -> None:
    initial_key = secrets.token_bytes(500)
    bits = "".join(f"{byte:08b}" for byte in initial_key)
    store = KeyStore.import_initial_key(
        directory / "store", make_parameters(), initial_key, "pair 1", seed_bits=SEED_BITS
    )
    start = 0
    for name, size in segment_sizes(make_parameters(), SEED_BITS).items():
        if name == "node_link":
            packed = store.node_link_key()
        else:
            packed = store.consume(name, "s", b"m") if name in PAD_NAMES else store.peek_seed(name)
        assert len(packed) == (size + 7) // 8
        found = "".join(f"{byte:08b}" for byte in packed)
        assert found[:size] == bits[start : start + size] and set(found[size:]) <= {"0"}
        start += size
    assert store.k0_bits == start and store.key_id == "pair 1"
    store.close()


def test_seed_length_comes_from_the_extractor() -> None:
    from diqkd_postproc.privacy_amplification import trevisan_parameters

    parameters = make_parameters()
    sizes = segment_sizes(parameters)
    expected = trevisan_parameters(parameters.num_rounds, parameters.key_bits, parameters.one_bit_error)
    assert sizes["extractor_seed"] == expected.seed_bits
    assert segment_sizes(parameters.model_copy(update={"key_bits": 0}))["extractor_seed"] == 0


def test_balance_sheet_of_the_published_run(directory: Path) -> None:
    alice, bob = make_pair(directory, PUBLISHED_SEED_BITS)
    hash_bits = alice.segment_bits("hash_seed")
    assert alice.k0_bits == alice.k1_bits == PUBLISHED_SEED_BITS + hash_bits + 256 + 256
    assert [row.consumed + row.used_reusable + row.generated for row in alice.balance_sheet().rows] == [0] * 5
    key = np.random.default_rng(1).integers(0, 2, PUBLISHED_KEY_BITS)
    for store in (alice, bob):
        for name in PAD_NAMES:
            store.consume(name, "session", b"message")
        store.activate("session", key)
    sheet = alice.balance_sheet()
    # Table 1, with the length of our hash seed in place of 1280, after the MAC of the nodes' connection.
    assert [(row.consumed, row.used_reusable, row.generated) for row in sheet.rows] == [
        (0, 256, 0),
        (64, hash_bits, 0),
        (128, 0, 0),
        (64, 0, 0),
        (0, 1_201_886, 95_884),
    ]
    assert alice.balance_sheet("session") == sheet
    assert sheet.net_gain == 95_628 == sheet.k1_bits - sheet.k0_bits
    assert sheet.to_dict()["k1_bits"] == alice.k1_bits == bob.k1_bits
    assert (sheet.consumed, sheet.used_reusable) == (256, 1_201_886 + hash_bits + 256)
    assert alice.has_same_key(bob)
    np.testing.assert_array_equal(alice.generated_key("session"), key)
    set_aside = PAD_SETS * PAD_SET_BITS + LINK_KEY_BITS
    assert alice.export_key(directory / "key.bin") == PUBLISHED_KEY_BITS - set_aside
    assert (directory / "key.bin").read_bytes() == np.packbits(key[set_aside:].astype(np.uint8)).tobytes()
    assert alice.has_same_key(bob) is None
    if os.name == "posix":
        assert (directory / "key.bin").stat().st_mode & 0o777 == 0o600
    alice.close()
    bob.close()


def test_a_pad_serves_one_message(directory: Path) -> None:
    alice, bob = make_pair(directory)
    epoch = alice.epoch
    pad = alice.consume("pad_a", "s1", b"one")
    assert alice.epoch == epoch + 1
    assert alice.consume("pad_a", "s1", b"one") == pad == bob.consume("pad_a", "s1", b"one")
    assert alice.epoch == epoch + 1
    alice.close()
    with KeyStore.open(directory / "alice") as alice:
        assert alice.segment_state("pad_a") == "released"
        for session, message in (("s1", b"two"), ("s2", b"one"), (b"\x51", b"one")):
            with pytest.raises(KeyReuseError, match="pad_a was consumed already"):
                alice.consume("pad_a", session, message)
        assert alice.consume("pad_a", "s1", b"one") == pad
        alice.require_pads("s1")
        with pytest.raises(InsufficientKeyError, match=r"64 bits of one-time pads \(pad_a\)"):
            alice.require_pads("s2")
        with pytest.raises(KeyReuseError, match="another session"):
            alice.activate("s2", [0, 1])
        alice.activate("s1", [0, 1, 1])
        epoch = alice.epoch
        alice.activate("s1", [0, 1, 1])
        assert alice.epoch == epoch
        with pytest.raises(LocalProtocolError, match="different key"):
            alice.activate("s1", [0, 1, 0])
        for name in PAD_NAMES:
            with pytest.raises(KeyReuseError):
                alice.consume(name, "s1", b"one")
            assert alice.segment_state(name) == "spent"
    bob.close()


def test_spent_pads_are_zeros_in_the_file(directory: Path) -> None:
    alice, bob = make_pair(directory)
    pads = [alice.consume(name, b"\x01\x02", "digest") for name in PAD_NAMES]
    alice.close()
    content = (directory / "alice").read_bytes()
    assert all(pad in content for pad in pads)
    with KeyStore.open(directory / "alice") as alice:
        alice.activate(b"\x01\x02", np.ones(77, dtype=np.uint8))
        seed = alice.peek_seed("extractor_seed")
    files = [path.read_bytes() for path in directory.iterdir() if path.name.startswith("alice")]
    assert not any(pad in content for pad in pads for content in files)
    assert any(seed[:64] in content for content in files)
    bob.close()


def test_misuse(directory: Path) -> None:
    alice, bob = make_pair(directory)
    with pytest.raises(LocalProtocolError, match="not a one-time pad"):
        alice.consume("hash_seed", "s", b"m")
    with pytest.raises(LocalProtocolError, match="not a reusable seed"):
        alice.peek_seed("pad_a")
    with pytest.raises(LocalProtocolError, match="session id"):
        alice.consume("pad_a", "", b"m")
    with pytest.raises(LocalProtocolError, match="digest"):
        alice.consume("pad_a", "s", b"")
    with pytest.raises(StorageError, match="no segment"):
        alice.segment_bits("pad_z")
    for key in ([0, 2], [[0, 1]], [0.5]):
        with pytest.raises(ParameterError, match="array of 0 and 1"):
            alice.activate("s", key)
    with pytest.raises(StorageError, match="no generated key"):
        alice.generated_key()
    with pytest.raises(ParameterError, match="needs the segments"):
        KeyStore.create(directory / "new", {"pad_a": (64, bytes(8))}, make_parameters(), "")
    sizes = segment_sizes(make_parameters(), SEED_BITS)
    with pytest.raises(ParameterError, match="segment extractor_seed: 3 bytes"):
        KeyStore.create(
            directory / "new", {name: (size, b"abc") for name, size in sizes.items()}, make_parameters(), ""
        )
    assert not (directory / "new").exists()
    alice.close()
    bob.close()


def test_short_initial_key_names_the_numbers(directory: Path) -> None:
    needed = sum(segment_sizes(make_parameters(), SEED_BITS).values())
    num_bytes = needed // 8
    with pytest.raises(InsufficientKeyError, match=f"has {8 * num_bytes} bits, this run needs {needed}"):
        KeyStore.import_initial_key(
            directory / "store", make_parameters(), bytes(num_bytes), "pair", seed_bits=SEED_BITS
        )
    with pytest.raises(InsufficientKeyError, match="random source gave 0 bytes"):
        make_pair(directory, read=lambda _: b"")
    assert list(directory.iterdir()) == []


def test_pair_is_made_whole_or_not_at_all(directory: Path) -> None:
    (directory / "bob").write_bytes(b"something else")
    with pytest.raises(StorageError, match="never overwritten"):
        make_pair(directory)
    assert [path.name for path in directory.iterdir()] == ["bob"]
    assert (directory / "bob").read_bytes() == b"something else"


def test_an_initial_key_without_a_name_is_damage(store: KeyStore) -> None:
    connection = sqlite3.connect(store.path)
    with connection:
        connection.execute("DELETE FROM initial_keys")
    connection.close()
    with pytest.raises(StorageError, match="the initial key has no name"):
        store.peek_seed("hash_seed")


def test_wrong_files_are_refused(directory: Path) -> None:
    alice, bob = make_pair(directory)
    alice.close()
    bob.close()
    path = directory / "alice"
    with pytest.raises(StorageError, match="was made for parameters"):
        KeyStore.open(path, make_parameters(1001))
    KeyStore.open(path, make_parameters()).close()
    intact = path.read_bytes()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE meta SET value = '99' WHERE name = 'schema_version'")
    connection.close()
    with pytest.raises(StorageError, match="has schema 99"):
        KeyStore.open(path)
    path.write_bytes(intact)
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM meta WHERE name = 'store_id'")
    connection.close()
    with pytest.raises(StorageError, match="damaged: no store_id"):
        KeyStore.open(path)
    for content in (b"", intact[:100], intact[:4096], b"no database" * 1000):
        path.write_bytes(content)
        with pytest.raises(StorageError):
            KeyStore.open(path)
    path.write_bytes(intact)
    if os.name == "posix":
        path.chmod(0o644)
        with pytest.raises(StorageError, match="0644"):
            KeyStore.open(path)


def test_full_disk_changes_nothing(directory: Path) -> None:
    alice, bob = make_pair(directory)
    alice.consume("pad_a", "s", b"m")
    (pages,) = alice._ledger.connection.execute("PRAGMA page_count").fetchone()
    alice._ledger.connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageError, match="disk is full"):
        alice.activate("s", np.ones(200_000, dtype=np.uint8))
    assert alice.generated_bits == 0 and alice.segment_state("pad_a") == "released"
    assert alice.segment_state("pad_f") == "unused"
    alice._ledger.connection.execute(f"PRAGMA max_page_count = {pages + 100}")
    alice.activate("s", np.ones(200_000, dtype=np.uint8))
    assert alice.generated_bits == 200_000
    alice.close()
    bob.close()


RACER = """
import sys
from diqkd_postproc.key_store import PAD_NAMES, KeyReuseError, KeyStore
store = KeyStore.open(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for name in PAD_NAMES:
    try:
        print(name, store.consume(name, "s", sys.argv[2]).hex(), flush=True)
    except KeyReuseError:
        pass
"""


def test_two_processes_never_get_one_pad(directory: Path) -> None:
    for round_number in range(3):
        folder = directory / str(round_number)
        folder.mkdir(mode=0o700)
        for store in make_pair(folder):
            store.close()
        racers = [
            subprocess.Popen(
                [sys.executable, "-c", RACER, str(folder / "alice"), message],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for message in ("one", "two")
        ]
        for racer in racers:
            assert racer.stdout is not None and racer.stdout.readline() == "ready\n"
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("\n")
            racer.stdin.flush()
        lines = [line for racer in racers for line in racer.communicate(timeout=300)[0].splitlines()]
        assert sorted(line.split()[0] for line in lines) == sorted(PAD_NAMES)


def test_no_secret_is_shown(directory: Path) -> None:
    canary = b"\xde\xad\xbe\xef"
    alice, bob = make_pair(directory, read=lambda count: (canary * count)[:count])
    key = np.unpackbits(np.frombuffer(canary * 10, dtype=np.uint8))
    alice.consume("pad_a", "s", b"m")
    shown = [repr(alice), str(alice), repr(alice.balance_sheet()), str(alice.balance_sheet().to_dict())]
    for attempt in (
        lambda: alice.consume("pad_a", "s", b"n"),
        lambda: alice.activate("t", key),
        lambda: alice.peek_seed("pad_b"),
        lambda: alice.activate("s", key.reshape(2, -1)),
    ):
        with pytest.raises(Exception) as caught:
            attempt()
        shown.append(f"{caught.value!r} {caught.value}")
    for text in shown:
        assert "deadbeef" not in text.lower() and "\\xde" not in text and "1 1 0 1" not in text
    alice.close()
    bob.close()


class PadLedger(RuleBasedStateMachine):
    """Random use of one store through two handles that are reopened; the model is a dictionary."""

    sessions = st.sampled_from(["s1", "s2"])
    messages = st.sampled_from([b"m1", b"m2", b"m3"])

    @initialize()
    def create(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name) / "alice"
        self.initial_key = secrets.token_bytes(500)
        KeyStore.import_initial_key(self.path, make_parameters(), self.initial_key, "pair", 80).close()
        self.handles = [KeyStore.open(self.path), KeyStore.open(self.path)]
        self.issued: dict[str, tuple[str, bytes]] = {}
        self.pads: dict[str, bytes] = {}
        self.activated: str | None = None
        self.epoch = 0

    @rule(handle=st.integers(0, 1), name=st.sampled_from(PAD_NAMES), session=sessions, message=messages)
    def consume(self, handle: int, name: str, session: str, message: bytes) -> None:
        allowed = self.activated is None and self.issued.get(name, (session, message)) == (session, message)
        try:
            pad = self.handles[handle].consume(name, session, message)
        except KeyReuseError:
            assert not allowed
            return
        assert allowed
        self.issued[name] = (session, message)
        assert self.pads.setdefault(name, pad) == pad
        assert len(set(self.pads.values())) == len(self.pads)

    @precondition(lambda self: self.activated is None)
    @rule(handle=st.integers(0, 1), session=sessions)
    def activate(self, handle: int, session: str) -> None:
        if all(owner == session for owner, _ in self.issued.values()):
            self.handles[handle].activate(session, [1, 0, 1])
            self.activated = session
        else:
            with pytest.raises(KeyReuseError):
                self.handles[handle].activate(session, [1, 0, 1])

    @rule(handle=st.integers(0, 1))
    def reopen(self, handle: int) -> None:
        self.handles[handle].close()
        self.handles[handle] = KeyStore.open(self.path)

    @invariant()
    def the_books_balance(self) -> None:
        if not hasattr(self, "handles"):
            return
        spent = 256 if self.activated else 64 * len(self.issued)
        for store in self.handles:
            assert store.k1_bits == store.k0_bits - spent + (3 if self.activated else 0)
            assert store.balance_sheet().net_gain == store.k1_bits - store.k0_bits
            assert store.epoch >= self.epoch
        self.epoch = self.handles[0].epoch

    def teardown(self) -> None:
        for store in getattr(self, "handles", []):
            store.close()
        if hasattr(self, "directory"):
            self.directory.cleanup()


TestPadLedger = PadLedger.TestCase
TestPadLedger.settings = settings(max_examples=15, stateful_step_count=25)


def test_the_key_of_the_nodes_connection_stays_and_serves_nothing_else(directory: Path) -> None:
    alice, bob = make_pair(directory)
    with alice, bob:
        link_key = alice.node_link_key()
        assert link_key == bob.node_link_key() and len(link_key) == 32
        with pytest.raises(LocalProtocolError, match="not a one-time pad"):
            alice.consume("node_link", "s", b"m")
        with pytest.raises(LocalProtocolError, match="not a reusable seed"):
            alice.peek_seed("node_link")
        key = np.random.default_rng(1).integers(0, 2, 5000, dtype=np.uint8)
        make_key(alice, "s", key)
        alice.renew()
        assert alice.node_link_key() == link_key and alice.segment_state("node_link") == UNUSED
        alice.export_key(directory / "key")
        assert link_key not in (directory / "key").read_bytes()


def test_a_store_from_before_the_nodes_connection_still_serves(directory: Path) -> None:
    alice, bob = make_pair(directory)
    bob.close()
    path = alice.path
    alice.close()
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM segments WHERE name = 'node_link'")
        connection.execute("UPDATE meta SET value = '2' WHERE name = 'schema_version'")
    with KeyStore.open(path) as old:
        assert old.k0_bits == sum(segment_sizes(make_parameters(), SEED_BITS).values()) - 256
        make_key(old, "s", np.ones(5000, dtype=np.uint8))
        assert old.balance_sheet().net_gain == 5000 - 256
        with pytest.raises(StorageError, match="before initial keys had a segment"):
            old.node_link_key()
