"""Timings that both nodes' configurations have to share, and what to say where they do not.

The master's and the slave's windows stay together only if both nodes pause alike: a slave whose pause is
16 ns shorter than its lag allows loses more than half of its windows, and nothing in the hardware shows it.
The same goes for the length of an attempt, the patterns and the handshake. What belongs to one node alone,
such as its gates after the pulse or its delays to the lines, may differ.
"""

import hashlib
import json

NANOSECONDS = {
    "attempts.attempt_time": "the cycle of the attempts",
    "attempts.ttl_attempt_time": "the same without the entangler core",
    "attempts.window_time": "a window of attempts",
    "cooling.time": "cooling between two windows",
    "cooling.recooling_delay": "from a window to cooling",
    "handshake.ready_interval": "Alice's gate for the trigger",
    "handshake.ready_gate": "Bob's gate for ready",
    "handshake.latency": "from an edge of the handshake to what follows",
}
NUMBERS = ("attempts.windows_per_search",)
PATTERNS = "attempts.herald_patterns"
SOURCE = "attempts.source"
SOURCES = ("entangler", "ttl")
MAX_VALUE = 1 << 40


def shared_timings(configuration):
    """Values by the names of their fields, as whole numbers: times in ns, patterns as hexadecimal digits."""
    timings = {name: round(1e9 * configuration.value(name)) for name in NANOSECONDS}
    timings |= {name: configuration.value(name) for name in NUMBERS}
    timings[PATTERNS] = int("".join(f"{pattern:x}" for pattern in configuration.value(PATTERNS)), 16)
    timings[SOURCE] = SOURCES.index(configuration.value(SOURCE))
    return timings


def digest(timings):
    """Short name for a set of timings: 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(timings, sort_keys=True).encode()).hexdigest()[:16]


def is_valid(timings, own):
    """Whether what the other node has sent has the names of this node's timings and whole numbers."""
    return timings.keys() == own.keys() and all(
        type(value) is int and 0 <= value < MAX_VALUE for value in timings.values()
    )


def differences(own, peer):
    """One clause for each timing that differs between (role, timings) of this node and of the other."""
    (role, timings), (peer_role, peer_timings) = own, peer
    return [
        f"{name} is {_text(name, value)} at {role} and {_text(name, peer_timings[name])} at {peer_role}"
        for name, value in timings.items()
        if value != peer_timings[name]
    ]


def _text(name, value):
    if name in NANOSECONDS:
        return f"{value / 1000:.10g} us"
    if name == PATTERNS:
        return str([int(digit, 16) for digit in f"{value:x}"])
    if name == SOURCE:
        return SOURCES[value] if value < len(SOURCES) else str(value)
    return str(value)
