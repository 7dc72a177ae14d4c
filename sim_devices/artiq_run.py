"""Stand-in for `artiq_run`: runs one experiment file on a device_db, with or without ARTIQ installed.

The managers that an experiment sees (devices, datasets, arguments, the scheduler) are here. Datasets live in
memory: those marked `broadcast` are also handed to `dataset_sink` as they change, and nothing is written.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import logging
import runpy
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from artiq.language.core import TerminationRequested as TerminationRequested
from artiq.language.core import host_only
from artiq.language.environment import DefaultMissing, is_public_experiment

from diqkd_postproc.protocol.errors import ParameterError

logger = logging.getLogger(__name__)

DatasetSink = Callable[[str, Any], None]
_NAMES = {"true": True, "false": False, "null": None, "nan": float("nan"), "inf": float("inf")}


class DeviceError(ParameterError):
    """A device is missing from the device_db, or its driver could not be made."""


class DeviceDatabase:
    """The entries of a device_db file."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            contents = runpy.run_path(str(self.path))
        except FileNotFoundError as error:
            raise DeviceError(f"device_db {self.path} not found") from error
        if not isinstance(contents.get("device_db"), dict):
            raise DeviceError(f"{self.path} does not define a dictionary `device_db`")
        self.entries: dict[str, Any] = contents["device_db"]

    def resolve(self, name: str) -> str:
        """The name that an alias stands for in the end."""
        aliases = [name]
        while isinstance(self.entries.get(name), str):
            name = self.entries[name]
            if name in aliases:
                raise DeviceError(f"alias {aliases[0]!r} in {self.path} leads back to itself")
            aliases.append(name)
        if name not in self.entries:
            alias = f" (for which {aliases[0]!r} stands)" if len(aliases) > 1 else ""
            known = ", ".join(sorted(self.entries))
            raise DeviceError(f"no device {name!r}{alias} in {self.path}; it has: {known}")
        return name


class DeviceManager:
    """Makes drivers on first use, and closes them in the opposite order."""

    def __init__(self, database: DeviceDatabase, virtual_devices: Mapping[str, Any] | None = None) -> None:
        self.database = database
        self.virtual_devices = dict(virtual_devices or {})
        self._active: dict[str, Any] = {}
        self._under_way: list[str] = []

    def get_device_db(self) -> dict[str, Any]:
        """All entries."""
        return self.database.entries

    def get_desc(self, name: str) -> dict[str, Any]:
        """The entry of a device, aliases resolved."""
        description: dict[str, Any] = self.database.entries[self.database.resolve(name)]
        return description

    def get(self, name: str) -> Any:
        """The driver of a device."""
        if name in self.virtual_devices:
            return self.virtual_devices[name]
        name = self.database.resolve(name)
        if name not in self._active:
            if name in self._under_way:
                raise DeviceError(f"device {name!r} in {self.database.path} needs itself")
            self._under_way.append(name)
            try:
                self._active[name] = self._make(name, self.database.entries[name])
            finally:
                self._under_way.remove(name)
        return self._active[name]

    def _make(self, name: str, description: Any) -> Any:
        where = f"device {name!r} in {self.database.path}"
        kind = description.get("type") if isinstance(description, dict) else None
        if kind == "dummy":
            return object()
        if kind == "controller":
            return self._connect(where, description)
        if kind != "local":
            raise DeviceError(f"{where} has type {kind!r}; supported are local, controller and dummy")
        try:
            module = importlib.import_module(description["module"])
        except ImportError as error:
            raise DeviceError(f"{where}: cannot import module {description['module']!r}: {error}") from error
        driver = getattr(module, description["class"], None)
        if driver is None:
            raise DeviceError(
                f"{where}: module {description['module']!r} has no class {description['class']!r}"
            )
        try:
            return driver(self, **description.get("arguments", {}))
        except (TypeError, ValueError) as error:
            raise DeviceError(f"{where}: {driver.__name__}: {error}") from error

    @staticmethod
    def _connect(where: str, description: dict[str, Any]) -> Any:
        try:
            from sipyco.pc_rpc import AutoTarget, BestEffortClient, Client
        except ImportError as error:
            raise DeviceError(f"{where} is a controller, for which sipyco must be installed") from error
        client = BestEffortClient if description.get("best_effort", False) else Client
        target = description.get("target_name") or AutoTarget
        return client(description["host"], description["port"], target)

    def notify_run_end(self) -> None:
        """Tell the drivers that the run stage is over."""
        for device in self._active.values():
            if hasattr(device, "notify_run_end"):
                device.notify_run_end()

    def close_devices(self) -> None:
        """Close all drivers; a failure is logged and does not keep the others open."""
        for name, device in reversed(self._active.items()):
            close = getattr(device, "close_rpc", None) or getattr(device, "close", None)
            if close is not None:
                try:
                    close()
                except Exception:
                    logger.warning("closing device %s failed", name, exc_info=True)
        self._active.clear()


