"""The loop of batches around the rounds, and the watch over the ion."""

from typing import Annotated

from diqkd_node.configuration.quantities import Count, HostTime, Integer, PhotonCount, Step, within


class IonWatchParameters(Step):
    """The ion is looked at every `check_rounds`; the threshold is of one cooling time."""

    check_rounds: Count = 20
    threshold: PhotonCount = 15


class BatchParameters(Step):
    """chunk_rounds: rounds sent to the host at a time; check_interval: between two questions to the host;
    recovery_interval: between two looks while laser or ion are away; max_underflows: in a batch, since more
    of them point at times that this machine cannot keep."""

    chunk_rounds: Count = 50
    check_interval: HostTime = 0.2
    recovery_interval: HostTime = 0.1
    max_underflows: Annotated[Integer, within(0, 10_000)] = 20
