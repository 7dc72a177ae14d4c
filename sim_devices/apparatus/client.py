"""A node's line to the laboratory: fetch entries, hand back results."""

import os
import socket
import struct
import threading
from typing import Any

import numpy as np

from diqkd_postproc.protocol.errors import DiqkdError, ParameterError
from diqkd_postproc.protocol.roles import ROLES
from sim_devices.apparatus import wire
from sim_devices.physics.drift import Drift

CONNECT_TIMEOUT = 5.0  # s
FLUSH_INTERVAL = 0.004  # s without a new result after which Bob's results go out unasked
ADDRESS_VARIABLE = "DIQKD_LABORATORY"
DEFAULT_ADDRESS = "127.0.0.1:3270"


class LaboratoryError(DiqkdError):
    """The simulated laboratory does not answer or went away."""


def parse_address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ParameterError(f"laboratory address {text!r} is not host:port; set {ADDRESS_VARIABLE}")
    return host, int(port)


def observe(address: str | None = None) -> tuple[Drift, float]:
    """Drift and time (s) of the laboratory, asked as nobody in particular; still and 0 if there is none."""
    host, port = parse_address(address or os.environ.get(ADDRESS_VARIABLE, DEFAULT_ADDRESS))
    try:
        with socket.create_connection((host, port), CONNECT_TIMEOUT) as connection:
            connection.settimeout(CONNECT_TIMEOUT)
            hello = wire.HELLO_PAYLOAD.pack(wire.MAGIC, wire.VERSION, wire.OBSERVER)
            connection.sendall(wire.frame(wire.HELLO, hello))
            kind, payload = wire.receive_frame(connection)
        if kind != wire.WELCOME:
            return Drift(), 0.0
        fixed, drift = payload[: wire.WELCOME_PAYLOAD.size], payload[wire.WELCOME_PAYLOAD.size :]
        return Drift.from_json(drift.decode()), wire.WELCOME_PAYLOAD.unpack(fixed)[2]
    except (OSError, struct.error, ValueError, TypeError):
        return Drift(), 0.0


class LaboratoryClient:
    """Blocking client of one role. Results may be flushed from a background thread, answers come to the
    caller.
    """

    def __init__(self, role: str, address: str | None = None) -> None:
        if role not in ROLES:
            raise ParameterError(f"role {role!r} is neither alice nor bob")
        self.address = address or os.environ.get(ADDRESS_VARIABLE, DEFAULT_ADDRESS)
        host, port = parse_address(self.address)
        self._entry = wire.ENTRY_OF_ROLE[ROLES.index(role)]
        self._pending: list[tuple[Any, ...]] = []
        self._lock = threading.Lock()
        self._closed = threading.Event()
        try:
            self._socket = socket.create_connection((host, port), CONNECT_TIMEOUT)
            self._socket.settimeout(30.0)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._send(wire.HELLO, wire.HELLO_PAYLOAD.pack(wire.MAGIC, wire.VERSION, ROLES.index(role)))
            kind, payload = wire.receive_frame(self._socket)
            if kind != wire.WELCOME:
                raise wire.WireError("the laboratory refused this node")
            fixed, drift = payload[: wire.WELCOME_PAYLOAD.size], payload[wire.WELCOME_PAYLOAD.size :]
            (
                self.seed,
                self.rounds_done,
                self.time_s,
                self.start_unix,
                self.electrode_stuck,
            ) = wire.WELCOME_PAYLOAD.unpack(fixed)
            self.drift = Drift.from_json(drift.decode())
        except (OSError, struct.error, ValueError, TypeError) as error:
            raise LaboratoryError(
                f"no simulated laboratory at {self.address} ({error}); start one with "
                f"`python -m sim_devices.laboratory` or set {ADDRESS_VARIABLE}"
            ) from None
        # Bob's hot path: append is atomic, and only `_take` removes.
        self.add_result = self._pending.append
        if role == "bob":
            threading.Thread(target=self._flush_when_idle, name="laboratory-flush", daemon=True).start()

    def fetch(self, patience: float, time_s: float = 0.0) -> list[tuple[Any, ...]]:
        """Entries of coming rounds, oldest last; empty if there is none within `patience` (s). `time_s` is
        this node's laboratory time."""
        try:
            with self._lock:
                self._send(wire.FETCH, wire.FETCH_PAYLOAD.pack(patience, time_s) + self._take())
            records = wire.records(self._receive(wire.ENTRIES), self._entry)
        except OSError as error:
            raise self._gone(error) from None
        entries: list[tuple[Any, ...]] = records.tolist()
        entries.reverse()
        return entries

    def measure(self, index: int, effect: tuple[float, float, float, float]) -> tuple[bool, int]:
        """Alice's result of round `index` under an effect, and its number in coming entries, or
        `wire.MAX_REGISTERED`. Once a round.
        """
        try:
            with self._lock:
                self._send(wire.MEASURE, wire.MEASURE_PAYLOAD.pack(index, *effect))
            bright, number = wire.MEASURED_PAYLOAD.unpack(self._receive(wire.MEASURED))
        except (OSError, struct.error) as error:
            raise self._gone(error) from None
        return bool(bright), number

    def report_reload(self, index: int) -> None:
        """The ion lost before round `index` is back."""
        with self._lock:
            self._send(wire.RELOADED, wire.RELOADED_PAYLOAD.pack(index))

    def flush(self) -> None:
        """Send the results not yet sent."""
        with self._lock:
            results = self._take()
            if results:
                self._send(wire.RESULTS, results)

    def close(self) -> None:
        self._closed.set()
        try:
            self.flush()
        except OSError:
            pass
        finally:
            self._socket.close()

    def _take(self) -> bytes:
        count = len(self._pending)
        if not count:
            return b""
        packed = np.array(self._pending[:count], dtype=wire.RESULT).tobytes()
        del self._pending[:count]
        return packed

    def _receive(self, expected: int) -> bytes:
        kind, payload = wire.receive_frame(self._socket)
        if kind != expected:
            raise wire.WireError(f"frame kind {kind} instead of {expected}")
        return payload

    def _gone(self, error: Exception) -> LaboratoryError:
        return LaboratoryError(f"the simulated laboratory at {self.address} went away ({error})")

    def _send(self, kind: int, payload: bytes = b"") -> None:
        self._socket.sendall(wire.frame(kind, payload))

    def _flush_when_idle(self) -> None:
        # The last rounds of a batch: Alice cannot play hers before Bob's results are out.
        seen = 0
        while not self._closed.wait(FLUSH_INTERVAL):
            count = len(self._pending)
            if count and count == seen:
                try:
                    self.flush()
                except OSError:
                    return
                count = 0
            seen = count
