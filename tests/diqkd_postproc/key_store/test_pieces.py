from __future__ import annotations

import itertools
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from diqkd_postproc.key_store import (
    AVAILABLE,
    DELIVERED,
    DELIVERY_SEED_BITS,
    PAD_SET_BITS,
    PAD_SETS,
    RESERVED,
    KeyReuseError,
    KeyStore,
    Piece,
    UnknownPieceError,
)
from diqkd_postproc.key_store.blocks import BLOCK_BITS
from diqkd_postproc.key_store.pieces import DELIVERY_SEED, PADS
from diqkd_postproc.protocol.errors import (
    InsufficientKeyError,
    LocalProtocolError,
    ParameterError,
    StorageError,
)
from tests.support.example_stores import make_key, packed, random_key

SET_ASIDE = PAD_SETS * PAD_SET_BITS + DELIVERY_SEED_BITS
KEY_BITS = SET_ASIDE + 3 * BLOCK_BITS
Pair = tuple[KeyStore, KeyStore]


@pytest.fixture
def key() -> np.ndarray:
    return random_key(KEY_BITS)


@pytest.fixture
def keyed(pair: Pair, key: np.ndarray) -> Pair:
    for store in pair:
        make_key(store, "s1", key)
    return pair


def test_a_piece_is_the_same_bits_on_both_sides_once(keyed: Pair, key: np.ndarray) -> None:
    alice, bob = keyed
    pieces = alice.generated.reserve(333, ["k1", "k2"])
    assert [piece.first_bit for piece in pieces] == [SET_ASIDE, SET_ASIDE + 333]
    bob.generated.apply_reservations(pieces)
    bob.generated.apply_reservations(pieces)  # said twice by the peer
    for store in keyed:
        assert store.generated.deliver(["k2", "k1"]) == (
            packed(key[SET_ASIDE + 333 : SET_ASIDE + 666]),
            packed(key[SET_ASIDE : SET_ASIDE + 333]),
        )
        with pytest.raises(KeyReuseError, match="'k1' was delivered already"):
            store.generated.deliver(["k1"])
        with pytest.raises(KeyReuseError, match="never issued twice"):
            store.generated.apply_reservations([replace(pieces[0], label="other")])
        (held,) = store.generated.held()
        assert (held.reserved, held.delivered) == (SET_ASIDE, 666)
        assert held.available == KEY_BITS - SET_ASIDE - 666 == store.generated.available_bits()
        assert store.generated.find("k1") == replace(pieces[0], state=DELIVERED)
        assert store.generated.find("k3") is None


def test_delivered_bits_are_zeros_in_the_file(keyed: Pair, key: np.ndarray, directory: Path) -> None:
    store = keyed[0]
    (piece,) = store.generated.reserve(256, ["k"], from_end=True)
    assert piece.first_bit == KEY_BITS - 256
    secret = packed(key[-256:])
    content = [(directory / "alice").read_bytes()]
    assert secret in content[0]
    assert store.generated.deliver(["k"]) == (secret,)
    store.close()
    for path in directory.iterdir():
        if path.name.startswith("alice"):
            assert secret not in path.read_bytes()
            if path.name == "alice":
                assert packed(key[-512:-256]) in path.read_bytes()


def test_reservations_survive_a_restart(keyed: Pair, key: np.ndarray, directory: Path) -> None:
    pieces = keyed[0].generated.reserve(100, ["a", "b"])
    keyed[0].close()
    with KeyStore.open(directory / "alice") as store:
        assert store.generated.reserved() == pieces
        store.generated.discard(["a"])
        store.generated.free(["b"])
        assert store.generated.reserved() == ()
        with pytest.raises(KeyReuseError):
            store.generated.deliver(["a"])
        with pytest.raises(UnknownPieceError, match="'b' reserved for delivery"):
            store.generated.deliver(["b"])
        (again,) = store.generated.reserve(100, ["b"])
        assert again == pieces[1]
        assert store.generated.deliver(["b"]) == (packed(key[SET_ASIDE + 100 : SET_ASIDE + 200]),)


