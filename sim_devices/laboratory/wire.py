"""Frames between the laboratory and a node's apparatus: fixed binary records over a loopback TCP connection.

A frame is a kind (u8), three reserved bytes, a payload length (u32, little-endian) and the payload. Payloads
are arrays of the records below or packed structs; nothing is unpickled. A node gets `ENTRY`s (what its
station and ion will do in coming rounds); Bob returns `RESULT`s.
"""

import socket
import struct

import numpy as np
from numpy.typing import NDArray

VERSION = 1
MAX_PAYLOAD = 1 << 20

HELLO, WELCOME, REFUSED, FETCH, ENTRIES, RESULTS, RELOADED = range(1, 8)

HEADER = struct.Struct("<BxxxI")
HELLO_PAYLOAD = struct.Struct("<4sHBx")  # magic, version, role (0 Alice, 1 Bob)
WELCOME_PAYLOAD = struct.Struct("<QQ")  # seed of the node's own draws, rounds on the tape so far
FETCH_PAYLOAD = struct.Struct("<d")  # longest wait, s; Bob's results follow
RELOADED_PAYLOAD = struct.Struct("<q")
MAGIC = b"DLAB"

ROLES = ("alice", "bob")
NO_ROUND_TYPE = 255

# Bits of `fault`.
ION_LOST = 1  # this node's ion, before the round
LOCK_LOST = 2  # the 674 nm lock, for `lock_mu`
NOTICE = 4  # only the fault: the round itself comes later

ENTRY = np.dtype(
    [
        ("index", "<i8"),
        ("attempts", "<i8"),  # number of the attempt that heralds
        ("pattern", "<i8"),
        ("fault", "<i8"),
        ("lock_mu", "<i8"),
        ("preset", "<i8"),  # 0: quantum; 1, 2: a device that answers bright, dark whatever the pulses
        ("population", "<f8"),  # own reduced state: rho00
        ("real", "<f8"),  # rho01
        ("imaginary", "<f8"),
        (
            "round_type",
            "<i8",
        ),  # Alice only: T and its rising edge, mu after the herald; NO_ROUND_TYPE, -1 if none
        ("strobe_mu", "<i8"),
        ("fresh", "<i8"),  # Bob had rested before this round
    ]
)
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
