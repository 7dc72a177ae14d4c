"""Numerics and secrets of one party, which carry out the work and the effects that the engine requests.

`perform` may run in a worker thread; `consume_pad`, which writes the key store, belongs to the thread of the
key store. The engine requests one thing at a time; only the extraction runs beside it.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import threading
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from diqkd_postproc.authentication import one_time_tag, verify
from diqkd_postproc.key_store import KeyStore
from diqkd_postproc.privacy_amplification import extractor_for
from diqkd_postproc.protocol.errors import (
    DiqkdError,
    LocalProtocolError,
    ParameterError,
    RemoteProtocolError,
)
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.reconciliation import DecodeResult, NestedCode, decode, nested_code_for
from diqkd_postproc.records.order_losses import late_losses, lost_by_order
from diqkd_postproc.records.sealed_record import RoundRecord
from diqkd_postproc.session.engine import SessionEngine
from diqkd_postproc.session.events import Answer, Done, Failed, Pad, Passed, Work
from diqkd_postproc.session.messages import (
    BasisRevelation,
    BitString,
    Confirmation,
    Decision,
    Increment,
    Message,
    OutcomeHash,
    Reconciled,
    RoundTypesTag,
    Syndrome,
    SyndromeRequest,
    increment_bits,
)
from diqkd_postproc.session.tagged_content import TaggedContent

Bits = npt.NDArray[np.uint8]
_M = TypeVar("_M", bound=Message)


class ProgressReporter(Protocol):
    """Receives stage, done and total; called from worker threads too."""

    def __call__(self, stage: str, done: float, total: float = 1.0) -> None: ...


class ComputationStoppedError(DiqkdError):
    """The computation was cancelled."""


def count_losses(
    alice: Bits, bob: Bits, x: Bits, y: Bits, lost_by_order: npt.NDArray[np.bool_] | None = None
) -> int:
    """Lost rounds, of (n,) arrays: A xor B != x y where y < 2 (SI S4, steps 6 and 8), or lost by order.

    lost_by_order: rounds that count as lost whatever was measured, tests and key rounds (docs/order.md).
    """
    lost = (y < 2) & ((alice ^ bob) != (x & y))
    if lost_by_order is not None:
        lost = lost | lost_by_order
    return int(np.count_nonzero(lost))


def noisy_copy(bob: Bits, x: Bits, y: Bits) -> Bits:
    """Bob's best guess of Alice's outcomes: his own, flipped in test rounds with x = y = 1."""
    flipped: Bits = bob ^ ((x == 1) & (y == 1)).astype(np.uint8)
    return flipped


def percent_repaired(report: Callable[[int, int], None]) -> Callable[[int, int], None]:
    """The decoder's progress, as percent of the checks that its first iteration has left violated.

    The counts would disclose how many errors there were, and progress is shown to anybody.
    """
    first: list[int] = []

    def repaired(unsatisfied: int, total: int) -> None:
        first.append(unsatisfied)
        report(max(0, 100 - 100 * unsatisfied // max(1, first[0])), 100)

    return repaired


class Computation:
    """The work of one party in one session."""

    def __init__(
        self,
        engine: SessionEngine,
        record: RoundRecord,
        key_store: KeyStore,
        parameters: ProtocolParameters,
        progress: ProgressReporter,
    ) -> None:
        self.stop = threading.Event()
        self.decode_iterations: int | None = None
        self._engine = engine
        # Copies: compiled kernels take writable arrays only, a record's are not.
        self._outcome, self._setting = record.outcome.copy(), record.setting.copy()
        self._round_type = record.round_type.copy()
        self._lost_by_order = lost_by_order(record)
        self._outcome_lost = record.lost == 1
        self._num_tests = int(np.count_nonzero(record.round_type))
        self._num_late_losses = int(np.count_nonzero(late_losses(record)))
        self._key_store = key_store
        self._parameters = parameters
        self._progress = progress
        self._hash_seed = key_store.peek_seed("hash_seed")
        self._extractor_seed = key_store.peek_seed("extractor_seed")
        self._content = TaggedContent(
            session_id=engine.session_id,
            key_id=engine.key_id,
            run_id=record.run_id,
            epochs=engine.epochs,
            parameters=parameters,
            exchanged=record.exchanged,
        )
        self._pads: dict[Pad, bytes] = {}
        self._code_lock = threading.Lock()
        self._reconstruction: DecodeResult | None = None
        self._increments_used = 0
        self._whole_syndrome: Bits | None = None
        self._handlers: Mapping[Work, Callable[[], Message | Answer]] = {
            Work.SETTINGS: self._settings,
            Work.SYNDROME: self._syndrome,
            Work.OUTCOME_HASH: lambda: OutcomeHash(tag=self._tag("pad_ec")),
            Work.DECODE: self._decode,
            Work.ATTEMPT: self._attempt,
            Work.REQUEST: lambda: SyndromeRequest(number=engine.increments_held + 1),
            Work.INCREMENT: self._increment,
            Work.RECONCILED: Reconciled,
            Work.VALIDATE: self._validate,
            Work.COUNT_LOSSES: self._count_losses,
            Work.ROUND_TYPES_TAG: lambda: RoundTypesTag(tag=self._tag("pad_b")),
            Work.CHECK_ROUND_TYPES: lambda: self._check("pad_b"),
            Work.CONFIRMATION: lambda: Confirmation(tag=self._tag("pad_a")),
            Work.CHECK_CONFIRMATION: lambda: self._check("pad_a"),
            Work.DECISION: self._decision,
            Work.CHECK_DECISION: self._check_decision,
        }

    def __repr__(self) -> str:
        return f"Computation({self._engine.role})"

    def prepare(self) -> None:
        """Construct the syndrome code in a thread of its own; it needs nothing of the peer and takes a while.

        The thread is a daemon: a session that fails early does not wait for it. An error shows again where
        the code is used.
        """

        def construct() -> None:
            with contextlib.suppress(Exception):
                self._code()

        threading.Thread(target=construct, name="diqkd-syndrome-code", daemon=True).start()

    def perform(self, work: Work) -> Message | Answer:
        """Do the work; the result is what the engine wants to be sent or answered."""
        return self._handlers[work]()

    def consume_pad(self, pad: Pad) -> None:
        """Consume a pad for the message it protects; on the receiving side, for the tag to be checked.

        Raises KeyReuseError if it was consumed for another message: then the outcomes, the record or the
        peer's messages are not those of the interrupted session. The digest is keyed, because the ledger
        keeps it in the clear and that of `pad_ec` depends on the outcomes.
        """
        digest = hmac.new(self._hash_seed, self._protected(pad), hashlib.sha256)
        if (tag := self._received_tag(pad)) is not None:
            digest.update(tag)
        self._pads[pad] = self._key_store.consume(pad, self._engine.session_id.hex(), digest.digest())

    @property
    def key_bits(self) -> int:
        """l: fixed, or as the decision of this session says; 0 before that."""
        variable = self._parameters.length == "variable"
        return self._engine.key_bits if variable else self._parameters.key_bits

    @property
    def extracts_early(self) -> bool:
        """Whether the extractor can work before l is known.

        Toeplitz: the first l rows of the matrix with `key_bits` rows. Trevisan's design is that of l itself.
        """
        return self._parameters.length == "fixed" or self._parameters.extractor == "toeplitz"

    def extract(self) -> Bits:
        """uint8: the key, or for Toeplitz the longest of which it is the beginning; the outcomes have to be
        known."""
        early = self.extracts_early
        extractor = extractor_for(self._parameters, None if early else self.key_bits)
        packed = np.frombuffer(self._extractor_seed, dtype=np.uint8)
        seed = np.unpackbits(packed, count=extractor.seed_bits)
        return extractor.extract(self._outcomes(), seed, progress=self._reporter("privacy amplification"))

    @property
    def outcomes_are_known(self) -> bool:
        """Whether Alice's outcomes are here: always on her side, after decoding on Bob's."""
        return self._engine.role == "alice" or self._reconstruction is not None

    @property
    def num_losses(self) -> int | None:
        """Lost test rounds, where this side has counted them; private until the protocol has ended."""
        if self._engine.key_bits:
            return self._engine.num_losses
        return None if self._reconstruction is None else self._lost_rounds()

    @property
    def num_order_losses(self) -> int:
        """Rounds that are lost whatever was measured in them, as far as this side's record tells; public."""
        return int(np.count_nonzero(self._lost_by_order))

    @property
    def most_losses(self) -> int:
        """Most lost rounds that make a key of this record."""
        rule = self._parameters.length_rule
        if rule is None:
            return self._parameters.max_losses
        return rule.most_losses(self._num_tests, self._num_late_losses, self.syndrome_sent)

    @property
    def syndrome_sent(self) -> int:
        """m_j: bits of the syndrome that Alice has ever sent."""
        return self._parameters.syndrome_totals[self._engine.increments_held - 1]

    def _reporter(self, stage: str) -> Callable[[int, int], None]:
        def report(done: int, total: int) -> None:
            if self.stop.is_set():
                raise ComputationStoppedError("the computation was interrupted")
            self._progress(stage, done, total)

        return report

    def _message(self, kind: type[_M]) -> _M:
        for message in self._engine.messages.values():
            if isinstance(message, kind):
                return message
        raise LocalProtocolError(f"there is no {kind.__name__} yet")

    def _peer_settings(self) -> Bits:
        revealed = self._message(BasisRevelation)
        return np.unpackbits(np.frombuffer(revealed.packed, dtype=np.uint8), count=revealed.num_bits)

    def _outcomes(self) -> Bits:
        if self._engine.role == "alice":
            return self._outcome
        if self._reconstruction is None:
            raise LocalProtocolError("the outcomes have not been reconstructed yet")
        return self._reconstruction.bits

    def _lost_rounds(self) -> int:
        return count_losses(
            self._outcomes(), self._outcome, self._peer_settings(), self._setting, self._lost_by_order
        )

    def _protected(self, pad: Pad) -> bytes:
        if pad == "pad_ec":
            return self._content.outcomes(self._outcomes())
        if pad == "pad_b":
            return self._content.round_types()
        if pad == "pad_f":
            engine = self._engine
            return self._content.decision(engine.verdict, engine.num_losses, engine.key_bits)
        return self._content.confirmation(
            self._message(BasisRevelation),
            self._message(Syndrome),
            self._message(OutcomeHash),
            self._increments(),
        )

    def _received_tag(self, pad: Pad) -> bytes | None:
        kinds: dict[tuple[str, Pad], type[OutcomeHash | RoundTypesTag | Confirmation | Decision]] = {
            ("bob", "pad_ec"): OutcomeHash,
            ("alice", "pad_b"): RoundTypesTag,
            ("bob", "pad_a"): Confirmation,
            ("alice", "pad_f"): Decision,
        }
        kind = kinds.get((self._engine.role, pad))
        return None if kind is None else self._message(kind).tag

    def _tag(self, pad: Pad) -> bytes:
        return one_time_tag(self._hash_seed, self._pads[pad], self._protected(pad))

    def _check(self, pad: Pad) -> Answer:
        tag = self._received_tag(pad)
        if tag is None:
            raise LocalProtocolError(f"this side sends the tag under {pad}, it does not check it")
        good = verify(self._hash_seed, self._pads[pad], self._protected(pad), tag)
        return Passed() if good else Failed()

    def _settings(self) -> BasisRevelation:
        packed = np.packbits(self._setting).tobytes()
        return BasisRevelation(num_bits=self._parameters.num_rounds, packed=packed)

    def _code(self) -> NestedCode:
        with self._code_lock:
            return nested_code_for(self._parameters)

    def _syndrome_part(self, number: int) -> bytes:
        """Bits m_{j-1} to m_j of the syndrome, packed, j = number."""
        if self._whole_syndrome is None:
            self._whole_syndrome = self._code().syndrome(self._outcome, self._round_type)
        ends = (0, *self._parameters.syndrome_totals)
        return np.packbits(self._whole_syndrome[ends[number - 1] : ends[number]]).tobytes()

    def _syndrome(self) -> Syndrome:
        return Syndrome(
            num_bits=self._parameters.syndrome_bits,
            packed=self._syndrome_part(1),
            code_digest=bytes.fromhex(self._code().digest),
        )

    def _increment(self) -> Increment:
        number = self._engine.increments_held + 1
        bits = increment_bits(self._parameters)[number]
        return Increment(num_bits=bits, packed=self._syndrome_part(number), number=number)

    def _increments(self) -> list[Increment]:
        """What was sent of the syndrome after its first part."""
        found = [m for m in self._engine.messages.values() if isinstance(m, Increment)]
        return sorted(found, key=lambda increment: increment.number)

    def _attempt(self) -> Answer:
        self._decode()
        assert self._reconstruction is not None
        return Passed() if self._reconstruction.converged else Failed()

    def _decode(self) -> Done:
        """Reconstruct from the syndrome received up to now, unless that was done."""
        held = self._engine.increments_held
        if self._reconstruction is not None and self._increments_used == held:
            return Done()
        parameters, syndrome, code = self._parameters, self._message(Syndrome), self._code()
        if syndrome.code_digest != bytes.fromhex(code.digest):
            raise ParameterError(
                f"the syndrome is of code {syndrome.code_digest.hex()[:16]}, this side constructs "
                f"{code.digest[:16]}: the two versions of diqkd differ, or the message was changed; "
                "install here the version that Alice has and start both sides again: the session goes on"
            )
        settings = self._peer_settings()
        # In the other basis than Alice's, and where he has no outcome, Bob knows nothing of hers.
        other_basis = (self._setting >= 2) & (settings != self._setting - 2)
        parts: list[BitString] = [syndrome, *self._increments()]
        bits = [np.unpackbits(np.frombuffer(p.packed, dtype=np.uint8), count=p.num_bits) for p in parts]
        sent = np.concatenate(bits)
        noisy = noisy_copy(self._outcome, settings, self._setting)
        ends = parameters.syndrome_totals
        for part in range(self._increments_used, held):  # after a restart all of them, to the same word
            before = self._reconstruction
            result = decode(
                code.at(ends[part]),
                code.checks(sent[: ends[part]]),
                noisy,
                self._round_type,
                qber=parameters.design_qber,
                test_error=parameters.design_test_error,
                second_basis=settings == 1,
                second_qber=parameters.design_second_qber,
                erased=self._outcome_lost | other_basis,
                progress=percent_repaired(self._reporter("error correction")),
                start=None if before is None else before.messages,
                can_extend=part + 1 < len(ends),
            )
            self._reconstruction = result
            self.decode_iterations = (self.decode_iterations or 0) + result.iterations
            if result.converged:
                break
        self._increments_used = held
        return Done()

    def _validate(self) -> Answer:
        converged = self._reconstruction is not None and self._reconstruction.converged
        checked = self._check("pad_ec")
        return checked if converged else Failed()

    def _count_losses(self) -> Answer:
        num_losses, rule = self._lost_rounds(), self._parameters.length_rule
        if rule is None:
            within = num_losses <= self._parameters.max_losses
            return Passed() if within else Failed(num_losses=num_losses)
        key_bits = self._length(num_losses)
        if key_bits == 0:
            return Failed(num_losses=num_losses)
        return Passed(num_losses=num_losses, key_bits=key_bits) if rule.length == "variable" else Passed()

    def _length(self, num_losses: int) -> int:
        """l by the rule, 0 for no key."""
        rule = self._parameters.length_rule
        assert rule is not None
        counts = (num_losses, self._num_tests, self._num_late_losses)
        return rule.key_bits(*counts, self.syndrome_sent)

    def _check_decision(self) -> Answer:
        checked, announced = self._check("pad_f"), self._engine.key_bits
        if isinstance(checked, Passed) and announced and announced != self._length(self._engine.num_losses):
            raise RemoteProtocolError(
                f"Bob announces a key of {announced} bits, {self._length(self._engine.num_losses)} follow "
                "from his own counts; the two versions of diqkd differ"
            )
        return checked

    def _decision(self) -> Decision:
        engine = self._engine
        counts = {"num_losses": engine.num_losses, "key_bits": engine.key_bits}
        return Decision(verdict=engine.verdict, **counts, tag=self._tag("pad_f"))
