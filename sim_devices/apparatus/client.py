"""A node's connection to the laboratory: entries of coming rounds, and results of measurements."""

import json
import os
import socket
import struct
from typing import Any

from diqkd_postproc.protocol.errors import DiqkdError, ParameterError
from sim_devices.apparatus import wire
from sim_devices.apparatus.effects import Effect
from sim_devices.apparatus.line_tampering import LineTampering
from sim_devices.physics.drift import Drift
from sim_devices.physics.photon_source import PhotonSource

CONNECT_TIMEOUT = 5.0  # s
ANSWER_TIMEOUT = 30.0  # s
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
            hello = wire.HELLO_PAYLOAD.pack(wire.MAGIC, wire.VERSION, wire.OBSERVER, 0)
            connection.sendall(wire.frame(wire.HELLO, hello))
            kind, payload = wire.receive_frame(connection)
        if kind != wire.WELCOME:
            return Drift(), 0.0
        fixed, drift = payload[: wire.WELCOME_PAYLOAD.size], payload[wire.WELCOME_PAYLOAD.size :]
        return Drift.from_json(json.loads(drift)["drift"]), wire.WELCOME_PAYLOAD.unpack(fixed)[2]
    except (OSError, struct.error, ValueError, TypeError, KeyError):
        return Drift(), 0.0


class LaboratoryClient:
    """Blocking client of one role.

    :param port: on which Bob's lines listen

    Public after construction: `seed` of the node's own draws, `rounds_done`, the first round that this
    process may play, `time_s` and `start_unix` of the laboratory, `electrode_stuck`, `protocol`, `drift`,
    `line_tampering`, `eve_seed`.
    """

    def __init__(self, role: str, address: str | None = None, port: int = 0) -> None:
        if role not in wire.ROLES:
            raise ParameterError(f"role {role!r} is neither alice nor bob")
        self.address = address or os.environ.get(ADDRESS_VARIABLE, DEFAULT_ADDRESS)
        try:
            self._socket = socket.create_connection(parse_address(self.address), CONNECT_TIMEOUT)
            self._socket.settimeout(ANSWER_TIMEOUT)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            hello = wire.HELLO_PAYLOAD.pack(wire.MAGIC, wire.VERSION, wire.ROLES.index(role), port)
            self._send(wire.HELLO, hello)
            kind, payload = wire.receive_frame(self._socket)
            if kind != wire.WELCOME:
                raise wire.WireError("the laboratory refused this node")
            fixed, rest = payload[: wire.WELCOME_PAYLOAD.size], payload[wire.WELCOME_PAYLOAD.size :]
            (
                self.seed,
                self.rounds_done,
                self.time_s,
                self.start_unix,
                self.electrode_stuck,
                protocol,
            ) = wire.WELCOME_PAYLOAD.unpack(fixed)
            self.protocol = wire.PROTOCOLS[protocol]
            rest = json.loads(rest)
            self.drift = Drift.from_json(rest["drift"])
            self.line_tampering = LineTampering(**rest["lines"])
            self.eve_seed = int(rest["eve_seed"])
        except (OSError, struct.error, ValueError, TypeError, KeyError) as error:
            raise LaboratoryError(
                f"no simulated laboratory at {self.address} ({error}); start one with "
                f"`python -m sim_devices.laboratory` or set {ADDRESS_VARIABLE}"
            ) from None

    def fetch(self, first: int, patience: float, time_s: float = 0.0) -> list[tuple[Any, ...]]:
        """Entries of the rounds from `first` on, oldest last; empty if there is none within `patience` (s).
        `time_s` is this node's laboratory time."""
        payload = self._ask(wire.FETCH, wire.FETCH_PAYLOAD.pack(first, patience, time_s), wire.ENTRIES)
        entries: list[tuple[Any, ...]] = wire.records(payload, wire.ENTRY).tolist()
        entries.reverse()
        return entries

    def measure(self, index: int, effect: Effect, kind: int, partner_effect: int) -> tuple[bool, int, int]:
        """Result of round `index` under an effect, once a round; the effect's number in coming entries, and
        that of the partner's effect on which they are conditional, or `wire.MAX_REGISTERED`.

        :param kind: KEY, TEST, USUAL_KEY or NO_ROUND_TYPE of `wire`
        :param partner_effect: number of what the partner has measured in the round, if it is known
        """
        request = wire.MEASURE_PAYLOAD.pack(index, *effect, kind, partner_effect)
        answer = self._ask(wire.MEASURE, request, wire.MEASURED)
        bright, number, partner = wire.MEASURED_PAYLOAD.unpack(answer)
        return bool(bright), number, partner

    def report(self, index: int, effect: Effect) -> None:
        """This is what the node has measured in round `index`, with the result that it had in advance."""
        try:
            self._send(wire.REPORT, wire.REPORT_PAYLOAD.pack(index, *effect))
        except OSError as error:
            raise self._gone(error) from None

    def shine(self, source: PhotonSource) -> None:
        """This is what the node's photons are like from the next fetched round on."""
        try:
            self._send(wire.SOURCE, wire.SOURCE_PAYLOAD.pack(*source))
        except OSError as error:
            raise self._gone(error) from None

    def partner_port(self) -> int:
        """Port on which Bob's lines listen; 0 if he is not there."""
        return int(wire.PARTNER_PAYLOAD.unpack(self._ask(wire.PARTNER, b"", wire.PARTNER))[0])

    def close(self, first_round_left: int) -> None:
        """Leave; the node's next process goes on with this round."""
        try:
            self._send(wire.LEAVE, wire.LEAVE_PAYLOAD.pack(first_round_left))
        except OSError:
            pass
        finally:
            self._socket.close()

    def _ask(self, kind: int, payload: bytes, expected: int) -> bytes:
        try:
            self._send(kind, payload)
            answered, answer = wire.receive_frame(self._socket)
            if answered != expected:
                raise wire.WireError(f"frame kind {answered} instead of {expected}")
        except (OSError, struct.error) as error:
            raise self._gone(error) from None
        return answer

    def _gone(self, error: Exception) -> LaboratoryError:
        return LaboratoryError(f"the simulated laboratory at {self.address} went away ({error})")

    def _send(self, kind: int, payload: bytes = b"") -> None:
        self._socket.sendall(wire.frame(kind, payload))
