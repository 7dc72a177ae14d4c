"""Key ids and the halves of the keys: what is issued is delivered once, what was not issued never."""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diqkd_postproc.authentication import one_time_tag
from diqkd_postproc.delivery import key_ids
from diqkd_postproc.delivery.data_formats import Key
from diqkd_postproc.delivery.key_halves import KeyHalves, KeyRequest
from diqkd_postproc.delivery.key_ids import MAX_KEY_BITS, PAD_BITS, Place
from diqkd_postproc.delivery.refusals import BadRequest, Unauthorized
from diqkd_postproc.key_store import KeyStore, delivery_halves
from diqkd_postproc.protocol.errors import DiqkdError, InsufficientKeyError, StorageError
from diqkd_postproc.protocol.roles import ROLES, other
from tests.support.delivery_trial import make_stores

SESSION = "session-1"
NUM_BITS = 8000
HALVES = delivery_halves(NUM_BITS)
MASTER, SLAVE = "sae-alice", "sae-bob"


class Node:
    """One node's store and halves; `restart` is what a kill leaves."""

    def __init__(self, folder: Path, role: str) -> None:
        self.path, self.role = folder / f"{role}.sqlite", role
        self.open()

    def open(self) -> None:
        self.store = KeyStore.open(self.path)
        self.halves = KeyHalves(self.store.generated, self.role)

    def restart(self) -> None:
        self.store.close()
        self.open()

    def ask(self, **request: object) -> tuple[Key, ...] | DiqkdError:
        (outcome,) = self.halves.serve([KeyRequest(**{"master": MASTER, "slave": SLAVE, **request})])
        return outcome

    def issue(self, number: int = 1, size: int = 128, **owners: str) -> tuple[Key, ...]:
        keys = self.ask(number=number, size=size, **owners)
        assert isinstance(keys, tuple)
        return keys

    def delivered_ranges(self) -> list[tuple[int, int]]:
        rows = self.store.generated._ledger.rows(
            "SELECT first_bit, first_bit + num_bits FROM pieces WHERE state = 'delivered' ORDER BY first_bit"
        )
        return [(first, end) for first, end in rows]


@pytest.fixture
def bits(folder: Path) -> np.ndarray:
    return np.unpackbits(np.frombuffer(make_stores(folder, NUM_BITS), np.uint8))[:NUM_BITS]


@pytest.fixture
def nodes(folder: Path, bits: np.ndarray) -> Iterator[dict[str, Node]]:
    both = {role: Node(folder, role) for role in ROLES}
    yield both
    for node in both.values():
        node.store.close()


def place_of(key_id: str) -> tuple[int, int]:
    """(first bit, size) of an id."""
    decoded = key_ids.decode(key_id)
    assert decoded is not None
    return decoded[1], decoded[2]


