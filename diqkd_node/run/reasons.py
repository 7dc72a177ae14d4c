"""Reasons that the nodes give each other: enumerated, so that no text of the other node is kept or shown."""

from enum import StrEnum

from diqkd_node.sequence import conditions


class Reason(StrEnum):
    """Why a batch ended, rounds are missing, or a node has left; public, and part of the record."""

    COMPLETE = "complete"
    AGREED = "agreed"
    PAUSE_REQUESTED = "pause requested"
    TERMINATED = "termination requested"
    INTERRUPTED = "interrupted"
    RESTARTED = "restarted"
    ERROR = "an error, see its log"
    LOCK_LOST = conditions.CONDITION_NAMES[conditions.LOCK_LOST]
    ION_LOST = conditions.CONDITION_NAMES[conditions.ION_LOST]
    TYPE_MISSING = conditions.CONDITION_NAMES[conditions.TYPE_MISSING]
    TOO_MANY_FAILURES = conditions.CONDITION_NAMES[conditions.TOO_MANY_FAILURES]


class Fault(StrEnum):
    """Why a node ends the run for both: what the other one says about it."""

    PROTOCOL = "it received a message that makes no sense there; see its log"
    VERSION = "the nodes have different versions of diqkd"
    ROLES = "both nodes have the same role"
    PARAMETERS = "the nodes have different protocol parameters"
    TIMINGS = "the nodes would not keep in step"
    RUN = "the nodes' run directories do not belong to the same run"
    CALIBRATIONS = "the nodes have different calibrations"
    LATE_LOSSES = "more outcomes are lost than the key length pays for"
    NO_HERALD = "it had no herald for too long"
