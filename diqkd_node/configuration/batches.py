"""The loop of batches around the rounds, and the watch over the ion."""

from typing import Annotated, Self

from pydantic import model_validator

from diqkd_node.configuration.quantities import Count, HostTime, Integer, PhotonCount, Step, within


class IonWatchParameters(Step):
    """The ion is looked at every `check_rounds`. One ion gives more counts in a cooling time than `threshold`
    and at most `upper_threshold`, which lies between the means of one ion and of two."""

    check_rounds: Count = 20
    threshold: PhotonCount = 15
    upper_threshold: PhotonCount = 108

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.upper_threshold <= self.threshold:
            raise ValueError(
                f"upper_threshold={self.upper_threshold} is not above threshold={self.threshold}; one ion's "
                "counts lie between them"
            )
        return self


class BatchParameters(Step):
    """chunk_rounds: rounds sent to the host at a time; check_interval: between two questions to the host;
    recovery_interval: between two looks while laser or ion are away; max_underflows: in a batch, since more
    of them point at times that this machine cannot keep."""

    chunk_rounds: Count = 50
    check_interval: HostTime = 0.2
    recovery_interval: HostTime = 0.1
    max_underflows: Annotated[Integer, within(0, 10_000)] = 20
