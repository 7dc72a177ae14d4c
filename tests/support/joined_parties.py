"""Correlated records of a simulated link, and two parties joined in memory, for the session's tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from diqkd_postproc.key_store import KeyReuseError, segment_sizes
from diqkd_postproc.protocol.errors import DiqkdError
from diqkd_postproc.protocol.length_rule import FreeParameters
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.records.columns import NONE
from diqkd_postproc.records.sealed_record import RoundRecord, undisturbed
from diqkd_postproc.session.computation import Computation
from diqkd_postproc.session.continuity import Past, require_one_past
from diqkd_postproc.session.engine import SessionEngine
from diqkd_postproc.session.events import (
    Aborted,
    ActivateKey,
    ConsumeKey,
    Done,
    Event,
    Failed,
    Finished,
    Need,
    Passed,
    Persist,
    Signal,
    Work,
)
from diqkd_postproc.session.messages import Role

RUN_ID = "0123456789abcdef" * 2
KEY_ID = "fedcba9876543210" * 2


FREE = FreeParameters(order_minus_one=1 << 30, loss_price=3 * 1024, test_credit=512)
VARIABLE = {
    "proof": "renyi",
    "bound": "exact",
    "extractor": "toeplitz",
    "length": "variable",
    "constant_bits": 1700,
    "free_parameters": FREE,
    "key_bits": 400,
}
"""Fields of a run whose key length follows from public counts."""


def small_parameters(num_rounds: int = 2000, **changes: object) -> ProtocolParameters:
    """Parameters of a run too small for a proof: the session does not care where they come from."""
    fields: dict[str, object] = {
        "num_rounds": num_rounds,
        "test_numerator": 32,
        "test_bits": 8,
        "omega_threshold": 0.75,
        "syndrome_bits": 3 * num_rounds // 4,
        "key_bits": 40,
        "soundness_error": 1e-6,
        "one_bit_error": 1e-6,
        "design_chsh_score": 2.64,
        "design_qber": 0.02,
    }
    return ProtocolParameters.model_validate(fields | changes)


def correlated_records(
    parameters: ProtocolParameters,
    *,
    chsh_score: float = 2.7,
    qber: float = 0.015,
    seed: int = 1,
    run_id: str = RUN_ID,
) -> tuple[RoundRecord, RoundRecord]:
    """Alice's and Bob's records of a link with the honest model of SI section S5."""
    rng = np.random.default_rng(seed)
    n = parameters.num_rounds
    is_test = rng.random(n) < float(parameters.gamma)
    x = np.where(is_test, rng.integers(0, 2, n), 0).astype(np.uint8)
    y = np.where(is_test, rng.integers(0, 2, n), 2).astype(np.uint8)
    alice = rng.integers(0, 2, n).astype(np.uint8)
    wrong = rng.random(n) < np.where(is_test, (4 - chsh_score) / 8, qber)
    bob = (alice ^ wrong ^ (is_test & (x == 1) & (y == 1))).astype(np.uint8)
    token = rng.integers(0, 2, n).astype(np.uint8)
    pattern = rng.choice(np.array([0b0011, 0b0101, 0b1010, 0b1100], dtype=np.uint8), n)

    def record(role: str, setting: npt.NDArray[np.uint8], outcome: npt.NDArray[np.uint8]) -> RoundRecord:
        return RoundRecord(
            role=role,
            parameters=parameters,
            run_id=run_id,
            setting=setting,
            outcome=outcome,
            **undisturbed(is_test.astype(np.uint8), token),
            herald_pattern=pattern,
            timestamp_mu=np.arange(n, dtype=np.int64),
            lost=np.zeros(n, dtype=np.uint8),
        )

    return record("alice", x, alice), record("bob", y, bob)


def lose_late(
    pair: tuple[RoundRecord, RoundRecord], first: int, count: int
) -> tuple[RoundRecord, RoundRecord]:
    """Records after Alice's node has lost the outcomes of these rounds, of which it never had the type."""
    lost = slice(first, first + count)
    changed = []
    for record in pair:
        names = ["late_loss", "received_type"] + ["outcome", "setting", "lost"] * (record.role == "alice")
        columns = {name: getattr(record, name).copy() for name in names}
        for name, column in columns.items():
            column[lost] = {"late_loss": 1, "lost": 1, "received_type": NONE}.get(name, 0)
        changed.append(replace(record, **columns))
    return changed[0], changed[1]


