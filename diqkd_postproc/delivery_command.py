"""`diqkd serve`, `diqkd delivery`, `diqkd key`: key delivery to applications (ETSI GS QKD 014)."""

from __future__ import annotations

import argparse
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from diqkd_postproc import argument_types
from diqkd_postproc.errors import ParameterError


def add_parsers(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    formatter: type[argparse.HelpFormatter],
) -> None:
    """Add `serve`, `delivery` and `key`."""

    def add(
        under: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str, handler: object
    ) -> argparse.ArgumentParser:
        parser = under.add_parser(name, help=text, description=text, formatter_class=formatter)
        parser.set_defaults(handler=handler)
        return parser

    serve_parser = add(commands, "serve", "Deliver this node's keys to applications until stopped.", serve)
    serve_parser.add_argument("--config", type=Path, required=True, help="configuration file (TOML)")
    serve_parser.add_argument(
        "--json", action="store_true", help="print the addresses as JSON on stdout when all is up"
    )

    delivery = commands.add_parser("delivery", help="Prepare key delivery: certificates, a trial.")
    actions = delivery.add_subparsers(dest="action", required=True, metavar="ACTION")
    trial = add(
        actions,
        "trial",
        "Write certificates, configurations and profiles to try key delivery on one machine.",
        write_trial,
    )
    trial.add_argument("run", type=Path, help="run directory of a finished demo; RUN/delivery is written")
    trial.add_argument("--alice-port", type=argument_types.count, default=8443, help="Alice's KME for SAEs")
    trial.add_argument("--bob-port", type=argument_types.count, default=8444, help="Bob's KME for SAEs")
    trial.add_argument("--link-port", type=argument_types.count, default=8445, help="Alice's KME for Bob's")
    certificates = add(
        actions,
        "certificates",
        "Make certificates for a trial; a laboratory has an authority of its own.",
        write_certificates,
    )
    certificates.add_argument("directory", type=Path, help="new folder for certificates and keys")
    certificates.add_argument("--kme", nargs="+", default=["kme-alice", "kme-bob"], help="KME IDs")
    certificates.add_argument("--sae", nargs="+", default=["sae-alice", "sae-bob"], help="SAE IDs")
    certificates.add_argument(
        "--host", nargs="+", default=["localhost", "127.0.0.1"], help="names and addresses of the KMEs"
    )

    key = commands.add_parser("key", help="Ask a key delivery service, as an application does.")
    actions = key.add_subparsers(dest="action", required=True, metavar="ACTION")
    status = add(actions, "status", "What keys can be had for a peer.", show_status)
    get = add(
        actions,
        "get",
        "Get new keys for a peer, or with --key-id those that the peer has been given. Each is written to "
        "a private file of its own, and cannot be had again.",
        get_keys,
    )
    for parser in (status, get):
        parser.add_argument(
            "--as", dest="profile", type=Path, required=True, help="profile of the application (TOML)"
        )
        parser.add_argument("--peer", required=True, help="SAE ID of the other application")
        parser.add_argument("--json", action="store_true", help="print the result as JSON on stdout")
    get.add_argument("-o", "--output", type=Path, required=True, help="private folder for the keys")
    get.add_argument("--key-id", nargs="+", metavar="ID", help="fetch the keys of these ids")
    get.add_argument("--number", type=argument_types.count, help="number of new keys (default: 1)")
    get.add_argument("--size", type=argument_types.count, help="bits of each key (default: the service's)")
    get.add_argument("--show", action="store_true", help="print the keys too, in base64")


def _require_extra() -> None:
    try:
        import cryptography
        import h11
    except ImportError as missing:
        raise ParameterError(
            f"key delivery needs {missing.name}: install it with `pip install diqkd[delivery]`"
        ) from None
    del cryptography, h11


def serve(arguments: Namespace) -> None:
    """`diqkd serve`."""
    _require_extra()
    import asyncio
    import logging

    from diqkd_postproc.console import print_json
    from diqkd_postproc.delivery.configuration import load_configuration
    from diqkd_postproc.delivery.service import RunningService, serve_until_stopped

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # a stranger's failed handshakes are no news
    configuration = load_configuration(arguments.config)

    def tell(service: RunningService) -> None:
        addresses = {"api": service.api_address, "link": service.link_address}
        shown = {name: f"{a[0]}:{a[1]}" if a else None for name, a in addresses.items()}
        if arguments.json:
            print_json({"kme": configuration.kme.id, **shown})
        else:
            print(f"{configuration.kme.id} delivers keys at {shown['api']}", file=sys.stderr)

    asyncio.run(serve_until_stopped(configuration, tell))


def write_trial(arguments: Namespace) -> None:
    """`diqkd delivery trial`."""
    _require_extra()
    from diqkd_postproc.delivery import trial

    stores = [arguments.run / role / "keys.sqlite" for role in trial.ROLES]
    for store in stores:
        if not store.is_file():
            raise ParameterError(
                f"{store} is not there: give the run directory of a finished `diqkd demo --run-dir RUN`"
            )
    ports = (arguments.alice_port, arguments.bob_port)
    folder = trial.write_trial(arguments.run, stores, ports, arguments.link_port)
    print(f"Wrote {folder}. Start the two services, each in a terminal of its own:\n")
    for role in trial.ROLES:
        print(f"    diqkd serve --config {folder / f'{role}.toml'}")
    profiles = [folder / f"sae-{role}.toml" for role in trial.ROLES]
    print("\nand get one key at both:\n")
    print(f"    diqkd key get --as {profiles[0]} --peer sae-bob -o {folder / 'keys-alice'}")
    print(f"    diqkd key get --as {profiles[1]} --peer sae-alice -o {folder / 'keys-bob'} --key-id ID")


def write_certificates(arguments: Namespace) -> None:
    """`diqkd delivery certificates`."""
    _require_extra()
    from diqkd_postproc.delivery.trial import write_certificates as write

    write(arguments.directory, arguments.kme, arguments.sae, arguments.host)
    print(f"Wrote certificates of {', '.join([*arguments.kme, *arguments.sae])} to {arguments.directory}")


def show_status(arguments: Namespace) -> None:
    """`diqkd key status`."""
    _require_extra()
    from diqkd_postproc.console import print_json
    from diqkd_postproc.delivery.client import SaeClient, SaeProfile

    status = SaeClient(SaeProfile.load(arguments.profile)).status(arguments.peer)
    if arguments.json:
        print_json(status)
        return
    for name, value in status.items():
        print(f"{name:24} {value}")


def get_keys(arguments: Namespace) -> None:
    """`diqkd key get`."""
    _require_extra()
    from diqkd_postproc.console import print_json
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
    import base64

    row: dict[str, object] = {"key_ID": key.key_id, "size": 8 * len(key.key), "file": str(path)}
    if show:
        row["key"] = base64.b64encode(key.key).decode()
    return row
