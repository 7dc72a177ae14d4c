"""Direct calls between kernels while one runs.

A kernel that calls `self.cooling.run()` would go through the decorator and the core device at every call. So
when the outermost kernel starts, every object that it can reach and that has kernels gets, as instance
attributes, the transformed functions bound to it; when it ends, they are taken away. Host functions get a
wrapper that charges the CPU time of a remote procedure call. numpy scalars in attributes become Python
numbers for the time of the run, because a numpy integer on the timeline would make all arithmetic slow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import FunctionType, MethodType
from typing import Any

import numpy

from sim_devices.engines.host.timeline import Timeline
from sim_devices.engines.host.transform import on_timeline

_PLAIN = (int, float, complex, str, bytes, bytearray, type(None), numpy.ndarray)


class KernelTable:
    """Transformed functions of one core device, made on first use."""

    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline
        self._functions: dict[FunctionType, Callable[..., Any]] = {}
        self._classes: dict[type, dict[str, Any] | None] = {}

    def function(self, kernel: Any) -> Callable[..., Any]:
        """The transformed function of something decorated with @kernel or @portable."""
        source = kernel.artiq_embedded.function
        transformed = self._functions.get(source)
        if transformed is None:
            if not isinstance(source, FunctionType):
                raise ValueError("the host engine runs kernels written as functions, not as strings")
            transformed = self._functions[source] = on_timeline(source, self.timeline)
        return transformed

    def members(self, cls: type) -> dict[str, Any] | None:
        """Functions of a class by name; None for a class where none is marked for or against kernels."""
        if cls not in self._classes:
            self._classes[cls] = self._find_members(cls)
        return self._classes[cls]

    @staticmethod
    def _find_members(cls: type) -> dict[str, Any] | None:
        found: dict[str, Any] = {}
        for base in reversed(cls.__mro__[:-1]):
            found.update(vars(base))
        functions = {
            name: item
            for name, item in found.items()
            if isinstance(item, FunctionType) and not (name.startswith("__") and name.endswith("__"))
        }
        return functions if any(hasattr(item, "artiq_embedded") for item in functions.values()) else None


class Shadow:
    """The instance attributes put in place for one run of an outermost kernel."""

    def __init__(self, core: Any, table: KernelTable) -> None:
        self.core = core
        self.table = table
        self._seen: dict[int, Any] = {}
        self._added: list[tuple[dict[str, Any], str]] = []
        self._numbers: list[tuple[dict[str, Any], str, Any, Any]] = []

    def adopt(self, root: Any) -> None:
        """Shadow `root` and all objects with kernels that are reachable from its attributes."""
        pending = [root]
        while pending:
            instance = pending.pop()
            attributes = getattr(instance, "__dict__", None)
            if attributes is None or id(instance) in self._seen:
                continue
            members = self.table.members(type(instance))
            if members is None:
                continue
            self._seen[id(instance)] = instance
            for name, value in list(attributes.items()):
                if isinstance(value, numpy.generic):
                    attributes[name] = number = value.item()
                    self._numbers.append((attributes, name, value, number))
                elif isinstance(value, list | tuple):
                    pending += self._objects(value)
                elif not isinstance(value, _PLAIN):
                    pending.append(value)
            for name, function in members.items():
                if name not in attributes:
                    shadow = self._shadow(instance, function)
                    if shadow is not None:
                        attributes[name] = shadow
                        self._added.append((attributes, name))

    @staticmethod
    def _objects(sequence: Iterable[Any]) -> list[Any]:
        first = next(iter(sequence), None)
        return [] if isinstance(first, _PLAIN) else list(sequence)

    def _shadow(self, instance: Any, function: FunctionType) -> Callable[..., Any] | None:
        record = getattr(function, "artiq_embedded", None)
        if record is None:
            return self._remote_call(MethodType(function, instance), "rpc_mu")
        if record.forbidden:
            return None
        if record.portable:
            return MethodType(self.table.function(function), instance)
        if record.core_name is None:
            cost = "async_rpc_mu" if "async" in record.flags else "rpc_mu"
            return self._remote_call(MethodType(function, instance), cost)
        if getattr(instance, record.core_name, None) is not self.core:
            return None
        return MethodType(self.table.function(function), instance)

    def _remote_call(self, method: Callable[..., Any], cost: str) -> Callable[..., Any]:
        timeline = self.table.timeline
        cost_mu = getattr(timeline.model, cost)

        def call(*args: Any, **kwargs: Any) -> Any:
            # set, not added: host functions that call each other cross the wire only once
            after = timeline.cpu + cost_mu
            # the kernel may go on to change a list that it has sent
            result = method(*[item[:] if type(item) is list else item for item in args], **kwargs)
            timeline.cpu = after
            return result.item() if isinstance(result, numpy.generic) else result

        return call

    def remove(self) -> None:
        """Leave every object as it was, apart from what the kernel itself changed."""
        for attributes, name in self._added:
            attributes.pop(name, None)
        for attributes, name, original, number in self._numbers:
            if name in attributes:
                value = attributes[name]
                attributes[name] = original if value is number else type(original)(value)
