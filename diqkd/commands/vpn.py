"""`diqkd vpn`: renew the preshared key of a tunnel from the key delivery services, at both ends.

Needs the extra `delivery`. The agent that connects leads: it asks its service for a key, has the other agent
fetch and install the same one, and then installs it. `--command` gets the key in base64 on its standard
input, never as an argument; without it the agents only print ids, to try it out.
"""

from __future__ import annotations

import argparse
import logging
import time
from argparse import Namespace
from pathlib import Path

from diqkd.options import types as argument_types
from diqkd.options.extras import require_delivery
from diqkd_postproc.protocol.errors import DiqkdError, ParameterError

RETRY_S = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--as", dest="profile", type=Path, required=True, help="profile of this end as an application (TOML)"
    )
    parser.add_argument("--peer", required=True, help="SAE ID of the other end")
    side = parser.add_mutually_exclusive_group(required=True)
    side.add_argument(
        "--connect", type=argument_types.address, metavar="HOST:PORT", help="lead; the other agent is here"
    )
    side.add_argument(
        "--listen", type=argument_types.address, metavar="HOST:PORT", help="follow the agent that connects"
    )
    parser.add_argument(
        "--command",
        help="what installs a key, for example 'wg set wg0 peer PUBLIC_KEY preshared-key /dev/stdin'",
    )
    parser.add_argument(
        "--every", type=argument_types.count, default=120, metavar="SECONDS", help="time between two keys"
    )
    parser.add_argument(
        "--rekeys", type=argument_types.count, metavar="N", help="end after so many keys (default: never)"
    )
    parser.set_defaults(handler=run)


def run(arguments: Namespace) -> None:
    require_delivery()
    from diqkd_postproc.delivery import rekeying
    from diqkd_postproc.delivery.client import SaeClient, SaeProfile

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    client = SaeClient(SaeProfile.load(arguments.profile))
    install = (lambda _key: None) if arguments.command is None else rekeying.installer(arguments.command)
    if arguments.listen is not None:
        with rekeying.listening_socket(arguments.listen) as listener:
            print(f"listening at {listener.getsockname()[0]}:{listener.getsockname()[1]}", flush=True)
            for number, key_id in enumerate(
                rekeying.followed(client, arguments.peer, listener, install), start=1
            ):
                print(f"installed {key_id}", flush=True)
                if number == arguments.rekeys:
                    return
        return
    number = 0
    while number != arguments.rekeys:
        try:
            key_id = rekeying.rekey(client, arguments.peer, arguments.connect, install)
        except ParameterError:
            raise
        except DiqkdError as error:
            logging.getLogger(__name__).warning("no new key: %s", error)
            time.sleep(RETRY_S)
            continue
        print(f"installed {key_id}", flush=True)
        number += 1
        if number != arguments.rekeys:
            time.sleep(arguments.every)
