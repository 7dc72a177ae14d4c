"""Laboratory process: holds the tape and both ions' joint state, and serves the two nodes.

A round belongs to Bob first. His apparatus gets entries of the tape with his reduced state, draws his outcome
from the pulses that he plays, and returns (T, effect, outcome). From these follow the conditional states of
Alice's ion, which stay here (`alice_results`): her apparatus, which plays the same rounds at most `LOOKAHEAD`
chunks later, gets heralds that Bob has had, the round types with their times, and what her own measurements
find. In the nodes' own times both are in the same round.

A node that dies misses what was on its way to it: Alice the rounds that Bob has finished, Bob those that he
had not.
"""

import selectors
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sim_devices.apparatus import wire
from sim_devices.apparatus.alice_results import STATE, AliceResults, conditional_states
from sim_devices.laboratory.configuration import LaboratoryConfiguration
from sim_devices.laboratory.tape import Tape

LOOKAHEAD = 2
# Seconds of an attempt with its share of the cooling, and of the rest of a round: a little less than the
# nodes' kernels need, whose own clocks say more.
ATTEMPT_S = 1.6e-6
ROUND_S = 0.7e-3
SCAN_ROUNDS = 30  # so many rounds that are all tests belong to a scan of the link, not to a key run
MAX_STEP_S = 86400.0  # a clock that is further ahead is none
PRESENCE = 2.0  # s since Alice last asked, within which Bob is given new rounds
IDLE = 0.5  # s after which `stop` is noticed at the latest
ALICE, BOB = 0, 1


@dataclass
class _Connection:
    socket: socket.socket
    role: int = -1
    received: bytearray = field(default_factory=bytearray)
    deadline: float | None = None  # of an unanswered fetch


