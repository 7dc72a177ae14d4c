"""The next initial key from the last generated one: alike on both nodes, each set of pads once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from diqkd.cli import main
from diqkd_postproc.files import replace_atomically
from diqkd_postproc.key_store import PAD_NAMES, PAD_SET_BITS, PAD_SETS, SEED_NAMES, KeyReuseError, KeyStore
from diqkd_postproc.protocol.errors import InsufficientKeyError, LocalProtocolError, StorageError
from diqkd_postproc.session.journal import SessionJournal, journal_path
from diqkd_postproc.session.result_file import result_path
from tests.support.example_stores import make_key, make_parameters, packed, random_key

Pair = tuple[KeyStore, KeyStore]


def test_the_next_initial_key_has_the_same_seeds_and_new_pads(pair: Pair) -> None:
    alice, bob = pair
    key = random_key(5000)
    first_id, seeds = alice.key_id, [alice.peek_seed(name) for name in SEED_NAMES]
    for store in pair:
        make_key(store, "s1", key)
    assert alice.renew() == bob.renew() == alice.key_id == bob.key_id != first_id
    assert alice.key_ids == bob.key_ids == (first_id, alice.key_id)
    for store in pair:
        assert [store.peek_seed(name) for name in SEED_NAMES] == seeds
        pads = b"".join(store.consume(name, "s2", b"m") for name in PAD_NAMES)
        assert pads == packed(key[:PAD_SET_BITS])
        with pytest.raises(KeyReuseError):
            store.consume("pad_a", "s1", b"message")
        assert store.balance_sheet().generated == 0 and store.balance_sheet("s1").generated == 5000
        assert store.balance_sheet("s1").net_gain == 5000 - 256
        make_key_of_second = random_key(1500, seed=2)
        with pytest.raises(KeyReuseError):
            store.activate("s3", make_key_of_second)
        store.activate("s2", make_key_of_second)
        assert [held.num_bits for held in store.generated.held()] == [5000, 1500]
        assert store.k1_bits == store.k0_bits - 256 + 1500
        with pytest.raises(StorageError, match="of this session"):
            store.balance_sheet("s3")


def test_aborted_sessions_use_up_what_is_set_aside(pair: Pair) -> None:
    alice, bob = pair
    key = random_key(5000)
    with pytest.raises(LocalProtocolError, match=r"pads of .* are unused"):
        alice.renew()
    alice.consume("pad_ec", "s0", b"message")
    with pytest.raises(InsufficientKeyError, match="make a new initial key"):
        alice.renew()
    for store in pair:
        make_key(store, "s0", key)
    seen = set()
    for attempt in range(PAD_SETS):
        assert alice.renew() == bob.renew()
        pads = [store.consume("pad_ec", f"abort {attempt}", b"m") for store in pair]
        assert pads[0] == pads[1] == packed(key[attempt * PAD_SET_BITS :][:64])
        seen.add(pads[0])
    assert len(seen) == PAD_SETS
    with pytest.raises(InsufficientKeyError, match="make a new initial key"):
        alice.renew()


def test_spent_sets_are_zeros_in_the_file(pair: Pair, directory: Path) -> None:
    key = random_key(5000)
    make_key(pair[0], "s1", key)
    pair[0].renew()
    pads = [pair[0].consume(name, "s2", b"m") for name in PAD_NAMES]
    content = (directory / "alice").read_bytes()
    assert all(content.count(pad) == 1 for pad in pads)
    assert packed(key[PAD_SET_BITS : 2 * PAD_SET_BITS]) in content


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def command(*arguments: object) -> tuple[int, str]:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.err if code else captured.out

    return command


def test_the_command_waits_for_the_peers_confirmation(
    pair: Pair, run: Callable[..., tuple[int, str]]
) -> None:
    store = pair[0]
    code, message = run("keys", "next", store.path)
    assert code == 1 and "are unused" in message
    make_key(store, "s1", random_key(5000))
    for result in (None, {"session_id": "s1", "peer_confirmed": False}):
        if result:
            replace_atomically(result_path(store.path, "s1"), json.dumps(result).encode())
        code, message = run("keys", "next", store.path)
        assert code == 1 and "session s1 has not ended with a key at both nodes" in message
    replace_atomically(
        result_path(store.path, "s1"), json.dumps({"session_id": "s1", "peer_confirmed": True}).encode()
    )
    code, answer = run("keys", "next", store.path, "--json")
    assert code == 0 and json.loads(answer) == {"key_id": store.key_id, "pad_sets_left": PAD_SETS - 1}
    store.consume("pad_ec", "s2", b"m")
    code, message = run("keys", "next", store.path)
    assert code == 1 and "--abandon" in message
    code, answer = run("keys", "next", store.path, "--abandon")
    assert code == 0 and store.key_id in answer and "sessions: 2" in answer


def test_the_command_leaves_a_running_session_its_pads(
    pair: Pair, run: Callable[..., tuple[int, str]]
) -> None:
    """It would end with the next pads for its own: zeros for them, and two nodes that differ."""
    store, session_id = pair[0], bytes(range(16))
    make_key(store, "earlier", random_key(5000))
    store.renew()
    journal = SessionJournal(journal_path(store.path, session_id), make_parameters(), session_id)
    store.consume("pad_b", session_id, b"round types")
    key_id = store.key_id
    code, message = run("keys", "next", store.path, "--abandon")
    assert code == 6 and "in use by another process" in message
    assert store.key_id == key_id
    journal.close()
    code, _ = run("keys", "next", store.path, "--abandon")
    assert code == 0 and store.key_id != key_id


def test_show_and_export(pair: Pair, run: Callable[..., tuple[int, str]], directory: Path) -> None:
    store = pair[0]
    assert "Generated keys" not in run("keys", "show", store.path)[1]
    make_key(store, "s1", random_key(5000))
    code, answer = run("keys", "show", store.path)
    assert code == 0 and "5,000" in answer and "3,720" in answer and "sessions: 4" in answer
    code, answer = run("keys", "export", store.path, directory / "key", "--json")
    assert json.loads(answer) == {"output": str(directory / "key"), "num_bits": 3720}
    (held,) = json.loads(run("keys", "show", store.path, "--json")[1])["keys"]
    assert (held["available"], held["reserved"], held["delivered"]) == (0, 1280, 3720)
    code, message = run("keys", "export", store.path, directory / "key")
    assert code == 6 and "no bit of this key is free" in message
