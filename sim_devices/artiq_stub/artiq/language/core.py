"""Decorators and timeline primitives of the kernel language.

The decorators leave the same record on a function as ARTIQ's (`artiq_embedded`), which is all that the host
engine looks at. The primitives do nothing by themselves: they go to the time manager that a running core
device has set.
"""

from functools import wraps
from types import SimpleNamespace

__all__ = [
    "TerminationRequested",
    "at_mu",
    "delay",
    "delay_mu",
    "host_only",
    "interleave",
    "kernel",
    "now_mu",
    "parallel",
    "portable",
    "rpc",
    "sequential",
    "set_time_manager",
]


class TerminationRequested(Exception):
    """Raised by the scheduler's `pause` when the user wants the experiment to end."""


def _embedded(function, *, core_name=None, portable=False, forbidden=False, flags=()):
    return SimpleNamespace(
        core_name=core_name,
        portable=portable,
        function=function,
        syscall=None,
        forbidden=forbidden,
        destination=None,
        flags=set(flags),
    )


def kernel(arg=None, flags=frozenset()):
    """Mark a method to run on the core device (attribute `core`, or the one named by `arg`)."""
    if arg is None:
        return lambda function: kernel(function, flags)
    if not isinstance(arg, str):
        return kernel("core", flags)(arg)

    def decorate(function):
        @wraps(function)
        def run_on_core(self, *args, **kwargs):
            return getattr(self, arg).run(run_on_core, (self, *args), kwargs)

        run_on_core.artiq_embedded = _embedded(function, core_name=arg, flags=flags)
        return run_on_core

    return decorate


def portable(arg=None, flags=frozenset()):
    """Mark a function to run wherever its caller runs."""
    if arg is None:
        return lambda function: portable(function, flags)
    arg.artiq_embedded = _embedded(arg, portable=True, flags=flags)
    return arg


def rpc(arg=None, flags=frozenset()):
    """Mark a function to run on the host, with flags such as "async"."""
    if arg is None:
        return lambda function: rpc(function, flags)
    arg.artiq_embedded = _embedded(arg, flags=flags)
    return arg


def host_only(function):
    """Mark a function that kernels must not call."""
    function.artiq_embedded = _embedded(None, forbidden=True)
    return function


class _NoTimeManager:
    """Stands in while no core device runs a kernel."""

    def _refuse(self, *args):
        raise NotImplementedError("a timeline primitive was called outside of a kernel")

    enter_sequential = enter_parallel = exit = _refuse
    take_time = take_time_mu = get_time_mu = set_time_mu = _refuse


_time_manager = _NoTimeManager()


def set_time_manager(time_manager):
    """Set the object that serves the primitives below."""
    global _time_manager
    _time_manager = time_manager


class _Sequential:
    """Statements inside follow one another."""

    def __enter__(self):
        _time_manager.enter_sequential()

    def __exit__(self, *exception):
        _time_manager.exit()


class _Parallel:
    """Statements inside start at the same time."""

    def __enter__(self):
        _time_manager.enter_parallel()

    def __exit__(self, *exception):
        _time_manager.exit()


sequential = _Sequential()
parallel = _Parallel()
interleave = _Parallel()


def delay_mu(duration):
    """Advance the cursor by `duration` machine units."""
    _time_manager.take_time_mu(duration)


def delay(duration):
    """Advance the cursor by `duration` seconds."""
    _time_manager.take_time(duration)


def now_mu():
    """The cursor, in machine units."""
    return _time_manager.get_time_mu()


def at_mu(time):
    """Put the cursor at `time`, in machine units."""
    _time_manager.set_time_mu(time)
