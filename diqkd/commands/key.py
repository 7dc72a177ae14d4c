"""`diqkd key`: keys from a delivery service, as an application gets them.

Needs the extra `delivery`. Keys go to private files named after their key_ID; with `--json` the answer on
stdout names the files, and holds keys only with `--show`.
"""

from __future__ import annotations

import argparse
import base64
from argparse import Namespace
from pathlib import Path
from typing import Any

from diqkd.console import print_json
from diqkd.options import types as argument_types
from diqkd.options.extras import require_delivery
from diqkd.options.parsers import Actions
from diqkd_postproc.protocol.errors import ParameterError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = Actions(parser)
    status = actions.add("status", "What keys can be had for a peer.", _show_status)
    get = actions.add(
        "get",
        "Get new keys for a peer, or with --key-id those that the peer has been given. Each is written to "
        "a private file of its own, and cannot be had again.",
        _get_keys,
    )
    for action in (status, get):
        action.add_argument(
            "--as", dest="profile", type=Path, required=True, help="profile of the application (TOML)"
        )
        action.add_argument("--peer", required=True, help="SAE ID of the other application")
    get.add_argument("-o", "--output", type=Path, required=True, help="private folder for the keys")
    get.add_argument("--key-id", nargs="+", metavar="ID", help="fetch the keys of these ids")
    get.add_argument("--number", type=argument_types.count, help="number of new keys (default: 1)")
    get.add_argument("--size", type=argument_types.count, help="bits of each key (default: the service's)")
    get.add_argument("--show", action="store_true", help="print the keys too, in base64")


def _show_status(arguments: Namespace) -> None:
    require_delivery()
    from diqkd_postproc.delivery.client import SaeClient, SaeProfile

    status = SaeClient(SaeProfile.load(arguments.profile)).status(arguments.peer)
    if arguments.json:
        print_json(status)
        return
    for name, value in status.items():
        print(f"{name:24} {value}")


def _get_keys(arguments: Namespace) -> None:
    require_delivery()
    from diqkd_postproc.delivery.client import SaeClient, SaeProfile, prepare_output, write_keys

    if arguments.key_id and (arguments.number or arguments.size):
        raise ParameterError("--number and --size are for new keys, not with --key-id")
    client = SaeClient(SaeProfile.load(arguments.profile))
    prepare_output(arguments.output)
    if arguments.key_id:
        keys = client.keys_with_ids(arguments.peer, arguments.key_id)
    else:
        keys = client.new_keys(arguments.peer, arguments.number, arguments.size)
    paths = write_keys(arguments.output, keys)
    rows = [_row(key, path, arguments.show) for key, path in zip(keys, paths, strict=True)]
    if arguments.json:
        print_json({"keys": rows})
        return
    for row in rows:
        print(*row.values(), sep="  ")


def _row(key: Any, path: Path, show: bool) -> dict[str, object]:
    row: dict[str, object] = {"key_ID": key.key_id, "size": 8 * len(key.key), "file": str(path)}
    if show:
        row["key"] = base64.b64encode(key.key).decode()
    return row
