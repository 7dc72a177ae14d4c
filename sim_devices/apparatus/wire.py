"""Frames between the laboratory and a node's apparatus: fixed binary records over a loopback TCP connection.

A frame is a kind (u8), three reserved bytes, a payload length (u32, little-endian) and the payload. Payloads
are arrays of the records below or packed structs; nothing is unpickled. A node gets entries of coming rounds:
what its station and ion will do. Bob's hold his reduced state, the same whatever Alice does, and he returns
`RESULT`s. Alice's hold no state, but results; those that her entry does not have she asks for by MEASURE.
"""

import socket
import struct

import numpy as np
from numpy.typing import NDArray

VERSION = 4
MAX_PAYLOAD = 1 << 20

HELLO, WELCOME, REFUSED, FETCH, ENTRIES, RESULTS, RELOADED, MEASURE, MEASURED, CLOCK = range(1, 11)

HEADER = struct.Struct("<BxxxI")
HELLO_PAYLOAD = struct.Struct("<4sHBx")  # magic, version, role (0 Alice, 1 Bob, 2 somebody with a clock)
# Seed of the node's own draws, rounds on the tape so far, laboratory time (s), its unix time at 0, whether
# one of this node's electrodes was tampered with and stays where it is; the drift follows as JSON.
WELCOME_PAYLOAD = struct.Struct("<QQdd?")
FETCH_PAYLOAD = struct.Struct("<dd")  # longest wait, s; this node's laboratory time; Bob's results follow
CLOCK_PAYLOAD = struct.Struct("<d")  # laboratory time of the sender, in both directions
RELOADED_PAYLOAD = struct.Struct("<q")
MEASURE_PAYLOAD = struct.Struct("<qdddd")  # round, effect of "bright": e00, e11, real and imaginary e10
MEASURED_PAYLOAD = struct.Struct("<BB")  # bright; the effect's number in `results` or MAX_REGISTERED
MAGIC = b"DLAB"

OBSERVER = 2
NO_ROUND_TYPE = 255
MAX_REGISTERED = 64  # effects of Alice's, the bits of `results`

# Bits of `fault`.
ION_LOST = 1  # this node's ion, before the round
LOCK_LOST = 2  # the 674 nm lock, for `lock_mu`
NOTICE = 4  # only the fault: the round itself comes later

_COMMON = [
    ("index", "<i8"),
    ("attempts", "<i8"),  # number of the attempt that heralds
    ("pattern", "<i8"),
    ("fault", "<i8"),
    ("lock_mu", "<i8"),
    ("preset", "<i8"),  # 0: quantum; 1, 2: a device that answers bright, dark whatever the pulses
    # For Alice: T and its rising edge, mu after the herald; NO_ROUND_TYPE, -1 if none.
    ("round_type", "<i8"),
    ("strobe_mu", "<i8"),
    ("fresh", "<i8"),  # Bob had rested before this round
]
ENTRY = np.dtype(_COMMON)
ALICE_ENTRY = np.dtype(
    [
        *_COMMON,
        ("results", "<u8"),  # bit k: bright if the pulses make the effect with number k
        ("num_results", "<i8"),  # of them
        ("time_s", "<f8"),  # laboratory time of the herald; the last field for both roles
    ]
)
BOB_ENTRY = np.dtype(
    [
        *_COMMON,
        ("population", "<f8"),  # reduced state: rho00
        ("real", "<f8"),  # rho01
        ("imaginary", "<f8"),
        ("time_s", "<f8"),
    ]
)
ENTRY_OF_ROLE = (ALICE_ENTRY, BOB_ENTRY)
# Places in an entry that was made a tuple: those of both roles, of Alice, of Bob; the time is the last.
INDEX, ATTEMPTS, PATTERN, FAULT, LOCK_MU, PRESET, ROUND_TYPE, STROBE_MU, FRESH = range(len(_COMMON))
RESULTS, NUM_RESULTS = range(len(_COMMON), len(_COMMON) + 2)
POPULATION, REAL, IMAGINARY = range(len(_COMMON), len(_COMMON) + 3)
TIME_S = -1
RESULT = np.dtype(
    [
        ("index", "<i8"),
        ("round_type", "<i8"),
        ("strobe_mu", "<i8"),
        ("bright", "<i8"),
        ("fresh", "<i8"),
        ("e00", "<f8"),  # effect of "bright" that the pulses made
        ("e11", "<f8"),
        ("e10_real", "<f8"),
        ("e10_imaginary", "<f8"),
    ]
)


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
