"""Command-line options and RPC server (sipyco) of the controllers.

sipyco comes with ARTIQ. It is imported when a controller runs, so that the classes of the controllers can be
tested without it.
"""

import argparse
import ipaddress
import logging
import sys
from collections.abc import Callable
from typing import Any

from diqkd_postproc.protocol.errors import DiqkdError

logger = logging.getLogger(__name__)


def argument_parser(description: str, default_port: int) -> argparse.ArgumentParser:
    """Parser with the options that every controller has; ends the program if sipyco is missing."""
    try:
        from sipyco import common_args
    except ImportError:
        print(
            "sipyco is not installed; it comes with ARTIQ (https://m-labs.hk/artiq/manual/installing.html)",
            file=sys.stderr,
        )
        raise SystemExit(2) from None
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    common_args.simple_network_args(parser, default_port)
    common_args.verbosity_args(parser)
    parser.add_argument("--simulation", action="store_true", help="simulate the device")
    return parser


def leaves_this_computer(addresses: list[str]) -> bool:
    """Whether one of the addresses to listen on can be reached from another computer."""
    for address in addresses:
        try:
            if not ipaddress.ip_address(address).is_loopback:
                return True
        except ValueError:
            if address != "localhost":
                return True
    return False


def serve(name: str, make_device: Callable[[], Any], options: argparse.Namespace) -> int:
    """Make the device and serve it under `name` until told to terminate; returns the exit code."""
    from sipyco import common_args
    from sipyco.pc_rpc import simple_server_loop

    common_args.init_logger_from_args(options)
    try:
        device = make_device()
    except DiqkdError as error:
        logger.error("%s", error)
        return error.exit_code
    try:
        simple_server_loop({name: device}, common_args.bind_address_from_args(options), options.port)
    finally:
        device.close()
    return 0