class MemoryLedger:
    """What a session needs of a key store, without a disk: the real one has tests of its own."""

    def __init__(self, parameters: ProtocolParameters, seed: int = 7) -> None:
        rng = np.random.default_rng(seed)
        self.key_id = KEY_ID
        self.segments = {name: rng.bytes((size + 7) // 8) for name, size in segment_sizes(parameters).items()}
        self.bindings: dict[str, bytes] = {}
        self.key: npt.NDArray[np.uint8] | None = None
        self.epoch = 0

    def peek_seed(self, name: str) -> bytes:
        return self.segments[name]

    def consume(self, name: str, session_id: str, message_digest: bytes) -> bytes:
        if self.bindings.setdefault(name, message_digest) != message_digest:
            raise KeyReuseError(f"{name} was consumed for another message")
        self.epoch = len(self.bindings)
        return self.segments[name]

    def activate(self, session_id: str, key_bits: npt.NDArray[np.uint8]) -> None:
        self.key = np.array(key_bits)


@dataclass
class Party:
    """One side: an engine whose work and effects are done at once."""

    role: Role
    record: RoundRecord
    ledger: MemoryLedger
    journal: list[Persist] = field(default_factory=list)
    error: DiqkdError | None = None
    stop_before: Callable[[Event], bool] | None = None
    epoch: int = 0
    performed: list[Work] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """A new process: everything but journal, record and ledger is forgotten."""
        self.error = None
        self.killed = False
        self.performed.clear()
        self.over: Finished | Aborted | None = None
        past = Past(frozenset(self.ledger.bindings), self.ledger.key is not None)  # type: ignore[arg-type]
        try:
            parts = len(self.record.parameters.syndrome_totals)
            require_one_past(self.role, self.journal, past, Path("journal"), Path("keys"), parts)
        except DiqkdError as error:
            self.error = error
        self.engine = SessionEngine(
            self.role,
            self.record.parameters,
            self.ledger.key_id,
            self.record.run_id,
            self.journal,
            self.ledger.key is not None,
            self.epoch,
        )
        self.computation = Computation(
            self.engine, self.record, self.ledger, self.record.parameters, lambda *_: None
        )

    @property
    def running(self) -> bool:
        return self.over is None and self.error is None and not self.killed

    def turn(self) -> bool:
        """Handle one event; False when it waits for the peer or has ended."""
        if not self.running:
            return False
        try:
            event = self.engine.next_event()
            if isinstance(event, Signal):
                assert event is Signal.NEED_DATA
                return False
            if self.stop_before is not None and self.stop_before(event):
                self.killed = True
                return False
            self._handle(event)
        except DiqkdError as error:
            self.error = error
        return True

    def _handle(self, event: Event) -> None:
        engine = self.engine
        if isinstance(event, Need):
            self.performed.append(event.work)
            if event.work is Work.EXTRACT:
                self._know_outcomes()
            result = Done() if event.work is Work.EXTRACT else self.computation.perform(event.work)
            if isinstance(result, Done | Passed | Failed):
                engine.answer(result)
            else:
                engine.send(result)
        elif isinstance(event, Persist):
            self.journal.append(event)
            engine.acknowledge(event)
        elif isinstance(event, ConsumeKey):
            self.computation.consume_pad(event.segment)
            engine.acknowledge(event)
        elif isinstance(event, ActivateKey):
            self._know_outcomes()
            key = self.computation.extract()[: self.computation.key_bits]
            self.ledger.activate(engine.session_id.hex(), key)
            engine.acknowledge(event)
        elif isinstance(event, Finished | Aborted):
            self.over = event

    def _know_outcomes(self) -> None:
        if not self.computation.outcomes_are_known:
            self.computation.perform(Work.DECODE)
        self.computation.consume_pad("pad_ec")


Change = Callable[[str, bytes], bytes]


def converse(alice: Party, bob: Party, change: Change = lambda _, data: data) -> list[tuple[str, bytes]]:
    """Run both until neither moves; `change` is the adversary. What was sent, by sender."""
    sent: list[tuple[str, bytes]] = []
    moved = True
    while moved:
        moved = False
        for sender, receiver in ((alice, bob), (bob, alice)):
            while sender.turn():
                moved = True
            data = sender.engine.data_to_send() if not sender.killed else b""
            if data:
                moved = True
                sent.append((sender.role, data))
                try:
                    if changed := change(sender.role, data):
                        receiver.engine.receive_data(changed)
                except DiqkdError as error:
                    receiver.error = receiver.error or error
    return sent


def two_parties(parameters: ProtocolParameters | None = None, **link: float) -> tuple[Party, Party]:
    """Alice and Bob with fresh, matching ledgers."""
    parameters = parameters or small_parameters()
    alice, bob = correlated_records(parameters, **link)
    return (
        Party("alice", alice, MemoryLedger(parameters)),
        Party("bob", bob, MemoryLedger(parameters)),
    )


def assert_no_key(*parties: Party) -> None:
    """No party has activated a key."""
    assert all(party.ledger.key is None for party in parties)


def assert_same_key(alice: Party, bob: Party) -> None:
    """Both parties have the same key."""
    assert alice.ledger.key is not None and bob.ledger.key is not None
    assert np.array_equal(alice.ledger.key, bob.ledger.key)
