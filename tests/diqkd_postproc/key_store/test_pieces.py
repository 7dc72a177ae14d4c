from __future__ import annotations

import itertools
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diqkd_postproc.key_store import (
    AVAILABLE,
    DELIVERY_SEED_BITS,
    PAD_SET_BITS,
    PAD_SETS,
    RESERVED,
    KeyReuseError,
    KeyStore,
    UnknownPieceError,
)
from diqkd_postproc.key_store.blocks import BLOCK_BITS
from diqkd_postproc.key_store.pieces import DELIVERY_SEED, PADS
from diqkd_postproc.protocol.errors import (
    InsufficientKeyError,
    LocalProtocolError,
    StorageError,
)
from tests.support.example_stores import make_key, packed, random_key, taken

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


def test_a_range_is_the_same_bits_on_both_sides_once(keyed: Pair, key: np.ndarray) -> None:
    first, end = SET_ASIDE + 5, SET_ASIDE + 338
    for store in keyed:
        assert np.array_equal(store.generated.read_free("s1", first, 333), key[first:end])
        assert taken(store, first, 333, "s1") == packed(key[first:end])
        for again in ((first, 333), (first - 5, 6), (end - 1, 8), (SET_ASIDE, 1000)):
            with pytest.raises(KeyReuseError, match="never issued twice"):
                taken(store, *again, "s1")
            with pytest.raises(KeyReuseError):
                store.generated.read_free("s1", *again)
        (held,) = store.generated.held()
        assert (held.reserved, held.delivered) == (SET_ASIDE, 333)
        assert held.available == KEY_BITS - SET_ASIDE - 333 == store.generated.available_bits()
        assert store.generated.free_ranges() == (("s1", SET_ASIDE, first), ("s1", end, KEY_BITS))
        assert store.generated.lengths() == (("s1", KEY_BITS),)


def test_delivered_bits_are_zeros_in_the_file(keyed: Pair, key: np.ndarray, directory: Path) -> None:
    store = keyed[0]
    secret = packed(key[-256:])
    assert secret in (directory / "alice").read_bytes()
    assert taken(store, KEY_BITS - 256, 256, "s1") == secret
    store.close()
    for path in directory.iterdir():
        if path.name.startswith("alice"):
            assert secret not in path.read_bytes()
            if path.name == "alice":
                assert packed(key[-512:-256]) in path.read_bytes()


def test_what_was_taken_is_one_range_again(keyed: Pair, key: np.ndarray) -> None:
    """In any order, over the blocks' borders: the file does not grow with the number of keys."""
    store = keyed[0]
    places = [SET_ASIDE + 500 * number for number in range(8)]
    for place in (places[i] for i in (0, 4, 2, 3, 7, 1, 6, 5)):
        assert taken(store, place, 500, "s1") == packed(key[place : place + 500])
    rows = store.generated._ledger.rows("SELECT first_bit, num_bits FROM pieces WHERE state = 'delivered'")
    assert rows == [(SET_ASIDE, 4000)]
    assert run_behind_its_back(store, "SELECT sum(delivered_bits) FROM blocks") == (4000,)
    store.renew()  # a piece with a label next to it is not joined
    assert len(store.generated._ledger.rows("SELECT 1 FROM pieces WHERE state = 'delivered'")) == 2


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.integers(-9, KEY_BITS + 9), st.integers(-1, 900)), max_size=12))
def test_any_ranges_tile_the_key(pair: Pair, ranges: list[tuple[int, int]]) -> None:
    """Against a list of which bits are free: the same ranges are granted, and the pieces add up."""
    store = pair[0]
    if not store.has_key("s1"):
        make_key(store, "s1", random_key(KEY_BITS))
    expected = np.zeros(KEY_BITS, dtype=bool)
    for _, first, end in store.generated.free_ranges():
        expected[first:end] = True
    for first, size in ranges:
        is_free = (
            size > 0 and first >= 0 and first + size <= KEY_BITS and expected[first : first + size].all()
        )
        try:
            taken(store, first, size, "s1")
        except InsufficientKeyError:
            assert not is_free
        else:
            assert is_free
            expected[first : first + size] = False
    free = np.zeros(KEY_BITS, dtype=bool)
    for _, first, end in store.generated.free_ranges():
        free[first:end] = True
    assert np.array_equal(free, expected)
    assert sum(key.available for key in store.generated.held()) == expected.sum()


