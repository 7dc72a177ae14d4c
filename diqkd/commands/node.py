"""`diqkd node`: an experiment file on a device database."""

from __future__ import annotations

import argparse
from argparse import Namespace
from pathlib import Path
from typing import Any

from diqkd.commands.calibration import print_calibration
from diqkd.console import ProgressDisplay, print_json
from diqkd.options.parsers import add_json, add_progress
from diqkd_postproc.machine import peak_memory_mib
from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.signals import stop_on_signals
from sim_devices.artiq_run import TerminationRequested, run_experiment


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "experiment", type=Path, help="experiment file, for example repository/key_generation.py"
    )
    parser.add_argument("arguments", nargs="*", metavar="NAME=VALUE", help="arguments of the experiment")
    parser.add_argument("--device-db", type=Path, required=True, help="device database file of this node")
    parser.add_argument("--class-name", help="experiment class (default: the only one in the file)")
    add_progress(parser)
    add_json(parser)
    parser.set_defaults(handler=run)


def run(arguments: Namespace) -> None:
    """`diqkd node`: run an experiment as artiq_run would, with graceful termination on a signal.

    Public datasets go to the progress display, and with `--json` to stdout at the end. The first SIGINT or
    SIGTERM requests termination, as `artiq_client delete --graceful` does; the second interrupts.
    """
    values = {}
    for text in arguments.arguments:
        name, separator, value = text.partition("=")
        if not separator:
            raise ParameterError(f"argument {text!r} is not NAME=VALUE")
        values[name] = value
    latest: dict[str, Any] = {}
    with ProgressDisplay(arguments.progress) as progress, stop_on_signals() as stop:

        def show(name: str, value: Any) -> None:
            latest[name] = value
            if name == "diqkd.listening":
                host, _, port = value.rpartition(":")
                progress.listening(host, int(port))
            elif name == "calibration.points_done":
                progress("points", value, latest["calibration.num_points"])
            elif name == "tomography.samples_done":
                progress("analysis", value, latest["tomography.num_samples"])
            elif name == "diqkd.rounds_done":
                rate = latest.get("diqkd.herald_rate", 0.0)
                progress("rounds", value, latest.get("diqkd.num_rounds", 0), f"{rate:,.0f} heralds/s")

        try:
            run_experiment(
                arguments.experiment,
                arguments.class_name,
                arguments.device_db,
                values,
                dataset_sink=show,
                stop_requested=stop.is_set,
            )
        except TerminationRequested:
            raise KeyboardInterrupt from None
    if arguments.json:
        public = {
            name: value.tolist() if hasattr(value, "tolist") else value for name, value in latest.items()
        }
        print_json({"datasets": public, "peak_memory_mib": peak_memory_mib()})
    else:
        for name, path in latest.items():
            if name.endswith(".result_file"):
                print_calibration(Path(path))
