"""`diqkd kasli`: a core device in software, on a loopback address."""

from __future__ import annotations

import argparse
import ipaddress
import logging
import runpy
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from diqkd_postproc.protocol.errors import DiqkdError, ParameterError
from diqkd_postproc.protocol.roles import ROLES
from diqkd_postproc.signals import stop_on_signals


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device-db",
        type=Path,
        required=True,
        help="hardware device database whose core has a loopback address",
    )
    parser.add_argument("--host", help="address to listen on instead of that in the device database")
    behind = parser.add_mutually_exclusive_group()
    behind.add_argument(
        "--loopback",
        nargs="*",
        metavar="OUT=IN",
        help="no laboratory: outputs that cables lead to inputs, by their names in the device database",
    )
    behind.add_argument("--laboratory", metavar="HOST:PORT", help="the simulated laboratory")
    parser.add_argument("--role", choices=ROLES, help="whose crate this is, in a laboratory")
    parser.set_defaults(handler=run)


def run(arguments: Namespace) -> None:
    """`diqkd kasli`: serve until SIGINT or SIGTERM."""
    from sim_devices.engines.kasli import missing

    if (reason := missing()) is not None:
        raise ParameterError(reason)
    from sim_devices.engines.cpu_model import CpuModel
    from sim_devices.engines.kasli.core import power_up
    from sim_devices.engines.kasli.server import Kasli

    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    entries = _entries(arguments.device_db)
    core = entries["core"].get("arguments", {})
    address = _loopback_address(arguments.host or core.get("host"), arguments.device_db)
    apparatus = _apparatus(arguments, entries)
    coarse_mu = core.get("ref_multiplier", 8)
    try:
        kasli = Kasli(address, lambda: power_up(entries, apparatus, CpuModel(), coarse_mu))
    except OSError as error:
        raise DiqkdError(
            f"the ports 1380 to 1383 of {address} cannot be had ({error}); end what uses them, or choose "
            "another address, such as 127.0.0.2, in the device database or with --host"
        ) from None
    with stop_on_signals() as stop:
        print(f"core device at {address}, ports 1380 to 1383", file=sys.stderr, flush=True)
        stop.wait()
    kasli.close()


def _entries(path: Path) -> dict[str, Any]:
    try:
        entries = runpy.run_path(str(path))["device_db"]
    except KeyError:
        raise ParameterError(f"{path} defines no `device_db`") from None
    except Exception as error:
        raise ParameterError(f"device database {path}: {type(error).__name__}: {error}") from None
    if not isinstance(entries, dict) or not isinstance(entries.get("core"), dict):
        raise ParameterError(f"the device database {path} has no entry `core`")
    return entries


def _loopback_address(address: str | None, path: Path) -> str:
    try:
        if address is not None and ipaddress.ip_address(address).is_loopback:
            return address
    except ValueError:
        pass
    raise ParameterError(
        f"the core of {path} has the host {address!r}, which is no loopback address; change it there, or "
        "give one with --host, such as 127.0.0.2"
    )


def _apparatus(arguments: Namespace, entries: dict[str, Any]) -> Any:
    from sim_devices.engines.kasli.cables import Cables

    if arguments.loopback is not None:
        cables = {}
        for text in arguments.loopback:
            source, separator, target = text.partition("=")
            for key in (source, target):
                if not separator or key not in entries:
                    raise ParameterError(
                        f"cable {text!r}: OUT=IN is needed, with two names of {arguments.device_db}"
                    )
            cables[source] = target
        return Cables(cables)
    if arguments.role is None:
        raise ParameterError(
            "give --role alice or --role bob for the crate of a node, or --loopback for cables only"
        )
    from sim_devices.apparatus.node_apparatus import NodeApparatus

    return NodeApparatus(role=arguments.role, laboratory=arguments.laboratory)