def test_all_or_nothing(keyed: Pair) -> None:
    store = keyed[0]
    (held,) = store.generated.held()
    epoch = store.epoch
    for session, first, size, error in (
        ("s2", SET_ASIDE, 8, UnknownPieceError),
        ("s1", -8, 8, UnknownPieceError),
        ("s1", SET_ASIDE, 0, UnknownPieceError),
        ("s1", SET_ASIDE, KEY_BITS, UnknownPieceError),
        ("s1", 0, 8, KeyReuseError),
        ("s1", SET_ASIDE - 4, 8, KeyReuseError),
    ):
        with pytest.raises(error), store.generated.change():
            store.generated.take("s1", SET_ASIDE + 800, 8)
            store.generated.take(session, first, size)
    with store.generated.change():
        pass  # nothing was taken, so nothing has changed
    assert store.generated.held() == (held,) and store.epoch == epoch
    with store.generated.change():
        store.generated.take("s1", SET_ASIDE, 8)
        store.generated.take("s1", SET_ASIDE + 100, 8)
    assert store.epoch == epoch + 1, "one change"


def run_behind_its_back(store: KeyStore, statement: str) -> tuple[object, ...] | None:
    with closing(sqlite3.connect(store.path)) as connection, connection:
        return connection.execute(statement).fetchone()


@pytest.mark.parametrize("statement", ["INSERT ON pieces", "UPDATE ON blocks"])
def test_a_statement_that_fails_amid_a_change_undoes_all_of_it(keyed: Pair, statement: str) -> None:
    store = keyed[0]
    before = store.generated.held(), store.epoch
    fault = "BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
    run_behind_its_back(store, f"CREATE TRIGGER fault BEFORE {statement} {fault}")
    with pytest.raises(StorageError, match="free space and go on"):
        taken(store, SET_ASIDE, 8, "s1")
    run_behind_its_back(store, "DROP TRIGGER fault")
    assert (store.generated.held(), store.epoch) == before
    assert taken(store, SET_ASIDE, 8, "s1")


def test_a_store_whose_bits_cannot_be_read_issues_nothing(keyed: Pair) -> None:
    store = keyed[0]
    run_behind_its_back(store, "ALTER TABLE blocks RENAME TO elsewhere")
    with pytest.raises(StorageError, match="the file is damaged or not one of ours"):
        taken(store, SET_ASIDE, 8, "s1")
    run_behind_its_back(store, "ALTER TABLE elsewhere RENAME TO blocks")
    assert taken(store, SET_ASIDE, 8, "s1")


def test_what_is_set_aside_is_not_delivered(keyed: Pair, key: np.ndarray) -> None:
    alice, bob = keyed
    for piece in (*alice.generated.reserved(PADS), *alice.generated.reserved(DELIVERY_SEED)):
        with pytest.raises(KeyReuseError):
            taken(alice, piece.first_bit, piece.num_bits, "s1")
        with pytest.raises(UnknownPieceError):
            alice.generated.discard([piece.label], "export")
    alice.generated.discard(["pads 0 of s1"], PADS)
    with pytest.raises(KeyReuseError, match="was delivered already"):
        alice.generated.discard(["pads 1 of s1", "pads 0 of s1"], PADS)
    assert len(alice.generated.reserved(PADS)) == PAD_SETS - 1, "all or none"
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