class LaboratoryServer:
    """Serves until `stop`; `address` is (host, port) after construction."""

    def __init__(
        self, configuration: LaboratoryConfiguration, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self._configuration = configuration
        self._tape = Tape(configuration)
        self._listener = socket.create_server((host, port))
        self._listener.setblocking(False)
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._nodes: dict[int, _Connection] = {}
        self._num_connections = [0, 0]
        self._running = True
        self._granted = 0  # rounds given to Bob
        self._finished = 0  # rounds that Bob has finished
        self._delivered = 0  # rounds given to Alice, or missed by her
        self._ready: list[Any] = []  # entries of finished rounds for Alice, and the states of her ion
        self._alice_results = AliceResults()
        self._reloaded_until = 0  # Alice's ion losses before this round are over
        self._noticed_lock = -1  # round of the last lock loss that Alice was told in advance
        self._alice_asked = 0.0
        self._time_s = 0.0  # laboratory time: the latest that any node has reached or was given
        self._scanning = False  # the nodes calibrate the link: time is not compressed
        self._times = np.empty(0)  # of the rounds that were granted and are not finished

    def serve(self) -> None:
        """Answer the nodes until `stop` is called or the process ends."""
        try:
            while self._running:
                for key, _ in self._selector.select(self._patience()):
                    if key.data is None:
                        self._accept()
                    else:
                        self._receive(key.data)
                self._answer_waiting()
        finally:
            self._selector.close()
            self._listener.close()
            for node in self._nodes.values():
                node.socket.close()

    def stop(self) -> None:
        self._running = False

    def _patience(self) -> float:
        deadlines = [node.deadline for node in self._nodes.values() if node.deadline is not None]
        return max(0.0, min([time.monotonic() + IDLE, *deadlines]) - time.monotonic())

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._selector.register(connection, selectors.EVENT_READ, _Connection(connection))

    def _drop(self, node: _Connection) -> None:
        if self._nodes.get(node.role) is node:
            del self._nodes[node.role]
        self._selector.unregister(node.socket)
        node.socket.close()

    def _receive(self, node: _Connection) -> None:
        try:
            data = node.socket.recv(1 << 16)
        except OSError:
            data = b""
        node.received += data
        try:
            if not data:
                raise wire.WireError("closed")
            while len(node.received) >= wire.HEADER.size:
                kind, length = wire.HEADER.unpack_from(node.received)
                if length > wire.MAX_PAYLOAD:
                    raise wire.WireError("frame too long")
                end = wire.HEADER.size + length
                if len(node.received) < end:
                    break
                payload = bytes(node.received[wire.HEADER.size : end])
                del node.received[:end]
                self._handle(node, kind, payload)
        except (OSError, ValueError, struct.error):
            self._drop(node)

    def _handle(self, node: _Connection, kind: int, payload: bytes) -> None:
        if kind == wire.HELLO:
            self._welcome(node, payload)
        elif kind == wire.CLOCK and node.role == wire.OBSERVER:
            self._reach(*wire.CLOCK_PAYLOAD.unpack(payload))
            node.socket.sendall(wire.frame(wire.CLOCK, wire.CLOCK_PAYLOAD.pack(self._time_s)))
        elif self._nodes.get(node.role) is not node:
            raise wire.WireError("a frame before the hello")
        elif kind == wire.FETCH:
            patience, time_s = wire.FETCH_PAYLOAD.unpack_from(payload)
            self._reach(time_s)
            node.deadline = time.monotonic() + min(max(patience, 0.0), 10.0)
            if node.role == ALICE:
                self._alice_asked = time.monotonic()
            else:
                self._finish(payload[wire.FETCH_PAYLOAD.size :])
        elif kind == wire.RESULTS and node.role == BOB:
            self._finish(payload)
        elif kind == wire.RELOADED and node.role == ALICE:
            self._reloaded_until = wire.RELOADED_PAYLOAD.unpack(payload)[0] + 1
        elif kind == wire.MEASURE and node.role == ALICE:
            index, *effect = wire.MEASURE_PAYLOAD.unpack(payload)
            result = self._alice_results.measure(index, tuple(effect))
            node.socket.sendall(wire.frame(wire.MEASURED, wire.MEASURED_PAYLOAD.pack(*result)))
        else:
            raise wire.WireError(f"frame kind {kind} is not for this role")

    def _welcome(self, node: _Connection, payload: bytes) -> None:
        magic, version, role = wire.HELLO_PAYLOAD.unpack(payload)
        if magic != wire.MAGIC or version != wire.VERSION or role > wire.OBSERVER or node.role >= 0:
            raise wire.WireError("not a node of this version")
        if role == wire.OBSERVER:
            node.role = role
            self._send_welcome(node, 0, self._finished)
            return
        previous = self._nodes.get(role)
        if previous is not None:
            self._drop(previous)
        node.role = role
        self._nodes[role] = node
        if role == BOB:
            self._granted = self._finished
            self._times = self._times[:0]
        else:
            self._ready.clear()
            self._alice_results.start()
            self._delivered = self._finished
        sequence = np.random.SeedSequence([self._configuration.seed, 1 + role, self._num_connections[role]])
        self._num_connections[role] += 1
        seed = int(sequence.generate_state(1, np.uint64)[0])
        rounds = self._finished if role == BOB else self._delivered
        self._send_welcome(node, seed, rounds)

    def _send_welcome(self, node: _Connection, seed: int, rounds: int) -> None:
        configuration = self._configuration
        stuck = configuration.tampering.stuck_electrode == ("alice", "bob", "")[node.role]
        fixed = wire.WELCOME_PAYLOAD.pack(seed, rounds, self._time_s, configuration.start_unix, stuck)
        node.socket.sendall(wire.frame(wire.WELCOME, fixed + configuration.drift.to_json().encode()))

    def _reach(self, time_s: float) -> None:
        if not self._time_s <= time_s < self._time_s + MAX_STEP_S:
            return  # behind, or no time at all
        self._time_s = time_s

    def _finish(self, payload: bytes) -> None:
        """Bob's results: compute what they leave for Alice."""
        results = wire.records(payload, wire.RESULT)
        if not len(results):
            return
        expected = np.arange(self._finished, self._finished + len(results))
        if self._finished + len(results) > self._granted or not np.array_equal(results["index"], expected):
            raise wire.WireError("results of rounds that were not granted")
        entries = self._tape.alice_entries(self._finished, len(results))
        times, self._times = self._times[: len(results)], self._times[len(results) :]
        entries["time_s"] = times
        population, coherence = conditional_states(self._states(entries), results)
        states = np.empty(len(entries), dtype=STATE)
        states["population"], states["real"], states["imaginary"] = population, coherence.real, coherence.imag
        states["uniform"] = self._tape.uniforms(self._finished, len(results))
        entries["round_type"] = results["round_type"]
        entries["strobe_mu"] = results["strobe_mu"]
        entries["fresh"] = results["fresh"]
        entries["fault"] &= ~(wire.ION_LOST * (entries["index"] < self._reloaded_until))
        entries["fault"] &= ~(wire.LOCK_LOST * (entries["index"] == self._noticed_lock))
        self._ready.append((entries, states))
        self._finished += len(results)
        if len(results) >= SCAN_ROUNDS:
            self._scanning = bool(np.all(results["round_type"] == 1))

    def _answer_waiting(self) -> None:
        now = time.monotonic()
        for node in list(self._nodes.values()):
            if node.deadline is None:
                continue
            answer = self._alice_chunk() if node.role == ALICE else self._bob_chunk(now)
            if answer is None and now < node.deadline:
                continue
            node.deadline = None
            payload = b"" if answer is None else answer.tobytes()
            try:
                node.socket.sendall(wire.frame(wire.ENTRIES, payload))
            except OSError:
                self._drop(node)

    def _alice_chunk(self) -> Any:
        if self._ready:
            entries, states = (np.concatenate(arrays) for arrays in zip(*self._ready, strict=True))
            self._ready.clear()
            drift = self._configuration.drift
            epochs = np.array([drift.epoch(time_s) for time_s in entries["time_s"].tolist()])
            self._alice_results.hand_out(entries, states, epochs)
            self._delivered += len(entries)
            self._tape.forget(self._delivered)
            return entries
        notice = self._tape.alice_entries(self._finished, 1)
        notice["time_s"] = self._time_s
        fault = int(notice["fault"][0])
        if fault & wire.ION_LOST and self._finished >= self._reloaded_until:
            notice["fault"] = wire.ION_LOST | wire.NOTICE
            return notice
        if fault & wire.LOCK_LOST and self._finished != self._noticed_lock and self._granted > self._finished:
            self._noticed_lock = self._finished
            notice["fault"] = wire.LOCK_LOST | wire.NOTICE
            return notice
        return None

    def _bob_chunk(self, now: float) -> Any:
        alice = self._nodes.get(ALICE)
        if alice is None or (alice.deadline is None and now - self._alice_asked > PRESENCE):
            return None
        chunk = self._configuration.chunk
        count = min(chunk, LOOKAHEAD * chunk - (self._granted - self._delivered))
        start = max(self._granted, self._reloaded_until)
        if start < self._granted + count:
            count = start - self._granted + self._tape.alice_loss_before(start, self._granted + count - start)
        if count <= 0:
            return None
        entries = self._tape.bob_entries(self._granted, count)
        scale = 1.0 if self._scanning else self._configuration.drift.time_scale
        lasting = scale * (ATTEMPT_S * entries["attempts"] + ROUND_S)
        entries["time_s"] = self._time_s + np.cumsum(lasting)
        self._time_s = float(entries["time_s"][-1])
        self._times = np.concatenate([self._times, entries["time_s"]])
        self._granted += count
        return entries

    def _states(self, entries: Any) -> Any:
        """Joint states of the rounds of `entries` at their times; a chunk seldom crosses an epoch."""
        drift = self._configuration.drift
        first, last = (float(entries["time_s"][index]) for index in (0, -1))
        if drift.epoch(first) == drift.epoch(last):
            states = self._tape.states(entries["pattern"], drift.state(first).phase_offsets)
        else:
            states = np.concatenate(
                [
                    self._tape.states(
                        entries["pattern"][index : index + 1], drift.state(time_s).phase_offsets
                    )
                    for index, time_s in enumerate(entries["time_s"].tolist())
                ]
            )
        return self._tape.tampered(int(entries["index"][0]), states)
