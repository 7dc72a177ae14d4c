"""Two processes on one key store, killed at random: no secret bit is ever issued twice.

A hypothesis state machine sends requests (pads, keys, renewals, pieces) to two processes that hold one store
open, to one or to both at the same time, and kills a process with SIGKILL while it works. Every bit that
comes back is known by its place: generated keys are made from the name of their session. A place that is
issued for a second purpose, a wrong bit, or a book that does not balance ends the campaign with the shortest
sequence of requests that hypothesis finds.

    python -m campaigns.pad_reuse [--steps 10000] [--json]
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from campaigns.storage_workloads import PARAMETERS
from diqkd.console import ProgressDisplay
from diqkd_postproc.key_store import PAD_SET_BITS, KeyStore
from diqkd_postproc.key_store.initial_key import PAD_BITS, PAD_NAMES
from diqkd_postproc.key_store.pieces import PADS, set_aside
from diqkd_postproc.protocol.errors import DiqkdError

KEY_BITS = 2100
STEPS_A_RUN = 120
FIRST_KEY = "the initial key"


def key_of(session: str) -> np.ndarray:
    """(KEY_BITS,) the key that a session makes."""
    packed = np.frombuffer(hashlib.shake_256(session.encode()).digest(-(-KEY_BITS // 8)), dtype=np.uint8)
    return np.unpackbits(packed, count=KEY_BITS)


def first_key() -> bytes:
    """K0: 80 bits of seed, the hash seed, and pads that are known by their place too."""
    return hashlib.shake_256(FIRST_KEY.encode()).digest(400)


def answer(store: KeyStore, request: tuple[Any, ...]) -> Any:
    """What a process does for a request; bits come back packed."""
    kind, *rest = request
    if kind == "consume":
        return store.consume(*rest)
    if kind == "activate":
        return store.activate(rest[0], key_of(rest[0]))
    if kind == "renew":
        return store.renew()
    assert kind == "take"
    with store.generated.change():
        return [np.packbits(store.generated.take(*place)).tobytes() for place in rest]


def serve(path: str, requests: Connection) -> None:
    """A process that holds the store open and answers until it is killed or told to end."""
    with KeyStore.open(path) as store:
        requests.send("ready")
        while (batch := requests.recv()) is not None:
            for request in batch:
                try:
                    requests.send((True, answer(store, request)))
                except DiqkdError as error:
                    requests.send((False, type(error).__name__))


def _context() -> Any:
    """Processes that start fast where the system can, and are spawned elsewhere."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__"])  # and all that it imports
    return context


CONTEXT = _context()


class Worker:
    """One process on the store."""

    def __init__(self, path: Path) -> None:
        self._requests, theirs = CONTEXT.Pipe()
        self._process = CONTEXT.Process(target=serve, args=(str(path), theirs), daemon=True)
        self._process.start()
        theirs.close()
        assert self._requests.recv() == "ready"

    def ask(self, batch: list[tuple[Any, ...]]) -> None:
        self._requests.send(batch)

    def answer(self) -> tuple[bool, Any]:
        reply: tuple[bool, Any] = self._requests.recv()
        return reply

    def kill(self) -> list[tuple[bool, Any]]:
        """SIGKILL; what it had answered by then."""
        self._process.kill()
        self._process.join()
        answers = []
        try:
            while True:
                answers.append(self.answer())
        except (EOFError, ConnectionResetError):
            return answers
        finally:
            self._requests.close()

    def end(self) -> None:
        self._requests.send(None)
        self._process.join()
        self._requests.close()