@pytest.mark.parametrize(
    "alteration",
    [
        f"UPDATE pieces SET state = '{AVAILABLE}', purpose = NULL WHERE first_bit = {SET_ASIDE}",
        f"UPDATE pieces SET state = '{RESERVED}' WHERE first_bit = {SET_ASIDE}",
        f"DELETE FROM pieces WHERE first_bit = {SET_ASIDE}",
        "UPDATE blocks SET delivered_bits = 0",
        "DELETE FROM blocks",
        "UPDATE blocks SET bits = x'ff'",
    ],
)
def test_an_altered_ledger_issues_nothing(keyed: Pair, alteration: str) -> None:
    store = keyed[0]
    taken(store, SET_ASIDE, 64, "s1")
    store._ledger.connection.execute(alteration)
    with pytest.raises(StorageError, match="damaged or was altered"):
        taken(store, SET_ASIDE + 64, 64, "s1")


@pytest.mark.parametrize("alteration", ["DELETE FROM blocks", "UPDATE blocks SET bits = x'ff'"])
def test_a_key_that_lost_bits_issues_nothing(keyed: Pair, alteration: str) -> None:
    store = keyed[0]
    store._ledger.connection.execute(alteration)
    with pytest.raises(StorageError, match="a part of a generated key is missing"):
        taken(store, SET_ASIDE, 64, "s1")


def test_pieces_that_do_not_add_up_are_noticed(keyed: Pair) -> None:
    keyed[0]._ledger.connection.execute("DELETE FROM pieces WHERE state = 'available'")
    with pytest.raises(StorageError, match="do not add up"):
        keyed[0].generated.held()


def test_an_export_takes_what_is_free(keyed: Pair, key: np.ndarray, directory: Path) -> None:
    store = keyed[0]
    assert taken(store, SET_ASIDE + 100, 50, "s1") == packed(key[SET_ASIDE + 100 : SET_ASIDE + 150])
    rest = np.concatenate([key[SET_ASIDE : SET_ASIDE + 100], key[SET_ASIDE + 150 :]])
    assert store.export_key(directory / "key") == rest.size
    assert (directory / "key").read_bytes() == packed(rest)
    with pytest.raises(StorageError, match="no bit of this key is free"):
        store.export_key(directory / "second")
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


def test_taking_takes_as_long_however_many_ranges_were_taken(keyed: Pair) -> None:
    """Counted in steps of SQLite's virtual machine."""
    store = keyed[0]
    places = itertools.count(SET_ASIDE, 8)

    def steps() -> int:
        count = 0

        def step() -> None:
            nonlocal count
            count += 1

        store._ledger.connection.set_progress_handler(step, 1)
        taken(store, next(places), 8, "s1")
        store._ledger.connection.set_progress_handler(None, 0)
        return count

    taken(store, next(places), 8, "s1")
    few = steps()
    for _ in range(100):
        taken(store, next(places), 8, "s1")
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
    taken(store, SET_ASIDE, 8, "s1")
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
for first_bit in range(int(sys.argv[2]), store.generated.lengths()[0][1] - 96, 97):
    try:
        with store.generated.change():
            bits = store.generated.take("s1", first_bit, 97)
    except InsufficientKeyError:
        continue
    print(first_bit, "".join(map(str, bits)), flush=True)
"""


def test_two_processes_never_get_overlapping_pieces(keyed: Pair, key: np.ndarray) -> None:
    """Both want every range."""
    path = keyed[0].path
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(path), str(SET_ASIDE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for racer in racers:
        assert racer.stdout is not None and racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    lines = [line for racer in racers for line in racer.communicate(timeout=300)[0].splitlines()]
    starts = sorted(int(line.split()[0]) for line in lines)
    assert starts == [SET_ASIDE + 97 * number for number in range((KEY_BITS - SET_ASIDE) // 97)]
    for line in lines:
        start, bits = int(line.split()[0]), line.split()[1]
        assert bits == "".join(map(str, key[start : start + 97]))
