"""Stand-in for `artiq_master`: pipelines, priorities and datasets of simulated nodes' experiments.

Experiments of a pipeline run one at a time, the one of highest priority first. One that calls
`scheduler.pause` makes way for those of higher priority, which then run inside that call, on the same
devices. Pipelines run side by side, each in a thread; only "main" uses the core device, and it runs in the
thread that calls `run`. Broadcast datasets are shared by all experiments.

    python -m sim_devices.artiq_master --device-db device_db/alice_sim.py repository/lab_day.py role=alice …
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from artiq.language.core import TerminationRequested, host_only

from diqkd_postproc.protocol.errors import DiqkdError, ParameterError
from sim_devices.artiq_run import (
    ArgumentManager,
    ClientControlBroadcast,
    DatasetManager,
    DatasetSink,
    DeviceDatabase,
    DeviceManager,
    load_experiment,
    parse_arguments,
)

logger = logging.getLogger(__name__)

MAIN = "main"


@dataclass
class _Run:
    """An experiment in the schedule."""

    rid: int
    pipeline: str
    expid: dict[str, Any]
    priority: int
    status: str = "pending"
    termination_requested: bool = False


@dataclass
class _Pipeline:
    name: str
    waiting: list[_Run] = field(default_factory=list)
    thread: threading.Thread | None = None


class SharedDatasets(DatasetManager):
    """Datasets of one experiment; those that others broadcast are read through it."""

    def __init__(self, master: SimulatedMaster) -> None:
        super().__init__(master.take_dataset)
        self._master = master

    def get(self, key: str, archive: bool = False) -> Any:
        return self.local[key] if key in self.local else self._master.datasets[key]


class MasterScheduler:
    """The device "scheduler" of one experiment."""

    def __init__(self, master: SimulatedMaster, run: _Run) -> None:
        self._master = master
        self._run = run
        self.rid = run.rid
        self.pipeline_name = run.pipeline
        self.priority = run.priority
        self.expid = run.expid

    def check_pause(self, rid: int | None = None) -> bool:
        """True if `pause` should be called."""
        return self._master.should_pause(self._run)

    @host_only
    def pause(self) -> None:
        """Run what has a higher priority; TerminationRequested if this run is to end."""
        self._master.pause(self._run)

    def get_status(self) -> dict[int, dict[str, Any]]:
        """Experiments in the schedule, by number."""
        return self._master.status()

    def submit(
        self,
        pipeline_name: str | None = None,
        expid: dict[str, Any] | None = None,
        priority: int | None = None,
        due_date: float | None = None,
        flush: bool = False,
    ) -> int:
        """Put an experiment into the schedule; returns its number."""
        if due_date is not None or flush:
            raise NotImplementedError("the simulated master knows neither due dates nor flushing")
        return self._master.submit(
            self.pipeline_name if pipeline_name is None else pipeline_name,
            self.expid if expid is None else expid,
            self.priority if priority is None else priority,
        )

    def delete(self, rid: int) -> None:
        """As `request_termination`: threads cannot be killed."""
        self._master.request_termination(rid)

    def request_termination(self, rid: int) -> None:
        """Ask an experiment to end; one that has not begun is taken out of the schedule."""
        self._master.request_termination(rid)


class SimulatedMaster:
    """Schedules experiments of one node.

    :param device_db: file of the node's devices
    :param dataset_sink: called with (key, value) at every change of a broadcast dataset
    :param stop_requested: asked now and then; once true, every experiment is asked to terminate
    """

    def __init__(
        self,
        device_db: str | Path,
        dataset_sink: DatasetSink | None = None,
        stop_requested: Callable[[], bool] | None = None,
    ) -> None:
        self.datasets: dict[str, Any] = {}
        self.failures: list[tuple[int, BaseException]] = []
        self._sink = dataset_sink
        self._stop_requested = stop_requested or (lambda: False)
        self._drivers = DeviceManager(DeviceDatabase(device_db))
        self._device_lock = threading.RLock()
        self._changed = threading.Condition(threading.RLock())
        self._pipelines: dict[str, _Pipeline] = {}
        self._runs: dict[int, _Run] = {}
        self._next_rid = 0

    def take_dataset(self, key: str, value: Any) -> None:
        """A broadcast dataset has changed."""
        self.datasets[key] = value
        if self._sink is not None:
            self._sink(key, value)

    def submit(self, pipeline_name: str, expid: Mapping[str, Any], priority: int = 0) -> int:
        """Put an experiment into the schedule; returns its number."""
        with self._changed:
            run = _Run(self._next_rid, pipeline_name, dict(expid), priority)
            self._next_rid += 1
            self._runs[run.rid] = run
            pipeline = self._pipelines.setdefault(pipeline_name, _Pipeline(pipeline_name))
            pipeline.waiting.append(run)
            if pipeline_name != MAIN and pipeline.thread is None:
                pipeline.thread = threading.Thread(
                    target=self._serve, args=(pipeline,), name=f"pipeline {pipeline_name}", daemon=True
                )
                pipeline.thread.start()
            self._changed.notify_all()
            return run.rid

    def run(self) -> None:
        """Serve the main pipeline, in this thread, until the schedule is empty; then close the devices.

        The first exception of an experiment in another pipeline is raised at the end.
        """
        try:
            while True:
                run = self._take(self._pipelines.setdefault(MAIN, _Pipeline(MAIN)))
                if run is None:
                    break
                self._execute(run)
        finally:
            self._drivers.close_devices()

    def status(self) -> dict[int, dict[str, Any]]:
        """Experiments in the schedule, by number."""
        with self._changed:
            return {
                rid: {
                    "pipeline": run.pipeline,
                    "expid": run.expid,
                    "priority": run.priority,
                    "status": run.status,
                    "due_date": None,
                    "flush": False,
                }
                for rid, run in self._runs.items()
            }

    def request_termination(self, rid: int) -> None:
        """Ask an experiment to end; one that has not begun is taken out of the schedule."""
        with self._changed:
            run = self._runs.get(rid)
            if run is None:
                return
            run.termination_requested = True
            waiting = self._pipelines[run.pipeline].waiting
            if run in waiting:
                waiting.remove(run)
                del self._runs[rid]
            self._changed.notify_all()

    def should_pause(self, run: _Run) -> bool:
        """Whether a run is to end, or another of its pipeline has a higher priority."""
        if run.termination_requested or self._stop_requested():
            return True
        with self._changed:
            return any(other.priority > run.priority for other in self._pipelines[run.pipeline].waiting)

    def pause(self, run: _Run) -> None:
        """Within a run: those of higher priority first; TerminationRequested if it is to end."""
        while not run.termination_requested and not self._stop_requested():
            following = self._next(self._pipelines[run.pipeline], above=run.priority)
            if following is None:
                return
            run.status = "paused"
            try:
                self._execute(following)
            finally:
                run.status = "running"
        raise TerminationRequested

    def _next(self, pipeline: _Pipeline, above: float = float("-inf")) -> _Run | None:
        with self._changed:
            ready = [run for run in pipeline.waiting if run.priority > above]
            if not ready:
                return None
            run = max(ready, key=lambda run: (run.priority, -run.rid))
            pipeline.waiting.remove(run)
            return run

    def _take(self, pipeline: _Pipeline) -> _Run | None:
        """The next experiment, waiting while other pipelines may submit one; None at the end."""
        while not self._stop_requested():
            run = self._next(pipeline)
            if run is not None:
                return run
            with self._changed:
                if not self._runs:
                    return None
                self._changed.wait(0.1)
        self._end_all()
        return None

    def _end_all(self) -> None:
        """Take out what waits, and wait for what runs beside this pipeline; each was asked to terminate."""
        with self._changed:
            threads = [pipeline.thread for pipeline in self._pipelines.values() if pipeline.thread]
            for rid in list(self._runs):
                self.request_termination(rid)
        for thread in threads:
            thread.join()

    def _serve(self, pipeline: _Pipeline) -> None:
        while True:
            with self._changed:
                run = self._next(pipeline)
                if run is None:
                    pipeline.thread = None
                    return
            self._execute(run)

    def _execute(self, run: _Run) -> None:
        """One experiment from build to analyze; a failure is logged and kept."""
        run.status = "running"
        try:
            self._experiment(run)
        except TerminationRequested:
            logger.info("experiment %d was terminated", run.rid)
        except (Exception, SystemExit) as error:
            self.failures.append((run.rid, error))
            logger.error("experiment %d (%s) failed: %s", run.rid, Path(run.expid["file"]).name, error)
            if not isinstance(error, DiqkdError):
                logger.error("traceback of experiment %d", run.rid, exc_info=error)
        finally:
            with self._changed:
                del self._runs[run.rid]
                self._changed.notify_all()

    def _experiment(self, run: _Run) -> None:
        virtual_devices = {"scheduler": MasterScheduler(self, run), "ccb": ClientControlBroadcast()}
        devices = _RunDevices(self._drivers, self._device_lock, virtual_devices)
        arguments = ArgumentManager(run.expid.get("arguments", {}))
        experiment_class = load_experiment(run.expid["file"], run.expid.get("class_name"))
        experiment = experiment_class((devices, SharedDatasets(self), arguments, {}))
        arguments.check_unprocessed_arguments()
        experiment.prepare()
        experiment.run()
        experiment.analyze()


class _RunDevices:
    """The devices of one experiment: its own scheduler, and the drivers that all share."""

    def __init__(self, drivers: DeviceManager, lock: Any, virtual_devices: Mapping[str, Any]) -> None:
        self._drivers = drivers
        self._lock = lock
        self._virtual_devices = virtual_devices

    def get_device_db(self) -> dict[str, Any]:
        """All entries."""
        return self._drivers.get_device_db()

    def get_desc(self, name: str) -> dict[str, Any]:
        """The entry of a device, aliases resolved."""
        return self._drivers.get_desc(name)

    def get(self, name: str) -> Any:
        """The driver of a device."""
        if name in self._virtual_devices:
            return self._virtual_devices[name]
        with self._lock:
            return self._drivers.get(name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Submit one experiment and serve until it, and all that it submits, has ended.

    Datasets go to stderr as they change, one JSON object a line; failures to stdout at the end.
    """
    parser = argparse.ArgumentParser(
        prog="python -m sim_devices.artiq_master", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--device-db", required=True, type=Path)
    parser.add_argument("--pipeline", default="lab_day", help="of the experiment (default: lab_day)")
    parser.add_argument("--log", type=Path, help="file for messages (default: stderr)")
    parser.add_argument("experiment", type=Path)
    parser.add_argument("arguments", nargs="*", metavar="NAME=VALUE")
    options = parser.parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s:%(name)s:%(message)s", filename=options.log
    )

    def show(key: str, value: Any) -> None:
        plain = value.tolist() if hasattr(value, "tolist") else value
        print(json.dumps({"dataset": key, "value": plain}), file=sys.stderr, flush=True)

    from diqkd_postproc.signals import stop_on_signals

    with stop_on_signals() as stop:
        try:
            master = SimulatedMaster(options.device_db, show, stop.is_set)
            given = parse_arguments(options.arguments)
        except ParameterError as error:
            parser.error(str(error))
        expid = {"file": str(options.experiment), "class_name": None, "arguments": given}
        rid = master.submit(options.pipeline, expid)
        master.run()
    failed = dict(master.failures)
    if rid in failed:
        print(f"{options.experiment.name}: {failed[rid]}", file=sys.stderr)
        failure = failed[rid]
        return failure.exit_code if isinstance(failure, DiqkdError) else 1
    print(json.dumps({"failures": [str(error) for _, error in master.failures]}))
    return 130 if stop.is_set() else 0


if __name__ == "__main__":
    sys.exit(main())