class PadReuse(RuleBasedStateMachine):
    """Requests to two processes; the model knows for what every bit was issued."""

    statistics: ClassVar[Counter[str]] = Counter()
    report: ClassVar[Callable[[], None]] = staticmethod(lambda: None)

    @initialize()
    def create(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "private" / "keys"
        # The machine's own handle makes the first key, and from then on only reads public facts.
        self.public = KeyStore.import_initial_key(self.path, PARAMETERS, first_key(), "pair", seed_bits=80)
        for name in PAD_NAMES:
            self.public.consume(name, "0", b"1")
        self.public.activate("0", key_of("0"))
        self.workers = [Worker(self.path), Worker(self.path)]
        self.issued: dict[tuple[str, int], tuple[str, ...]] = {}
        self.epoch = 0

    def request(self, draw: st.DataObject) -> tuple[Any, ...]:
        """A request that has a chance to be granted, or one that must not be."""
        kind = draw.draw(st.sampled_from(["consume"] * 4 + ["activate", "renew"] + ["take"] * 6))
        fresh = f"{len(self.public.key_ids)} {draw.draw(st.sampled_from('ab'))}"
        session = draw.draw(st.sampled_from([self.public.current_session or fresh] * 3 + [fresh]))
        if kind == "consume":
            name, message = draw.draw(st.sampled_from(PAD_NAMES)), draw.draw(st.sampled_from([b"1", b"2"]))
            return kind, name, session, message
        if kind == "activate":
            return kind, self.public.current_session or session
        if kind == "renew":
            return (kind,)
        ranges = self.public.generated.free_ranges()
        places = []
        for _ in range(draw.draw(st.integers(1, 3))):
            session, low, high = draw.draw(st.sampled_from([*ranges, ("0", 0, KEY_BITS), ("none", 0, 9)]))
            first_bit = draw.draw(st.integers(low, high))
            places.append((session, first_bit, draw.draw(st.integers(1, 300))))
        return kind, *places

    def batch(self, draw: st.DataObject) -> list[tuple[Any, ...]]:
        return [self.request(draw) for _ in range(draw.draw(st.integers(1, 10)))]

    @rule(draw=st.data(), which=st.integers(0, 1))
    def one_asks(self, draw: st.DataObject, which: int) -> None:
        batch = self.batch(draw)
        self.workers[which].ask(batch)
        for request in batch:
            self.book(request, self.workers[which].answer())

    @rule(draw=st.data())
    def both_ask(self, draw: st.DataObject) -> None:
        batches = [self.batch(draw), self.batch(draw)]
        for worker, batch in zip(self.workers, batches, strict=True):
            worker.ask(batch)
        for worker, batch in zip(self.workers, batches, strict=True):
            for request in batch:
                self.book(request, worker.answer())

    @rule(
        draw=st.data(), which=st.integers(0, 1), num_answers=st.integers(0, 9), delay_us=st.integers(0, 999)
    )
    def one_is_killed(self, draw: st.DataObject, which: int, num_answers: int, delay_us: int) -> None:
        batches = [self.batch(draw), self.batch(draw)]
        for worker, batch in zip(self.workers, batches, strict=True):
            worker.ask(batch)
        victim, survivor = self.workers[which], self.workers[1 - which]
        answers = [victim.answer() for _ in batches[which][:num_answers]]
        end = time.perf_counter() + 1e-6 * delay_us
        while time.perf_counter() < end:
            pass
        answers += victim.kill()
        self.statistics["kills"] += 1
        for request, reply in zip(batches[which], answers, strict=False):
            self.book(request, reply)
        for request in batches[1 - which]:
            self.book(request, survivor.answer())
        self.workers[which] = Worker(self.path)

    def book(self, request: tuple[Any, ...], reply: tuple[bool, Any]) -> None:
        """Note what was issued; fail if any of it was issued before for something else."""
        self.statistics["steps"] += 1
        granted, result = reply
        self.statistics["granted" if granted else "refused"] += 1
        self.report()
        if not granted:
            return
        if request[0] == "consume":
            _, name, session, message = request
            places = self.places_of_pad(name, result)
            self.issue(places, ("pad", name, session, repr(message)))
        elif request[0] == "take":
            for (session, first_bit, num_bits), taken in zip(request[1:], result, strict=True):
                bits = np.unpackbits(np.frombuffer(taken, dtype=np.uint8), count=num_bits)
                span = slice(first_bit, first_bit + num_bits)
                assert np.array_equal(bits, key_of(session)[span]), "wrong bits were delivered"
                # Twice is wrong for a range whatever for, unlike for a pad and its message.
                places = [(session, bit) for bit in range(span.start, span.stop)]
                assert not self.issued.keys() & set(places), f"{session} {span} was delivered twice"
                self.issue(places, ("piece",))
                self.statistics["pieces"] += 1

    def places_of_pad(self, name: str, pad: bytes) -> list[tuple[str, int]]:
        """Where a pad comes from: in K0, or in one of the sets that were set aside of a generated key."""
        index = PAD_NAMES.index(name)
        bits = np.unpackbits(np.frombuffer(pad, dtype=np.uint8))
        initial = np.unpackbits(np.frombuffer(first_key(), dtype=np.uint8))
        start = self.public.k0_bits - PAD_BITS * (len(PAD_NAMES) - index)
        candidates = [(FIRST_KEY, start, initial)]
        for key in self.public.generated.held():
            num_sets = sum(purpose == PADS for purpose, _ in set_aside(key.num_bits))
            candidates += [
                (key.session_id, PAD_SET_BITS * number + PAD_BITS * index, key_of(key.session_id))
                for number in range(num_sets)
            ]
        for session, first, source in candidates:
            if np.array_equal(source[first : first + PAD_BITS], bits):
                return [(session, bit) for bit in range(first, first + PAD_BITS)]
        raise AssertionError("a pad came from nowhere")

    def issue(self, places: list[tuple[str, int]], purpose: tuple[str, ...]) -> None:
        for place in places:
            assert self.issued.setdefault(place, purpose) == purpose, f"{place} was issued twice"
        self.statistics["bits issued"] += len(places)

    @invariant()
    def the_books_balance(self) -> None:
        if not hasattr(self, "workers"):
            return
        epoch = self.public.epoch
        assert epoch >= self.epoch
        self.epoch = epoch
        gone = {key.session_id: key.delivered for key in self.public.generated.held()}
        counted = Counter(session for session, _ in self.issued)
        assert all(counted[session] <= gone[session] for session in gone)

    def teardown(self) -> None:
        for worker in getattr(self, "workers", []):
            worker.end()
        if hasattr(self, "public"):
            self.public.close()
            self.folder.cleanup()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=10_000, help="requests answered, at least")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--progress", choices=["auto", "lines", "none"], default="auto")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as state, ProgressDisplay(options.progress) as progress:
        os.environ["DIQKD_STATE_DIR"] = state
        done = PadReuse.statistics
        PadReuse.report = staticmethod(
            lambda: progress("requests", done["steps"], options.steps, f"{done['kills']} kills")
        )
        for seed in itertools.count(1_000_000 * options.seed):
            machine = type("PadReuse", (PadReuse,), {"_hypothesis_internal_use_seed": seed})
            run_state_machine_as_test(
                machine,
                settings=settings(
                    max_examples=10,  # the first one is trivial
                    stateful_step_count=max(5, min(STEPS_A_RUN, options.steps // 20)),
                    deadline=None,
                    database=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
            if PadReuse.statistics["steps"] >= options.steps:
                break
    names = ("steps", "granted", "refused", "kills", "pieces", "bits issued")
    report = {name: PadReuse.statistics[name] for name in names} | {"bits issued twice": 0}
    print(json.dumps(report) if options.json else report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