@settings(max_examples=100)
@given(
    st.integers(0, (1 << 29) - 1),
    st.integers(1, MAX_KEY_BITS // 8),
    st.binary(min_size=8, max_size=8),
    st.text(),
)
def test_an_id_is_a_uuid_of_version_8_and_says_where_its_key_is(
    first_byte: int, size: int, tag: bytes, session: str
) -> None:
    place = Place(role="alice", session_id=session, first_bit=8 * first_byte, size=8 * size)
    parsed = uuid.UUID(key_ids.encode(place, tag))
    assert (parsed.version, parsed.variant) == (8, uuid.RFC_4122)
    assert key_ids.decode(str(parsed)) == (key_ids.session_name(session), 8 * first_byte, 8 * size, tag)


def test_ids_of_other_kinds_name_nothing() -> None:
    assert key_ids.decode(str(uuid.uuid4())) is None
    assert key_ids.decode("00000000-0000-8000-0000-000000000000") is None, "another variant"


def test_what_the_tag_covers_is_unambiguous() -> None:
    place = Place(role="bob", session_id="s", first_bit=8, size=16)
    assert json.loads(key_ids.tagged_content(place, "a", "b")) == [
        "diqkd key id 1",
        "bob",
        "s",
        8,
        16,
        "a",
        "b",
    ]


@pytest.mark.parametrize("num_bits", [0, 256, 1023, 1024, 1031, 8000, 95_884])
def test_the_halves_tile_what_is_not_set_aside(num_bits: int) -> None:
    (start, middle), (again, end) = delivery_halves(num_bits)["alice"], delivery_halves(num_bits)["bob"]
    assert start <= middle == again <= end == num_bits and (middle - start) % 8 == 0
    assert 0 <= (end - middle) - (middle - start) < 16
    assert start in (num_bits, 512, 1280), "behind pads and delivery seed, nothing where there is no seed"


def test_each_role_issues_from_its_half_in_order(nodes: dict[str, Node], bits: np.ndarray) -> None:
    for role, node in nodes.items():
        keys = [*node.issue(number=2), *node.issue(size=256)]
        at = HALVES[role][0]
        for key, size in zip(keys, (128, 128, 256), strict=True):
            assert place_of(key.key_id) == (at, size)
            assert key.key == np.packbits(bits[at + PAD_BITS : at + PAD_BITS + size]).tobytes()
            at += PAD_BITS + size
        assert node.delivered_ranges() == [(HALVES[role][0], at)], "one row, however many keys have left"


def test_a_tag_is_that_of_its_place_and_owners_under_the_pad_before_the_key(
    nodes: dict[str, Node], bits: np.ndarray
) -> None:
    seed = nodes["alice"].store.generated.delivery_seed(SESSION)
    (key,) = nodes["bob"].issue(master="sae-x", slave="sae-y")
    first = HALVES["bob"][0]
    pad = np.packbits(bits[first : first + PAD_BITS]).tobytes()
    content = json.dumps(["diqkd key id 1", "bob", SESSION, first, 128, "sae-x", "sae-y"]).encode()
    decoded = key_ids.decode(key.key_id)
    assert decoded is not None and decoded[3] == one_time_tag(seed, pad, content)


def test_a_key_is_delivered_once_and_to_the_right_slave_only(nodes: dict[str, Node]) -> None:
    for role in ROLES:
        master, slave = nodes[role], nodes[other(role)]
        first, second, third = master.issue(number=3)
        ids = (third.key_id, first.key_id)
        for owners in ({"slave": "thief"}, {"master": "thief"}, {"master": SLAVE, "slave": MASTER}):
            assert isinstance(slave.ask(key_ids=ids, **owners), Unauthorized)
        assert isinstance(master.ask(key_ids=ids), BadRequest), "it has left this node already"
        assert slave.ask(key_ids=ids) == (third, first)
        assert isinstance(slave.ask(key_ids=ids), BadRequest)
        assert isinstance(slave.ask(key_ids=(second.key_id, first.key_id)), BadRequest), "all or none"
        assert slave.ask(key_ids=(second.key_id,)) == (second,)
    assert nodes["alice"].delivered_ranges() == nodes["bob"].delivered_ranges()


def forgeries(key_id: str) -> Iterator[str]:
    """The id with every field changed, one after the other: each bit of it, other sizes, other places."""
    number = uuid.UUID(key_id).int
    for bit in range(128):
        yield str(uuid.UUID(int=number ^ 1 << bit))
    name, first, size, tag = key_ids.decode(key_id) or (0, 0, 0, b"")
    assert name == key_ids.session_name(SESSION)
    for changed in (8, 64, 120, 136, 256):
        yield key_ids.encode(Place(role="alice", session_id=SESSION, first_bit=first, size=changed), tag)
    for by in (-64, -8, 8, PAD_BITS, 192):
        yield key_ids.encode(Place(role="alice", session_id=SESSION, first_bit=first + by, size=size), tag)


@pytest.mark.parametrize("fetched_first", [False, True])
def test_no_changed_id_delivers_anything(nodes: dict[str, Node], fetched_first: bool) -> None:
    """Also not where it names bits of a key whose holder tries, or the same place with another size."""
    first, second = nodes["alice"].issue(number=2)
    bob = nodes["bob"]
    if fetched_first:
        assert bob.ask(key_ids=(first.key_id,)) == (first,)
    before = bob.delivered_ranges()
    for key_id in {*forgeries(first.key_id), *forgeries(second.key_id)} - {first.key_id, second.key_id}:
        outcome = bob.ask(key_ids=(key_id,))
        assert isinstance(outcome, (BadRequest, Unauthorized)), key_id
    assert bob.delivered_ranges() == before
    assert bob.ask(key_ids=(second.key_id,)) == (second,)


def test_sessions_with_the_same_name_are_told_apart_by_the_tag(folder: Path) -> None:
    """16 bits name a session in an id; two with the same ones are both tried."""
    names: dict[int, str] = {}
    for number in itertools.count():
        session = f"session-{number}"
        twin = names.setdefault(key_ids.session_name(session), session)
        if twin != session:
            break
    make_stores(folder, NUM_BITS, sessions=(twin, session))
    alice, bob = (Node(folder, role) for role in ROLES)
    per_key = (HALVES["alice"][1] - HALVES["alice"][0]) // (PAD_BITS + 1024)
    keys = [alice.issue(size=1024)[0] for _ in range(2 * per_key)]
    assert [place_of(key.key_id)[0] for key in keys[:per_key]] == [
        place_of(k.key_id)[0] for k in keys[per_key:]
    ]
    for key in reversed(keys):
        assert bob.ask(key_ids=(key.key_id,)) == (key,)
    for node in (alice, bob):
        node.store.close()


def test_a_request_gets_all_of_its_keys_or_none(nodes: dict[str, Node]) -> None:
    alice = nodes["alice"]
    left, most = alice.halves.counts(256)
    assert left == most == (HALVES["alice"][1] - HALVES["alice"][0]) // (PAD_BITS + 256)
    assert isinstance(alice.ask(number=most + 1, size=256), InsufficientKeyError)
    assert alice.delivered_ranges() == [] and alice.halves.counts(256) == (most, most)
    small, large = alice.halves.serve(
        [
            KeyRequest(master=MASTER, slave=SLAVE, number=most - 1, size=256),
            KeyRequest(master=MASTER, slave=SLAVE, number=2, size=256),
        ]
    )
    assert isinstance(small, tuple) and isinstance(large, InsufficientKeyError), "each for itself"
    assert alice.halves.counts(256) == (1, most)


def test_a_short_key_or_none_gives_nothing(folder: Path) -> None:
    make_stores(folder, 1000)
    node = Node(folder, "alice")
    assert node.halves.counts(64) == (0, 0) and node.halves.free_bits() == 0
    assert isinstance(node.ask(number=1, size=64), InsufficientKeyError)
    node.store.close()


class Killed(Exception):
    """The process ends here."""


def kill_at(node: Node, statement: int) -> None:
    """Let the node die at one of the statements that its store executes, BEGIN and COMMIT among them."""
    count = itertools.count(1)
    connection = node.store.generated._ledger.connection

    class Dying:
        """The connection, up to a statement."""

        def __getattr__(self, name: str) -> object:
            attribute = getattr(connection, name)
            if name not in ("execute", "executemany"):
                return attribute

            def run(*arguments: object) -> object:
                if next(count) == statement:
                    raise Killed
                return attribute(*arguments)

            return run

    node.store.generated._ledger.connection = Dying()


@pytest.mark.parametrize(("master", "victim"), [*itertools.product(ROLES, repeat=2)])
def test_a_kill_at_every_statement_delivers_nothing_twice(folder: Path, master: str, victim: str) -> None:
    """Each kill is followed by a restart and the other node's fetch of all keys that were ever given."""
    make_stores(folder, 40_000)
    given: list[Key] = []
    fetched: list[Key] = []
    for statement in itertools.count(1):
        nodes = {role: Node(folder, role) for role in ROLES}
        kill_at(nodes[victim], statement)
        killed = False
        issued: tuple[Key, ...] = ()
        try:
            issued = nodes[master].issue(number=2, size=8)
            given += issued
            keys = nodes[other(master)].ask(key_ids=tuple(key.key_id for key in issued))
            assert isinstance(keys, tuple)
            fetched += keys
        except Killed:
            killed = True
        for node in nodes.values():
            node.store.close()
        again = Node(folder, other(master))
        for key in issued:  # whatever was fetched has gone, whatever was not comes once
            outcome = again.ask(key_ids=(key.key_id,))
            assert isinstance(outcome, BadRequest) == (key in fetched)
            if isinstance(outcome, tuple):
                fetched += outcome
        again.store.close()
        if not killed:
            break
    assert statement > 8
    last = Node(folder, other(master))
    assert all(isinstance(last.ask(key_ids=(key.key_id,)), BadRequest) for key in given)
    last.store.close()
    assert len({key.key_id for key in given}) == len(given) == len(fetched)
    assert {(key.key_id, key.key) for key in fetched} == {(key.key_id, key.key) for key in given}
    starts = [place_of(key.key_id)[0] for key in given]
    assert all(later - earlier >= PAD_BITS + 8 for earlier, later in itertools.pairwise(sorted(starts)))


def test_errors_of_the_store_leave_every_key_where_it_was(nodes: dict[str, Node]) -> None:
    alice = nodes["alice"]
    alice.store.generated._ledger.connection.execute(
        "CREATE TEMP TRIGGER full BEFORE UPDATE ON blocks BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
    )
    with pytest.raises(StorageError):
        alice.issue()
    alice.store.generated._ledger.connection.execute("DROP TRIGGER full")
    assert alice.delivered_ranges() == []
    (key,) = alice.issue()
    assert nodes["bob"].ask(key_ids=(key.key_id,)) == (key,)
