"""Reasons to leave a batch and of lost outcomes: codes that the kernel reports, and their public names."""

RUNNING = 0
LOCK_LOST = 1
ION_LOST = 2
TYPE_MISSING = 3
TOO_MANY_FAILURES = 4

CONDITION_NAMES = {
    RUNNING: "running",
    LOCK_LOST: "674 nm laser not locked",
    ION_LOST: "ion lost",
    TYPE_MISSING: "round type not received",
    TOO_MANY_FAILURES: "too many failures of the timeline",
}

# Reasons for a lost outcome.
MEASURED = 0
NOT_ANNOUNCED = 1
UNDERFLOW = 2
OVERFLOW = 3
UNREACHABLE = 4
FAILED = 5
STOPPED = 6

LOSS_NAMES = {
    NOT_ANNOUNCED: "no round type came",
    UNDERFLOW: "RTIO underflow",
    OVERFLOW: "RTIO input overflow",
    UNREACHABLE: "RTIO destination unreachable",
    FAILED: "an exception of the kernel",
    STOPPED: "the kernel was stopped",
}
