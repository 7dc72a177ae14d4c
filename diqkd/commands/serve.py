"""`diqkd serve`: this node's keys for applications (ETSI GS QKD 014).

Needs the extra `delivery`. The address is printed when the listener is up: on stderr, or with `--json` as one
object on stdout. SIGTERM and SIGINT end the service in order.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from argparse import Namespace
from pathlib import Path

from diqkd.console import print_json
from diqkd.options.extras import require_delivery


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, required=True, help="configuration file (TOML)")
    parser.add_argument(
        "--json", action="store_true", help="print the address as JSON on stdout when all is up"
    )
    parser.set_defaults(handler=run)


def run(arguments: Namespace) -> None:
    require_delivery()
    from diqkd_postproc.delivery.configuration import load_configuration
    from diqkd_postproc.delivery.service import RunningService, serve_until_stopped

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)

    configuration = load_configuration(arguments.config)

    def announce(service: RunningService) -> None:
        host, port = service.api_address
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if arguments.json:
            print_json({"kme": configuration.kme.id, "api": address})
        else:
            print(f"{configuration.kme.id} delivers keys at {address}", file=sys.stderr)

    asyncio.run(serve_until_stopped(configuration, announce))