class DatasetManager:
    """Datasets in memory."""

    def __init__(self, sink: DatasetSink | None = None) -> None:
        self.local: dict[str, Any] = {}
        self.metadata: dict[str, Any] = {}
        self._broadcast: set[str] = set()
        self._sink = sink

    def set(
        self, key: str, value: Any, metadata: Any, broadcast: bool, persist: bool, archive: bool = True
    ) -> None:
        self.local[key] = value
        self.metadata[key] = metadata
        if broadcast or persist:
            self._broadcast.add(key)
        else:
            self._broadcast.discard(key)
        self._publish(key)

    def _publish(self, key: str) -> None:
        if self._sink is not None and key in self._broadcast:
            self._sink(key, self.local[key])

    def mutate(self, key: str, index: Any, value: Any) -> None:
        if isinstance(index, tuple):
            index = tuple(slice(*i) for i in index) if isinstance(index[0], tuple) else slice(*index)
        self.local[key][index] = value
        self._publish(key)

    def append_to(self, key: str, value: Any) -> None:
        self.local[key].append(value)
        self._publish(key)

    def get(self, key: str, archive: bool = False) -> Any:
        return self.local[key]

    def get_metadata(self, key: str) -> Any:
        return self.metadata[key]


class ArgumentManager:
    """Processes the given arguments; text becomes a number or a literal where the experiment wants one."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self._given = dict(arguments)
        self.processed: dict[str, Any] = {}

    def get(self, key: str, processor: Any, group: str | None = None, tooltip: str | None = None) -> Any:
        if key not in self._given:
            try:
                self.processed[key] = processor.default()
            except DefaultMissing:
                raise ParameterError(f"argument {key!r} is missing and has no default") from None
            return self.processed[key]
        given = self._given[key]
        if isinstance(given, str) and type(processor).__name__ not in ("StringValue", "EnumerationValue"):
            given = literal(given)
        try:
            value = processor.process(given)
        except (TypeError, ValueError, SyntaxError) as error:
            choices = getattr(processor, "choices", None)
            remedy = f"choose one of {', '.join(choices)}" if choices else str(error)
            raise ParameterError(f"argument {key!r} cannot be {given!r}: {remedy}") from error
        self._check_range(key, value, processor)
        self.processed[key] = value
        return value

    @staticmethod
    def _check_range(key: str, value: Any, processor: Any) -> None:
        lowest, highest = getattr(processor, "min", None), getattr(processor, "max", None)
        if (lowest is not None and value < lowest) or (highest is not None and value > highest):
            limits = f"{'' if lowest is None else lowest} to {'' if highest is None else highest}"
            raise ParameterError(f"argument {key!r} is {value}; the allowed range is {limits}")

    def get_interactive(self, arguments: Any, title: str) -> Any:
        raise NotImplementedError("interactive arguments need a dashboard")

    def check_unprocessed_arguments(self) -> None:
        """Refuse arguments that the experiment did not ask for."""
        unknown = sorted(self._given.keys() - self.processed.keys())
        if unknown:
            raise ParameterError(
                f"the experiment has no argument {', '.join(map(repr, unknown))}; "
                f"it has: {', '.join(sorted(self.processed))}"
            )


class Scheduler:
    """The device "scheduler" of the one experiment that runs."""

    def __init__(self, stop_requested: Callable[[], bool] | None = None, rid: int = 0) -> None:
        self.rid = rid
        self.pipeline_name = "main"
        self.priority = 0
        self.expid: dict[str, Any] = {}
        self._stop_requested = stop_requested or (lambda: False)

    def check_pause(self, rid: int | None = None) -> bool:
        """True if `pause` should be called."""
        return bool(self._stop_requested())

    @host_only
    def pause(self) -> None:
        """Raise `TerminationRequested` if the run is to end; there is nobody else to make way for."""
        if self._stop_requested():
            raise TerminationRequested

    def get_status(self) -> dict[int, dict[str, Any]]:
        own = {"pipeline": self.pipeline_name, "expid": self.expid, "priority": self.priority}
        return {self.rid: own | {"status": "running", "due_date": None, "flush": False}}

    def submit(self, *args: Any, **kwargs: Any) -> int:
        raise NotImplementedError("submitting experiments needs a master")

    def delete(self, rid: int) -> None:
        raise NotImplementedError("deleting experiments needs a master")

    def request_termination(self, rid: int) -> None:
        raise NotImplementedError("terminating other experiments needs a master")


class ClientControlBroadcast:
    """The device "ccb": there is no dashboard that would listen."""

    def issue(self, service: str, *args: Any, **kwargs: Any) -> None:
        logger.debug("broadcast %s", service)


def literal(text: str) -> Any:
    """The value of a literal; text that is none stays text."""
    if text in _NAMES:
        return _NAMES[text]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def parse_arguments(arguments: Iterable[str]) -> dict[str, Any]:
    """Arguments in the form KEY=VALUE; a value that is no literal is text: `role=alice`."""
    result: dict[str, Any] = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not key or not equals:
            raise ParameterError(f"argument {argument!r} does not have the form KEY=VALUE")
        result[key] = literal(value)
    return result


def load_experiment(file: str | Path, class_name: str | None = None) -> type[Any]:
    """The experiment class of a file; `class_name` is needed only if it has several."""
    path = Path(file).resolve()
    if not path.is_file():
        raise ParameterError(f"experiment file {path} not found")
    module = _import_file(path)
    found: dict[str, type[Any]] = {
        name: item
        for name, item in vars(module).items()
        if is_public_experiment(item) and item.__module__ == module.__name__
    }
    if class_name is None and len(found) == 1:
        return next(iter(found.values()))
    if class_name not in found:
        wanted = "no class name was given" if class_name is None else f"no experiment {class_name!r}"
        raise ParameterError(f"{wanted}; {path.name} has: {', '.join(sorted(found)) or 'none'}")
    return found[class_name]


def _import_file(path: Path) -> ModuleType:
    name = f"artiq_run_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ParameterError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module


def run_experiment(
    file: str | Path,
    class_name: str | None,
    device_db_path: str | Path,
    arguments: Mapping[str, Any],
    dataset_sink: DatasetSink | None = None,
    stop_requested: Callable[[], bool] | None = None,
    rid: int = 0,
) -> None:
    """Build, prepare, run and analyze an experiment; its exceptions come through unchanged.

    :param arguments: by name; text is taken as a literal where the experiment wants a number
    :param dataset_sink: called with (key, value) at every change of a broadcast dataset
    :param stop_requested: asked by the scheduler; if true, `pause` raises `TerminationRequested`, which
        comes through too if the experiment does not catch it
    :raises ParameterError: for a missing file, class, argument or device (`DeviceError`)
    """
    scheduler = Scheduler(stop_requested, rid)
    scheduler.expid = {"file": str(file), "class_name": class_name, "arguments": dict(arguments)}
    virtual_devices = {"scheduler": scheduler, "ccb": ClientControlBroadcast()}
    device_manager = DeviceManager(DeviceDatabase(device_db_path), virtual_devices)
    argument_manager = ArgumentManager(arguments)
    experiment_class = load_experiment(file, class_name)
    try:
        experiment = experiment_class((device_manager, DatasetManager(dataset_sink), argument_manager, {}))
        argument_manager.check_unprocessed_arguments()
        experiment.prepare()
        experiment.run()
        device_manager.notify_run_end()
        experiment.analyze()
    finally:
        device_manager.close_devices()
