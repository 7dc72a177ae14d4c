"""Laboratory process: holds the tape and both ions' joint state, and serves the two nodes.

Both nodes play the same round at the same time, in step by the handshake on their own connection. Each gets
entries of the tape a chunk at a time, with results of its own measurements (`joint_outcomes`); Bob first,
since his clock says when the rounds of a chunk are. What an entry does not answer the nodes request, and a
node that measures second may have to wait until the other one has measured in that round.

A node's next process goes on with the first round that it had not begun, or, if it was killed, after its last
chunk; the node that is behind skips rounds at the handshake.
"""

import json
import math
import selectors
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import numpy as np

from sim_devices.apparatus import wire
from sim_devices.laboratory.configuration import LaboratoryConfiguration
from sim_devices.laboratory.joint_outcomes import BOB, JointOutcomes
from sim_devices.laboratory.tape import Tape
from sim_devices.physics.heralding import Heralding, heralding
from sim_devices.physics.photon_source import PUBLISHED_SOURCE, PhotonSource

# Seconds of an attempt with its share of the cooling, and of the rest of a round: a little less than the
# nodes' kernels need, whose own clocks say more.
ATTEMPT_S = 1.6e-6
ROUND_S = 0.7e-3
SCAN_ROUNDS = 30  # of which nearly all are tests: these belong to a scan of the link, not to a key run
MAX_STEP_S = 86400.0  # a clock that is further ahead is none
MEASURE_WAIT_S = 2.0  # for the first one's measurement, before its key effect counts as measured
IDLE = 0.5  # s after which `stop` is noticed at the latest


