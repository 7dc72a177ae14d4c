"""An SAE's side of the key delivery API, for trials and scripts: one request, one answer.

A key comes out of the KME exactly once. Where it is to be written is therefore made ready before the request,
and no request is ever repeated.
"""

from __future__ import annotations

import base64
import binascii
import http.client
import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from pydantic import BaseModel, ConfigDict, ValidationError

from diqkd_postproc.delivery.data_formats import Key
from diqkd_postproc.delivery.key_delivery_api import PREFIX
from diqkd_postproc.delivery.refusals import BadRequest, Refusal, Unauthorized, Unavailable
from diqkd_postproc.delivery.tls import client_context
from diqkd_postproc.files import (
    create_private_file,
    make_private_directory,
    storage_error,
    sync_directory,
)
from diqkd_postproc.protocol.errors import ParameterError, RemoteProtocolError, StorageError

MAX_ANSWER_BYTES = 1 << 26
_REFUSALS: dict[int, type[Refusal]] = {400: BadRequest, 401: Unauthorized, 503: Unavailable}


class SaeProfile(BaseModel):
    """Who an SAE is and which KME serves it; a TOML file, with paths relative to it.

    service: `https://HOST:PORT`. certificate, private_key, authority: PEM files; the authority signs the
    certificate of the KME. timeout_s: of each read and write on the connection.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    service: str
    certificate: Path
    private_key: Path
    authority: Path
    timeout_s: float = 30.0

    @classmethod
    def load(cls, path: Path) -> SaeProfile:
        """Read a profile; ParameterError names what is wrong with it."""
        try:
            profile = cls.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise ParameterError(f"cannot read {path}: {error.strerror}") from None
        except ValidationError as problem:
            first = problem.errors(include_url=False)[0]
            raise ParameterError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        except ValueError as error:
            raise ParameterError(f"{path} is not TOML: {error}") from None
        names = ("certificate", "private_key", "authority")
        return profile.model_copy(update={n: path.absolute().parent / getattr(profile, n) for n in names})


class SaeClient:
    """Client of one KME for one SAE; every call is one HTTPS connection and is never repeated.

    Calls raise BadRequest (400), Unauthorized (401), Unavailable (503, or no connection), and
    RemoteProtocolError for an answer that is not of the standard.
    """

    def __init__(self, profile: SaeProfile) -> None:
        try:
            parts = urlsplit(profile.service)
            host, port = parts.hostname, parts.port or 443
        except ValueError:  # of a port that is none, or of brackets without an address
            host = None
        if not host or parts.scheme != "https":
            raise ParameterError(f"service {profile.service!r} is not https://HOST:PORT")
        self._profile = profile
        self._host, self._port = host, port
        self._context = client_context(profile.certificate, profile.private_key, profile.authority)

    def status(self, peer: str) -> dict[str, Any]:
        """Get status (clause 5.2): how many keys there are for `peer` as the slave.

        Returns the Status object (clause 6.1): sizes in bits, counts of keys of the default size.
        """
        return self._call("GET", peer, "status", None)

    def new_keys(self, slave: str, number: int | None = None, size: int | None = None) -> tuple[Key, ...]:
        """Get key (clause 5.3): new keys, which `slave` can then fetch at its KME.

        number, size: how many keys, bits of each; None for the KME's defaults. A key that is lost on its way
        cannot be had again.
        """
        request = {name: value for name, value in (("number", number), ("size", size)) if value is not None}
        return _keys(self._call("POST", slave, "enc_keys", request))

    def keys_with_ids(self, master: str, key_ids: Sequence[str]) -> tuple[Key, ...]:
        """Get key with key IDs (clause 5.4): the keys that `master` has been given.

        All or none, in the order of `key_ids`, and once: BadRequest where an id is unknown or was fetched
        before.
        """
        request = {"key_IDs": [{"key_ID": key_id} for key_id in key_ids]}
        return _keys(self._call("POST", master, "dec_keys", request))

    def _call(self, method: str, peer: str, name: str, document: Mapping[str, Any] | None) -> dict[str, Any]:
        body = None if document is None else json.dumps(document).encode()
        headers = {"Accept": "application/json"} | ({"Content-Type": "application/json"} if body else {})
        where = f"{self._host}:{self._port}"
        connection = http.client.HTTPSConnection(
            self._host, self._port, timeout=self._profile.timeout_s, context=self._context
        )
        try:
            connection.request(method, f"{PREFIX}{quote(peer, safe='')}/{name}", body, headers)
            answer = connection.getresponse()
            content = answer.read(MAX_ANSWER_BYTES)
        except OSError as error:
            reason = getattr(error, "verify_message", "") or error.strerror or str(error) or "no answer"
            raise Unavailable(f"the KME at {where} does not serve us: {reason}") from None
        except http.client.HTTPException:
            raise RemoteProtocolError(f"the KME at {where} does not speak HTTP as it should") from None
        finally:
            connection.close()
        if answer.status == 200:
            return _object(content)
        if answer.status == 401:
            raise Unauthorized(f"the KME at {where} does not grant this to our certificate (401)")
        message = str(_object(content).get("message", ""))[:500]
        raise _REFUSALS.get(answer.status, Refusal)(f"the KME at {where} answers {answer.status}: {message}")


def write_keys(directory: Path, keys: Sequence[Key]) -> list[Path]:
    """Write every key to a new private file, DIRECTORY/KEY_ID.key, as bytes; on disk when this returns.

    StorageError where that fails: it says how many were written, the others are lost.
    """
    paths: list[Path] = []
    path = directory
    try:
        for key in keys:
            path = directory / f"{key.key_id}.key"
            with os.fdopen(create_private_file(path), "wb") as file:
                file.write(key.key)
                file.flush()
                os.fsync(file.fileno())
            paths.append(path)
        sync_directory(directory)
    except (OSError, StorageError) as error:
        reason = storage_error("write", path, error) if isinstance(error, OSError) else error
        raise StorageError(
            f"{reason}. {len(paths)} of {len(keys)} keys are in {directory}; the others were delivered and "
            "are lost, request others"
        ) from None
    return paths


def prepare_output(directory: Path) -> None:
    """Make the private folder for keys before any key is requested.

    Raises StorageError where it exists and is not private: requested keys would then be lost.
    """
    make_private_directory(directory)


def _object(content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise RemoteProtocolError("the KME's answer is not a JSON object")
    return document


def _keys(document: Mapping[str, Any]) -> tuple[Key, ...]:
    try:
        return tuple(
            Key(key_id=_file_name(item["key_ID"]), key=base64.b64decode(item["key"], validate=True))
            for item in document["keys"]
        )
    except (KeyError, TypeError, binascii.Error):
        raise RemoteProtocolError("the KME's answer is not a key container") from None


def _file_name(key_id: str) -> str:
    """A key_ID becomes the name of a file: nothing but what a UUID consists of."""
    if not key_id or len(key_id) > 64 or not all(c.isalnum() or c == "-" for c in key_id):
        raise RemoteProtocolError("the KME's answer holds a key_ID that is not a UUID")
    return key_id
