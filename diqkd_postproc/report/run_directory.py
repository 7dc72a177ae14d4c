"""Directory of a run: one node's files, or a demonstration's with both nodes in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from diqkd_postproc.protocol.errors import StorageError
from diqkd_postproc.protocol.roles import ROLES
from diqkd_postproc.records.sealed_record import RECORD_NAME

KEYS_NAME = "keys.sqlite"
SPOOL_NAME = "spool.sqlite"
REMARK_NAME = "remark.txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFiles:
    """Files of one node: its sealed record, and its key store where there is one.

    record: HDF5, sealed. keys: SQLite; a characterisation run has none.
    """

    record: Path
    keys: Path | None


def find_nodes(directory: Path, keys: Path | None = None) -> tuple[NodeFiles, ...]:
    """The one or two nodes whose files lie in `directory`; `keys` names a key store kept elsewhere.

    Raises StorageError that says what is missing, and what would put it there.
    """
    if not directory.is_dir():
        raise StorageError(f"{directory} is not a directory; give the run directory of a node or of a demo")
    roles = [role for role in ROLES if (directory / role).is_dir()]
    if (directory / RECORD_NAME).exists() or not roles:
        return (_node(directory, keys),)
    if keys is not None:
        raise StorageError(f"{directory} holds several nodes; with --keys give the directory of one of them")
    return tuple(_node(directory / role) for role in roles)


def _node(directory: Path, keys: Path | None = None) -> NodeFiles:
    record = directory / RECORD_NAME
    if not record.exists():
        if (directory / SPOOL_NAME).exists():
            raise StorageError(
                f"{directory} has rounds but no {RECORD_NAME}: the acquisition has not finished; start the "
                "experiment again on this directory, it goes on where it stopped"
            )
        raise StorageError(f"{directory} holds no {RECORD_NAME}; give the run directory of a finished run")
    if keys is not None and not keys.exists():
        raise StorageError(f"the key store {keys} does not exist")
    beside = directory / KEYS_NAME
    return NodeFiles(record=record, keys=keys or (beside if beside.exists() else None))
