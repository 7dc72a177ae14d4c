"""Device `clock`: the laboratory's time of day, which runs as fast as the simulation does."""

import os
import socket
import struct
import threading
from typing import Any

from diqkd_postproc.protocol.errors import ParameterError
from sim_devices.apparatus import wire
from sim_devices.apparatus.client import ADDRESS_VARIABLE, CONNECT_TIMEOUT, LaboratoryError, parse_address


class LaboratoryClock:
    """Asks the laboratory; `apparatus` names the device whose node may be ahead of it.

    May be used from several threads.
    """

    def __init__(
        self, device_mgr: Any = None, apparatus: str | None = None, laboratory: str | None = None
    ) -> None:
        self._apparatus = device_mgr.get(apparatus) if apparatus else None
        self._lock = threading.Lock()
        self.address = laboratory or os.environ.get(ADDRESS_VARIABLE, "127.0.0.1:3270")
        try:
            self._socket = socket.create_connection(parse_address(self.address), CONNECT_TIMEOUT)
            self._socket.settimeout(30.0)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            hello = wire.HELLO_PAYLOAD.pack(wire.MAGIC, wire.VERSION, wire.OBSERVER, 0)
            self._socket.sendall(wire.frame(wire.HELLO, hello))
            kind, payload = wire.receive_frame(self._socket)
            if kind != wire.WELCOME:
                raise wire.WireError("the laboratory refused this clock")
            fixed = wire.WELCOME_PAYLOAD.unpack(payload[: wire.WELCOME_PAYLOAD.size])
            self._start_unix, self._protocol = fixed[3], wire.PROTOCOLS[fixed[5]]
        except (OSError, struct.error) as error:
            raise LaboratoryError(f"no simulated laboratory at {self.address} ({error})") from None

    def now(self) -> float:
        """Unix time (s)."""
        own_s = 0.0 if self._apparatus is None else self._apparatus.time_s
        try:
            with self._lock:
                self._socket.sendall(wire.frame(wire.CLOCK, wire.CLOCK_PAYLOAD.pack(own_s)))
                _, payload = wire.receive_frame(self._socket)
            (time_s,) = wire.CLOCK_PAYLOAD.unpack(payload)
        except (OSError, struct.error) as error:
            raise LaboratoryError(f"the laboratory at {self.address} went away ({error})") from None
        return float(self._start_unix + time_s)

    def check_protocol(self, protocol: str) -> None:
        """Raise ParameterError unless the laboratory's ions are measured in the order of `protocol`."""
        if protocol != self._protocol:
            raise ParameterError(
                f"this run has the protocol {protocol!r}, the laboratory at {self.address} was started for "
                f"{self._protocol!r}; start it with --protocol {protocol}"
            )

    def ping(self) -> bool:
        return True

    def close(self) -> None:
        self._socket.close()
