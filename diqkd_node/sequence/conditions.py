"""Why a node left a batch: the codes that the kernel reports, and their public names."""

RUNNING = 0
LOCK_LOST = 1
ION_LOST = 2
TYPE_MISSING = 3
TOO_MANY_UNDERFLOWS = 4
UNDERFLOW_BEFORE_TYPE = 5

CONDITION_NAMES = {
    RUNNING: "running",
    LOCK_LOST: "674 nm laser not locked",
    ION_LOST: "ion lost",
    TYPE_MISSING: "round type not received",
    TOO_MANY_UNDERFLOWS: "too many RTIO underflows",
    UNDERFLOW_BEFORE_TYPE: "RTIO underflow before the round type",
}