@dataclass
class _Connection:
    socket: socket.socket
    role: int = -1
    received: bytearray = field(default_factory=bytearray)
    port: int = 0  # on which Bob's lines listen
    # An unanswered request: what answers it if that is possible, and until when.
    answer: Callable[[bool], bytes | None] | None = None
    deadline: float = 0.0


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
        self._outcomes = JointOutcomes(self._tape, configuration.drift, configuration.protocol)
        self._granted = 0  # rounds of which the times are fixed: Bob has got them
        self._next = [0, 0]  # round with which each node's next process begins
        self._oldest = [0, 0]  # first round of each node's last chunk
        self._times = np.empty(0)  # of the rounds from `_times_start` on
        self._times_start = 0
        self._time_s = 0.0  # laboratory time: the latest that any node has reached or was given
        self._num_tests = 0  # that Bob has requested since his last fetch
        self._sources = [PUBLISHED_SOURCE, PUBLISHED_SOURCE]
        self._heralding = self._herald()
        self._attempts = np.empty(0, dtype=np.int64)  # of the rounds from `_times_start` on
        self._scanning = False  # the nodes calibrate the link: time is not compressed

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
        deadlines = [node.deadline for node in self._nodes.values() if node.answer is not None]
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
            self._fetch(node, *wire.FETCH_PAYLOAD.unpack(payload))
        elif kind == wire.MEASURE:
            self._measure(node, payload)
        elif kind == wire.REPORT:
            index, *effect = wire.REPORT_PAYLOAD.unpack(payload)
            self._outcomes.report(node.role, index, tuple(effect))
        elif kind == wire.PARTNER:
            bob = self._nodes.get(BOB)
            port = wire.PARTNER_PAYLOAD.pack(0 if bob is None else bob.port)
            node.socket.sendall(wire.frame(wire.PARTNER, port))
        elif kind == wire.SOURCE:
            self._shine(node.role, PhotonSource(*wire.SOURCE_PAYLOAD.unpack(payload)))
        elif kind == wire.LEAVE:
            (self._next[node.role],) = wire.LEAVE_PAYLOAD.unpack(payload)
            self._outcomes.reached(node.role, self._next[node.role])
        else:
            raise wire.WireError(f"frame kind {kind} is not for this role")

    def _welcome(self, node: _Connection, payload: bytes) -> None:
        magic, version, role, port = wire.HELLO_PAYLOAD.unpack(payload)
        if magic != wire.MAGIC or version != wire.VERSION or role > wire.OBSERVER or node.role >= 0:
            raise wire.WireError("not a node of this version")
        if role == wire.OBSERVER:
            node.role = role
            self._send_welcome(node, 0, self._granted)
            return
        previous = self._nodes.get(role)
        if previous is not None:
            self._drop(previous)
        node.role = role
        self._nodes[role] = node
        node.port = port
        sequence = np.random.SeedSequence([self._configuration.seed, 1 + role, self._num_connections[role]])
        self._num_connections[role] += 1
        seed = int(sequence.generate_state(1, np.uint64)[0])
        self._outcomes.reached(role, self._next[role])
        self._send_welcome(node, seed, self._next[role])

    def _send_welcome(self, node: _Connection, seed: int, rounds: int) -> None:
        configuration = self._configuration
        stuck = configuration.tampering.stuck_electrode == ("alice", "bob", "")[node.role]
        protocol = wire.PROTOCOLS.index(configuration.protocol)
        fixed = wire.WELCOME_PAYLOAD.pack(
            seed, rounds, self._time_s, configuration.start_unix, stuck, protocol
        )
        rest = {
            "drift": configuration.drift.to_json(),
            "lines": asdict(configuration.tampering.lines),
            "eve_seed": configuration.eve_seed,
        }
        node.socket.sendall(wire.frame(wire.WELCOME, fixed + json.dumps(rest).encode()))

    def _shine(self, role: int, source: PhotonSource) -> None:
        """A node's photons have changed: heralds are others from the next chunk on."""
        if not all(math.isfinite(value) for value in source) or source.brightness < 0:
            raise wire.WireError("no photon source")
        self._sources[role] = source
        self._heralding = self._herald()

    def _herald(self) -> Heralding:
        link = self._configuration.link
        return heralding(*self._sources, distinguishability=link.distinguishability, dark_rate=link.dark_rate)

    def _reach(self, time_s: float) -> None:
        if not self._time_s <= time_s < self._time_s + MAX_STEP_S:
            return  # behind, or no time at all
        self._time_s = time_s

    def _fetch(self, node: _Connection, first: int, patience: float, time_s: float) -> None:
        """Entries from `first` on, of a chunk at most. Alice waits for Bob's."""
        role = node.role
        if role == BOB:
            self._reach(time_s)
            if first >= self._granted:
                self._grant()
        self._outcomes.reached(role, first)
        if not self._oldest[role] <= first <= self._granted:
            raise wire.WireError("rounds that are over, or out of reach")
        self._oldest[role] = first

        def answer(waits: bool) -> bytes | None:
            if first == self._granted and not waits and BOB in self._nodes:
                self._grant()  # he has rounds left, which she has missed
            count = min(self._configuration.chunk, self._granted - first)
            if count <= 0:
                return None if waits else b""
            entries = self._tape.entries(role, first, count)
            offset = first - self._times_start
            entries["time_s"] = self._times[offset : offset + count]
            entries["attempts"] = self._attempts[offset : offset + count]
            self._outcomes.fill_in(role, entries)
            self._next[role] = first + count
            self._forget()
            return entries.tobytes()

        self._await(node, wire.ENTRIES, answer, min(max(patience, 0.0), 10.0))

    def _measure(self, node: _Connection, payload: bytes) -> None:
        index, e00, e11, real, imaginary, kind, partner = wire.MEASURE_PAYLOAD.unpack(payload)
        if node.role == BOB and kind == wire.TEST:
            self._num_tests += 1

        def answer(waits: bool) -> bytes | None:
            result = self._outcomes.measure(
                node.role, index, (e00, e11, real, imaginary), kind, partner, waits
            )
            return None if result is None else wire.MEASURED_PAYLOAD.pack(*result)

        self._await(node, wire.MEASURED, answer, MEASURE_WAIT_S)

    def _await(
        self, node: _Connection, kind: int, answer: Callable[[bool], bytes | None], wait_s: float
    ) -> None:
        """Answer a request at once, or as soon as another node's frame makes that possible."""
        payload = answer(True)
        if payload is not None:
            node.socket.sendall(wire.frame(kind, payload))
            return

        def later(waits: bool) -> bytes | None:
            payload = answer(waits)
            return None if payload is None else wire.frame(kind, payload)

        node.answer = later
        node.deadline = time.monotonic() + wait_s

    def _answer_waiting(self) -> None:
        now = time.monotonic()
        for node in list(self._nodes.values()):
            if node.answer is None:
                continue
            try:
                frame = node.answer(now < node.deadline)
                if frame is not None:
                    node.answer = None
                    node.socket.sendall(frame)
            except OSError:
                self._drop(node)

    def _grant(self) -> None:
        """Fix the times of the next chunk."""
        count = self._configuration.chunk
        if self._granted:
            self._scanning = count >= SCAN_ROUNDS and self._num_tests >= 0.9 * count
        self._num_tests = 0
        entries = self._tape.entries(BOB, self._granted, count)
        attempts = self._heralding.attempts(entries["attempts"])
        scale = 1.0 if self._scanning else self._configuration.drift.time_scale
        lasting = scale * (ATTEMPT_S * attempts + ROUND_S)
        times = self._time_s + np.cumsum(lasting)
        self._time_s = float(times[-1])
        self._times = np.concatenate([self._times, times])
        self._attempts = np.concatenate([self._attempts, attempts])
        self._outcomes.add(entries["pattern"], times, self._heralding)
        self._granted += count

    def _forget(self) -> None:
        """Drop what both nodes have left."""
        oldest = min(self._oldest)
        self._times = self._times[oldest - self._times_start :]
        self._attempts = self._attempts[oldest - self._times_start :]
        self._times_start = oldest
        self._outcomes.forget(oldest)
        self._tape.forget(oldest)
