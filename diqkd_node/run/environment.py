"""Environment of an experiment: full paths in its arguments, and the clock of its laboratory."""

import time
from collections.abc import Callable
from pathlib import Path

from artiq.experiment import HasEnvironment

from diqkd_postproc.protocol.errors import ParameterError


def path_argument(experiment: HasEnvironment, name: str) -> Path:
    """Path in the argument `name`; ParameterError if it is empty, or relative under artiq_master, which gives
    every run a folder of its own: there a relative path would name another file each time."""
    text = getattr(experiment, name)
    path = Path(text).expanduser()
    under_master = "log_level" in experiment.scheduler.expid
    if not text or (under_master and not path.is_absolute()):
        raise ParameterError(f"{name}={text!r} is not a full path; it has to start with / or ~")
    return path


def check_laboratory(experiment: HasEnvironment, protocol: str) -> None:
    """Raise ParameterError for a simulated laboratory that plays another protocol. Not before `run`."""
    if "clock" in experiment.get_device_db():
        experiment.get_device("clock").check_protocol(protocol)


def clock_of(experiment: HasEnvironment) -> Callable[[], float]:
    """Unix time (s) by the device `clock`, which a simulated laboratory has, otherwise by the PC. Not before
    `run`: the device belongs to the experiment that is running."""
    return experiment.get_device("clock").now if "clock" in experiment.get_device_db() else time.time
