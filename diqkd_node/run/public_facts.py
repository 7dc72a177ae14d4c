"""Public facts of a run: the only way from an experiment of ours to ARTIQ's datasets.

Datasets are broadcast to every client, shown in dashboards and archived; whatever is in one is public. So
there is one list of names for a key run, each with its type, and `PublicFacts` refuses everything else: a
value that is not on the list does not leave, whoever asks. None of the facts depends on an outcome or on a
setting; S and Q, which do, are on the list of a characterisation only, where outcomes are shared anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from diqkd_node.run.reasons import Reason
from diqkd_postproc.protocol.errors import DiqkdError

PREFIX = "diqkd."

NODE_STATES = frozenset(("ready", "running", "finished", "calibrating", *(reason.value for reason in Reason)))

# What protects the connection of the nodes: nothing, or a MAC under the initial key.
OPEN, AUTHENTICATED = "open", "authenticated"

# What a fact may say, where that is not any text.
WORDS: Mapping[str, frozenset[str]] = {
    "node_state": NODE_STATES,
    "connection": frozenset((OPEN, AUTHENTICATED)),
}

KEY_RUN_FACTS: Mapping[str, type] = {
    "num_rounds": int,
    "rounds_done": int,
    "herald_rate": float,  # 1/s, of the last half minute
    "herald_patterns": np.ndarray,  # (k,) int64, heralds of each pattern since the start
    "label_mismatches": int,  # heralds of which the nodes' cores saw different patterns, a statistic only
    "node_state": str,
    "ion_state": str,  # "present" or "absent"
    "ion_losses": int,
    "laser_lock": str,  # "locked" or "lost"
    "last_update_unix": float,
    "connection": str,
}

# host:port where Bob waits for Alice, if his port was 0.
ADDRESS_FACT: Mapping[str, type] = {"listening": str}

# Rows of `correlations` are blocks of rounds: when it ended (unix), S, its standard error, Q, its error.
CHARACTERISATION_FACTS: Mapping[str, type] = KEY_RUN_FACTS | {"correlations": np.ndarray}


class PrivateFactError(DiqkdError):
    """A value that is not a public fact was to be published. It was not; this is a bug, report it."""


class PublicFacts:
    """Sets the datasets of a run.

    :param set_dataset: of the experiment
    :param facts: names and types that may leave
    """

    def __init__(self, set_dataset: Callable[..., None], facts: Mapping[str, type] = KEY_RUN_FACTS) -> None:
        self._set_dataset = set_dataset
        self._facts = facts

    def publish(self, **values: Any) -> None:
        """Set datasets `diqkd.NAME`; PrivateFactError, before any is set, for what is not on the list."""
        for name, value in values.items():
            # Values stay out of the message: they are what must not leave.
            if name not in self._facts:
                raise PrivateFactError(f"{name!r} is not a public fact of this run")
            if type(value) is not self._facts[name]:
                raise PrivateFactError(
                    f"public fact {name!r} is a {self._facts[name].__name__}, not a {type(value).__name__}"
                )
            if name in WORDS and value not in WORDS[name]:
                raise PrivateFactError(f"public fact {name!r} says something that is not on its list")
        for name, value in values.items():
            self._set_dataset(PREFIX + name, value, broadcast=True)
