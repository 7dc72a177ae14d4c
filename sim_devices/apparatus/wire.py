"""Frames between the laboratory and a node's apparatus: fixed binary records over a loopback TCP connection.

A frame is a kind (u8), three reserved bytes, a payload length (u32, little-endian) and the payload. Payloads
are arrays of the records below or packed structs; nothing is unpickled. A node gets entries of coming rounds:
what its station and ion will do, with results of its own measurements. What the entries do not have it
requests by MEASURE; by REPORT it names what it has measured where the other node's result depends on it.
"""

import socket
import struct

import numpy as np
from numpy.typing import NDArray

VERSION = 6
MAX_PAYLOAD = 1 << 20

HELLO, WELCOME, REFUSED, FETCH, ENTRIES, MEASURE, MEASURED, REPORT, PARTNER, LEAVE = range(1, 11)
CLOCK, SOURCE = 11, 12

HEADER = struct.Struct("<BxxxI")
# Magic, version, role (0 Alice, 1 Bob, 2 somebody with a clock), port on which Bob's lines listen.
HELLO_PAYLOAD = struct.Struct("<4sHBxH")
# Seed of the node's own draws, its first round, laboratory time (s), its unix time at 0, whether one of this
# node's electrodes was tampered with and stays where it is, protocol; drift, tampering of the lines and a
# seed for it follow as JSON.
WELCOME_PAYLOAD = struct.Struct("<QQdd?B")
FETCH_PAYLOAD = struct.Struct("<qdd")  # first round, longest wait in s, this node's laboratory time
CLOCK_PAYLOAD = struct.Struct("<d")  # laboratory time of the sender, in both directions
# Round, effect of "bright" (e00, e11, real and imaginary e10), kind of round, number of the partner's effect.
MEASURE_PAYLOAD = struct.Struct("<qddddBB")
# Bright; the effect's number in `results`, that of the partner's on which they are conditional, or
# MAX_REGISTERED.
MEASURED_PAYLOAD = struct.Struct("<BBB")
REPORT_PAYLOAD = struct.Struct("<qdddd")  # round, effect
PARTNER_PAYLOAD = struct.Struct("<H")  # port of Bob's lines, 0: he is not there
LEAVE_PAYLOAD = struct.Struct("<q")  # first round that this node has not begun
SOURCE_PAYLOAD = struct.Struct("<ddd")  # the node as a photon source, see `physics.photon_source`
MAGIC = b"DLAB"

ROLES = ("alice", "bob")
OBSERVER = 2
PROTOCOLS = ("ordered", "late-type")
KEY, TEST = 0, 1
USUAL_KEY = 2  # a key round with the effect of the key round before
NO_ROUND_TYPE = 255
MAX_REGISTERED = 64  # effects of a node, the bits of `results`

# Bits of `fault`.
ION_LOST = 1  # this node's ion, before the round
LOCK_LOST = 2  # the 674 nm lock, for `lock_mu`
PARTNER_ION_LOST = 4

ENTRY = np.dtype(
    [
        ("index", "<i8"),
        ("attempts", "<i8"),  # number of the attempt that heralds
        ("pattern", "<i8"),
        ("fault", "<i8"),
        ("lock_mu", "<i8"),
        ("preset", "<i8"),  # 0: quantum; 1, 2: a device that answers bright, dark whatever the pulses
        ("answer", "<i8"),  # of a device that has a list, where it uses it: 1, 2: bright, dark
        ("results", "<u8"),  # bit k: bright if the pulses make the effect with number k
        ("num_results", "<i8"),  # of them
        ("time_s", "<f8"),  # laboratory time of the herald
    ]
)
# Places in an entry that was made a tuple.
INDEX, ATTEMPTS, PATTERN, FAULT, LOCK_MU, PRESET, ANSWER, RESULTS, NUM_RESULTS, TIME_S = range(10)


class WireError(ConnectionError):
    """The other end closed the connection or sent no valid frame."""


def frame(kind: int, payload: bytes = b"") -> bytes:
    return HEADER.pack(kind, len(payload)) + payload


def receive_exactly(connection: socket.socket, length: int) -> bytes:
    parts = []
    while length:
        part = connection.recv(min(length, 1 << 16))
        if not part:
            raise WireError("the laboratory connection was closed by the other end")
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def receive_frame(connection: socket.socket) -> tuple[int, bytes]:
    kind, length = HEADER.unpack(receive_exactly(connection, HEADER.size))
    if length > MAX_PAYLOAD:
        raise WireError(f"frame of {length} bytes exceeds the limit of {MAX_PAYLOAD}")
    return kind, receive_exactly(connection, length)


def records(payload: bytes, dtype: np.dtype[np.void]) -> NDArray[np.void]:
    if len(payload) % dtype.itemsize:
        raise WireError(
            f"payload of {len(payload)} bytes is no whole number of {dtype.itemsize}-byte records"
        )
    return np.frombuffer(payload, dtype=dtype)