def test_released_pieces_grow_together_again(keyed: Pair) -> None:
    generated = keyed[0].generated
    free = generated.available_bits()
    generated.reserve(free // 4, ["a", "b", "c", "d"])
    for label in ("a", "c", "b", "d"):
        generated.free([label])
    assert generated.reserve(free, ["all"])[0].num_bits == free
    assert generated.available_bits() == 0


def test_all_or_nothing(keyed: Pair) -> None:
    store = keyed[0]
    (held,) = store.generated.held()
    epoch = store.epoch
    with pytest.raises(InsufficientKeyError, match=r"2 pieces of 4000 free bits there are 1 \(6144 bits"):
        store.generated.reserve(4000, ["a", "b"])
    with pytest.raises(KeyReuseError, match="label 'a'"):
        store.generated.reserve(8, ["a", "a"])
    with pytest.raises(ParameterError, match="label"):
        store.generated.reserve(8, ["a", ""])
    with pytest.raises(ParameterError, match="0 bits"):
        store.generated.reserve(0, ["a"])
    good = Piece(session_id="s1", first_bit=SET_ASIDE, num_bits=8, label="good")
    for changes, error in (
        ({"session_id": "s2"}, UnknownPieceError),
        ({"first_bit": -8}, UnknownPieceError),
        ({"num_bits": 0}, UnknownPieceError),
        ({"num_bits": KEY_BITS}, UnknownPieceError),
        ({"first_bit": 0}, KeyReuseError),
        ({"first_bit": SET_ASIDE + 4}, KeyReuseError),
    ):
        with pytest.raises(error):
            store.generated.apply_reservations([good, replace(good, label="bad", **changes)])
    assert store.generated.held() == (held,) and store.epoch == epoch
    store.generated.reserve(8, ["a"])
    with pytest.raises(UnknownPieceError):
        store.generated.deliver(["a", "b"])
    assert store.generated.deliver(["a"])


def run_behind_its_back(store: KeyStore, statement: str) -> tuple[object, ...] | None:
    with closing(sqlite3.connect(store.path)) as connection, connection:
        return connection.execute(statement).fetchone()


def test_a_piece_named_twice_is_not_delivered(keyed: Pair) -> None:
    store = keyed[0]
    store.generated.reserve(8, ["a"])
    assert store.generated.deliver([]) == ()
    with pytest.raises(KeyReuseError, match="twice"):
        store.generated.deliver(["a", "a"])
    assert store.generated.deliver(["a"])


def test_neighbours_are_delivered_each_under_its_own_name(keyed: Pair, key: np.ndarray) -> None:
    """Pieces over the blocks' borders, from both ends, with a gap, asked for in another order."""
    alice, bob = keyed
    pieces = [
        *alice.generated.reserve(1000, ["a", "b", "c"]),
        *alice.generated.reserve(500, ["d", "e"], from_end=True),
    ]
    bob.generated.apply_reservations(pieces[::-1])
    assert bob.generated.held() == alice.generated.held()
    bits = {p.label: packed(key[p.first_bit : p.first_bit + p.num_bits]) for p in pieces}
    assert len(set(bits.values())) == len(pieces)
    assert alice.generated.deliver(["b"]) == (bits["b"],)
    assert alice.generated.deliver(["e", "c", "d", "a"]) == tuple(bits[label] for label in "ecda")
    assert bob.generated.deliver(["c", "a", "e", "b", "d"]) == tuple(bits[label] for label in "caebd")
    assert bob.generated.held() == alice.generated.held()
    for store in keyed:
        assert run_behind_its_back(store, "SELECT sum(delivered_bits) FROM blocks") == (4000,)


@pytest.mark.parametrize("statement", ["INSERT ON pieces", "UPDATE ON blocks"])
def test_a_statement_that_fails_amid_a_change_undoes_all_of_it(keyed: Pair, statement: str) -> None:
    store = keyed[0]
    store.generated.reserve(8, ["a", "b"])
    before = store.generated.held(), store.epoch
    change = store.generated.reserve if "pieces" in statement else store.generated.deliver
    arguments = (8, ["c"]) if "pieces" in statement else (["a", "b"],)
    fault = "BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
    run_behind_its_back(store, f"CREATE TRIGGER fault BEFORE {statement} {fault}")
    with pytest.raises(StorageError, match="free space and go on"):
        change(*arguments)
    run_behind_its_back(store, "DROP TRIGGER fault")
    assert (store.generated.held(), store.epoch) == before
    assert change(*arguments)


def test_a_store_whose_bits_cannot_be_read_issues_nothing(keyed: Pair) -> None:
    store = keyed[0]
    store.generated.reserve(8, ["a"])
    run_behind_its_back(store, "ALTER TABLE blocks RENAME TO elsewhere")
    with pytest.raises(StorageError, match="the file is damaged or not one of ours"):
        store.generated.deliver(["a"])
    run_behind_its_back(store, "ALTER TABLE elsewhere RENAME TO blocks")
    assert store.generated.deliver(["a"])


def test_what_is_set_aside_is_not_delivered(keyed: Pair, key: np.ndarray) -> None:
    alice, bob = keyed
    for piece in (*alice.generated.reserved(PADS), *alice.generated.reserved(DELIVERY_SEED)):
        with pytest.raises(UnknownPieceError):
            alice.generated.deliver([piece.label])
    assert alice.generated.delivery_seed("s1") == bob.generated.delivery_seed("s1")
    assert alice.generated.delivery_seed("s1") == packed(key[SET_ASIDE - DELIVERY_SEED_BITS : SET_ASIDE])
    with pytest.raises(UnknownPieceError):
        alice.generated.delivery_seed("s2")


@pytest.mark.parametrize(
    ("num_bits", "pad_sets", "has_link"),
    [
        (0, 0, False),
        (1, 0, False),
        (255, 0, False),
        (256, 1, False),
        (1023, 1, False),
        (1024, 1, True),
        (2047, 1, True),
        (2048, 2, True),
        (4095, 3, True),
        (4096, 4, True),
        (95_884, 4, True),
    ],
)
def test_short_keys_set_less_aside(pair: Pair, num_bits: int, pad_sets: int, has_link: bool) -> None:
    store = pair[0]
    make_key(store, "s", random_key(num_bits))
    assert len(store.generated.reserved(PADS)) == pad_sets
    assert len(store.generated.reserved(DELIVERY_SEED)) == has_link
    (held,) = store.generated.held()
    assert held.reserved == PAD_SET_BITS * pad_sets + DELIVERY_SEED_BITS * has_link
    assert held.available + held.reserved == num_bits == store.generated_key().size


def test_only_keys_that_the_peer_has(keyed: Pair) -> None:
    alice, bob = keyed
    bob.renew()
    make_key(bob, "s2", random_key(KEY_BITS, seed=2))
    piece = bob.generated.reserve(8, ["a"], sessions=["s2"])
    assert piece[0].session_id == "s2"
    with pytest.raises(UnknownPieceError, match="no key of session s2"):
        alice.generated.apply_reservations(piece)
    assert bob.generated.reserve(8, ["b"], from_end=True)[0].session_id == "s2"
    assert bob.generated.reserve(8, ["c"])[0].session_id == "s1"
    assert bob.generated.available_bits(["s1"]) == KEY_BITS - SET_ASIDE - 8
    with pytest.raises(InsufficientKeyError):
        bob.generated.reserve(8, ["d"], sessions=["s3"])


@pytest.mark.parametrize(
    "alteration",
    [
        f"UPDATE pieces SET state = '{AVAILABLE}', purpose = NULL, label = NULL WHERE label = 'gone'",
        f"UPDATE pieces SET state = '{RESERVED}' WHERE label = 'gone'",
        "DELETE FROM pieces WHERE label = 'gone'",
        "UPDATE blocks SET delivered_bits = 0",
        "DELETE FROM blocks",
        "UPDATE blocks SET bits = x'ff'",
    ],
)
def test_an_altered_ledger_issues_nothing(keyed: Pair, alteration: str) -> None:
    store = keyed[0]
    store.generated.reserve(64, ["gone", "next"])
    store.generated.deliver(["gone"])
    store._ledger.connection.execute(alteration)
    with pytest.raises(StorageError, match="damaged or was altered"):
        store.generated.deliver(["next"])


@pytest.mark.parametrize("alteration", ["DELETE FROM blocks", "UPDATE blocks SET bits = x'ff'"])
def test_a_key_that_lost_bits_issues_nothing(keyed: Pair, alteration: str) -> None:
    store = keyed[0]
    store.generated.reserve(64, ["a"])
    store._ledger.connection.execute(alteration)
    with pytest.raises(StorageError, match="a part of a generated key is missing"):
        store.generated.deliver(["a"])


def test_pieces_that_do_not_add_up_are_noticed(keyed: Pair) -> None:
    keyed[0]._ledger.connection.execute("DELETE FROM pieces WHERE state = 'available'")
    with pytest.raises(StorageError, match="do not add up"):
        keyed[0].generated.held()


def test_an_export_takes_what_is_free(keyed: Pair, key: np.ndarray, directory: Path) -> None:
    store = keyed[0]
    store.generated.apply_reservations(
        [Piece(session_id="s1", first_bit=SET_ASIDE + 100, num_bits=50, label="k")]
    )
    rest = np.concatenate([key[SET_ASIDE : SET_ASIDE + 100], key[SET_ASIDE + 150 :]])
    assert store.export_key(directory / "key") == rest.size
    assert (directory / "key").read_bytes() == packed(rest)
    with pytest.raises(StorageError, match="no bit of this key is free"):
        store.export_key(directory / "second")
    assert store.generated.deliver(["k"]) == (packed(key[SET_ASIDE + 100 : SET_ASIDE + 150]),)
    assert store.has_key("s1")
    with pytest.raises(StorageError, match="have left"):
        store.generated_key("s1")


def test_an_interrupted_export_goes_on_to_the_same_file(
    keyed: Pair, key: np.ndarray, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = keyed[0]
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(StorageError, match="No space left"):
            store.export_key(directory / "key")
    assert store.generated.available_bits() == 0
    with pytest.raises(StorageError, match=f"an export of this key to {directory / 'key'} was interrupted"):
        store.export_key(directory / "other")
    assert store.export_key(directory / "key") == KEY_BITS - SET_ASIDE
    assert (directory / "key").read_bytes() == packed(key[SET_ASIDE:])


def test_reserving_takes_as_long_however_many_pieces_were_delivered(keyed: Pair) -> None:
    """Counted in steps of SQLite's virtual machine."""
    store = keyed[0]
    names = (f"measured {number}" for number in itertools.count())

    def steps() -> int:
        count = 0

        def step() -> None:
            nonlocal count
            count += 1

        store._ledger.connection.set_progress_handler(step, 1)
        for from_end in (False, True):
            store.generated.reserve(8, [next(names)], from_end=from_end)
        store._ledger.connection.set_progress_handler(None, 0)
        return count

    def deliver(labels: list[str]) -> None:
        store.generated.reserve(8, labels)
        store.generated.deliver(labels)

    deliver(["first"])
    few = steps()
    deliver([f"key {number}" for number in range(200)])
    assert 0 < steps() < few + 20


def test_an_export_overwrites_no_file(keyed: Pair, directory: Path) -> None:
    """Such as the key of an earlier session, of which there is no other copy."""
    earlier = directory / "key"
    earlier.touch(mode=0o600)
    earlier.write_bytes(b"an earlier key")
    free = keyed[0].generated.available_bits()
    with pytest.raises(StorageError, match="never overwritten"):
        keyed[0].export_key(earlier)
    assert earlier.read_bytes() == b"an earlier key"
    assert keyed[0].generated.available_bits() == free


def test_activating_again_compares_what_is_left(keyed: Pair, key: np.ndarray) -> None:
    store = keyed[0]
    store.generated.reserve(8, ["k"])
    store.generated.deliver(["k"])
    store.activate("s1", key)
    with pytest.raises(LocalProtocolError, match="different key"):
        store.activate("s1", key[:-1])
    other = key.copy()
    other[-1] ^= 1
    with pytest.raises(LocalProtocolError, match="different key"):
        store.activate("s1", other)


RACER = """
import sys
from diqkd_postproc.protocol.errors import InsufficientKeyError
from diqkd_postproc.key_store import KeyStore
store = KeyStore.open(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
number = 0
try:
    while True:
        label = f"{sys.argv[2]} {number}"
        (piece,) = store.generated.reserve(97, [label], from_end=sys.argv[2] == "two")
        (key,) = store.generated.deliver([label])
        print(piece.first_bit, key.hex(), flush=True)
        number += 1
except InsufficientKeyError:
    pass
"""


def test_two_processes_never_get_overlapping_pieces(keyed: Pair, key: np.ndarray) -> None:
    path = keyed[0].path
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(path), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "two")
    ]
    for racer in racers:
        assert racer.stdout is not None and racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    lines = [line for racer in racers for line in racer.communicate(timeout=300)[0].splitlines()]
    starts = sorted(int(line.split()[0]) for line in lines)
    assert len(starts) == (KEY_BITS - SET_ASIDE) // 97
    assert all(later - earlier >= 97 for earlier, later in itertools.pairwise(starts))
    for line in lines:
        start, bits = int(line.split()[0]), bytes.fromhex(line.split()[1])
        assert bits == packed(key[start : start + 97])
