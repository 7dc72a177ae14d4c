"""Messages between the nodes' PCs: their fields, and what each field may be.

Nothing that comes from the other node is used before it has passed here. Text is a reason out of an
enumeration, hexadecimal digits, or a short name of printable ASCII; a lone surrogate, a control character or
a word that is not in the enumeration ends the connection.
"""

from __future__ import annotations

import json
import string
from collections.abc import Callable, Mapping
from typing import Any, get_args

from diqkd_node.run.reasons import Fault, Reason
from diqkd_postproc.protocol.errors import RemoteProtocolError
from diqkd_postproc.protocol.parameters import ProtocolName

MAX_MESSAGE_BYTES = 1 << 18
MAX_NAME = 200
MAX_ENTRIES = 64

Message = dict[str, Any]
Check = Callable[[object], bool]
Fields = Mapping[str, Check]

_HEX_DIGITS = frozenset(string.digits + "abcdef")
_REASONS = frozenset(item.value for item in Reason)
_FAULTS = frozenset(item.value for item in Fault)
_PROTOCOLS = frozenset(get_args(ProtocolName))


def number(value: object) -> bool:
    """Whole number of 63 bits, not negative."""
    return type(value) is int and 0 <= value < 1 << 63


def name(value: object) -> bool:
    """At most MAX_NAME printable ASCII characters, perhaps none."""
    return type(value) is str and len(value) <= MAX_NAME and value.isascii() and value.isprintable()


def hexadecimal(value: object) -> bool:
    """Lower-case hexadecimal digits."""
    return type(value) is str and _HEX_DIGITS.issuperset(value)


def names(value: object) -> bool:
    """At most MAX_ENTRIES names."""
    return type(value) is list and len(value) <= MAX_ENTRIES and all(name(item) for item in value)


def numbers(value: object) -> bool:
    """At most MAX_ENTRIES numbers by name."""
    return (
        type(value) is dict
        and len(value) <= MAX_ENTRIES
        and all(name(key) and number(item) for key, item in value.items())
    )


def reason(value: object) -> bool:
    """A `Reason`."""
    return isinstance(value, str) and value in _REASONS


def protocol(value: object) -> bool:
    """A `ProtocolName`."""
    return isinstance(value, str) and value in _PROTOCOLS


def fault(value: object) -> bool:
    """A `Fault`."""
    return isinstance(value, str) and value in _FAULTS


# Every kind of connection has these two.
ENDS: Mapping[str, Fields] = {"leaving": {"reason": reason}, "error": {"fault": fault}}

MESSAGES: Mapping[str, Fields] = {
    "hello": {
        "version": number,
        "role": name,
        "protocol": protocol,
        "parameters": hexadecimal,
        "run_id": hexadecimal,
        "proposed_run_id": hexadecimal,
        "rounds": number,
        "columns": number,
        "timings": numbers,
        "timings_digest": hexadecimal,
    },
    "run": {"run_id": hexadecimal},
    "batch_ready": {"first": number, "num_rounds": number},
    "batch_begun": {"first": number, "num_rounds": number},
    "stop": {"round": number, "reason": reason},
    "batch_done": {"rounds": number, "reason": reason},
    "columns": {
        "first": number,
        "sent": hexadecimal,
        "received": hexadecimal,
        "end_token": hexadecimal,
        "lost": hexadecimal,
        "herald_pattern": hexadecimal,
    },
    "finish": {"rounds": number},
    # Of runs that make no key only, see `outcome_sharing`.
    "shared_rounds": {
        "first": number,
        "settings": hexadecimal,
        "outcomes": hexadecimal,
        "lost": hexadecimal,
        "timestamps": hexadecimal,
        "edges": hexadecimal,
        "patterns": hexadecimal,
    },
    **ENDS,
}


def encoded(messages: Mapping[str, Fields], kind: str, fields: Mapping[str, object]) -> bytes:
    """JSON text of one message; ValueError if the other node would refuse it."""
    if not _fit(fields, messages[kind]):
        raise ValueError(
            f"message {kind!r} takes the fields {', '.join(messages[kind])}, as `messages` has them"
        )
    text = json.dumps({"kind": kind, **fields}).encode()
    if len(text) > MAX_MESSAGE_BYTES:
        raise ValueError(f"message {kind!r} has {len(text)} bytes, above the limit of {MAX_MESSAGE_BYTES}")
    return text


def decoded(messages: Mapping[str, Fields], text: bytes) -> Message:
    """The message of a JSON text; RemoteProtocolError if it is none. Nothing of the text is repeated."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise RemoteProtocolError("what the other node sent is not JSON") from None
    if not isinstance(message, dict):
        raise RemoteProtocolError("what the other node sent is no message")
    kind = message.pop("kind", None)
    if not isinstance(kind, str) or kind not in messages:
        raise RemoteProtocolError("a message of unknown kind came from the other node")
    if not _fit(message, messages[kind]):
        raise RemoteProtocolError(f"a {kind!r} message has wrong fields")
    return {"kind": kind, **message}


def _fit(fields: Mapping[str, object], checks: Fields) -> bool:
    return fields.keys() == checks.keys() and all(checks[key](value) for key, value in fields.items())
