"""The data formats of ETSI GS QKD 014 v1.1.1, clause 6: Status, Key request, Key container, Key IDs, Error.

Input is hostile: one JSON object of bounded size, no member twice, no unknown member, no number that is not
what it says. What does not fit is a BadRequest (status 400) whose message names the member, never a value.

Additional slave SAEs (multicast) are not offered: Status says `max_SAE_ID_count` 0, and a request that names
any is refused, because a key leaves the store of each node exactly once.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from diqkd_postproc.delivery.refusals import BadRequest

Extension = dict[str, Any]
_Model = TypeVar("_Model", bound=BaseModel)
MAX_DETAILS = 16


class _Format(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True, frozen=True)


class KeyRequest(_Format):
    """Key request (clause 6.2): `number` keys of `size` bits; None stands for the default.

    Optional extensions are ignored, mandatory ones and additional slave SAEs are refused by `draw_of`.
    """

    number: int | None = None
    size: int | None = None
    additional_slave_sae_ids: list[str] | None = Field(default=None, alias="additional_slave_SAE_IDs")
    extension_mandatory: list[Extension] | None = None
    extension_optional: list[Extension] | None = None


class _KeyId(_Format):
    key_id: str = Field(alias="key_ID")
    key_id_extension: Extension | None = Field(default=None, alias="key_ID_extension")


class _KeyIds(_Format):
    key_ids: list[_KeyId] = Field(alias="key_IDs")
    key_ids_extension: Extension | None = Field(default=None, alias="key_IDs_extension")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLimits:
    """Limits of one request, as Status states them (clause 6.1). Sizes in bits.

    key_size: default of a request. max_sae_id_count: additional slave SAEs, of which none are offered.
    """

    key_size: int = 256
    min_key_size: int = 64
    max_key_size: int = 4096
    max_key_per_request: int = 128
    max_sae_id_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A delivered key: its id and its bits, packed.

    key: packed big-endian, as many whole bytes as the requested size has. Not shown by `repr`.
    """

    key_id: str
    key: bytes

    def __repr__(self) -> str:
        return f"Key(key_id={self.key_id!r}, {8 * len(self.key)} bits)"


def parse_key_request(body: bytes) -> KeyRequest:
    """A Key request from the body of a POST; an empty body requests the defaults.

    Raises BadRequest for anything but one JSON object with known members of the right types, each once.
    """
    return _validated(KeyRequest, _json_object(body)) if body else KeyRequest()


def parse_key_request_query(query: str) -> KeyRequest:
    """A Key request from the query of a URL, which may hold `number` and `size` only (clause 5.3)."""
    members: dict[str, int] = {}
    for name, value in query_pairs(query):
        if name not in ("number", "size"):
            raise BadRequest(
                "the URL takes the parameters number and size only; others belong into the body of a POST"
            )
        if not (value.isascii() and value.isdigit() and len(value) <= 9):
            raise BadRequest(f"{name} is not a positive whole number")
        members[name] = int(value)
    return KeyRequest(**members)  # type: ignore[arg-type]


def draw_of(request: KeyRequest, limits: KeyLimits) -> tuple[int, int]:
    """(number, size in bits) of a Key request; BadRequest where it is outside the limits."""
    parameters = [name for extension in request.extension_mandatory or () for name in extension]
    if parameters:
        details = [
            {"extension_mandatory_unsupported": f"{name[:64]} is not supported"}
            for name in parameters[:MAX_DETAILS]
        ]
        raise BadRequest("not all extension_mandatory parameters are supported", details)
    if len(request.additional_slave_sae_ids or ()) > limits.max_sae_id_count:
        raise BadRequest(
            f"additional_slave_SAE_IDs holds more ids than max_SAE_ID_count, {limits.max_sae_id_count}"
        )
    number = 1 if request.number is None else request.number
    size = limits.key_size if request.size is None else request.size
    if not 1 <= number <= limits.max_key_per_request:
        raise BadRequest(f"number shall be from 1 to max_key_per_request, {limits.max_key_per_request}")
    if size % 8:
        raise BadRequest("size shall be a multiple of 8")
    if not limits.min_key_size <= size <= limits.max_key_size:
        raise BadRequest(
            f"size shall be from min_key_size, {limits.min_key_size}, to max_key_size, {limits.max_key_size}"
        )
    return number, size


def parse_key_ids(body: bytes, limits: KeyLimits) -> tuple[str, ...]:
    """The ids of a Key IDs object (clause 6.4), in order, in canonical form.

    Canonical: a UUID in lower case with hyphens. Raises BadRequest for an empty list, one longer than
    `max_key_per_request`, an id that is no UUID or is there twice.
    """
    return _canonical_ids((item.key_id for item in _validated(_KeyIds, _json_object(body)).key_ids), limits)


def parse_key_ids_query(query: str, limits: KeyLimits) -> tuple[str, ...]:
    """The single id in the query of a URL, as `key_ID=…` (clause 5.4)."""
    pairs = query_pairs(query)
    if [name for name, _ in pairs] != ["key_ID"]:
        raise BadRequest(
            "the URL takes exactly one parameter, key_ID; several belong into the body of a POST"
        )
    return _canonical_ids((pairs[0][1],), limits)


def key_container(keys: Sequence[Key]) -> bytes:
    """A Key container (clause 6.3): ids, and bits in base64.

    UTF-8 JSON without white space; the order is that of `keys`.
    """
    items = [{"key_ID": key.key_id, "key": base64.b64encode(key.key).decode()} for key in keys]
    return _encoded({"keys": items})


def status(
    *,
    source_kme: str,
    target_kme: str,
    master_sae: str,
    slave_sae: str,
    stored_key_count: int,
    max_key_count: int,
    limits: KeyLimits,
    extension: Mapping[str, Any],
) -> bytes:
    """Status object (clause 6.1), UTF-8 JSON.

    stored_key_count, max_key_count: keys of the default size that are left, and that there were. extension:
    becomes `status_extension`; the members are ours.
    """
    return _encoded(
        {
            "source_KME_ID": source_kme,
            "target_KME_ID": target_kme,
            "master_SAE_ID": master_sae,
            "slave_SAE_ID": slave_sae,
            "key_size": limits.key_size,
            "stored_key_count": stored_key_count,
            "max_key_count": max_key_count,
            "max_key_per_request": limits.max_key_per_request,
            "max_key_size": limits.max_key_size,
            "min_key_size": limits.min_key_size,
            "max_SAE_ID_count": limits.max_sae_id_count,
            "status_extension": dict(extension),
        }
    )


def error(message: str, details: Sequence[Mapping[str, Any]] = ()) -> bytes:
    """An Error object (clause 6.5); `details` is left out where there are none."""
    document: dict[str, Any] = {"message": message}
    if details:
        document["details"] = [dict(item) for item in details]
    return _encoded(document)


_ENCODER = json.JSONEncoder(separators=(",", ":"))


def _encoded(document: Mapping[str, Any]) -> bytes:
    return _ENCODER.encode(document).encode()


def _canonical_ids(texts: Iterable[str], limits: KeyLimits) -> tuple[str, ...]:
    ids = []
    for text in texts:
        try:
            canonical = str(uuid.UUID(text))
        except ValueError:
            canonical = ""
        if canonical != text.lower():  # the module also takes braces, a URN prefix and no hyphens
            raise BadRequest("a key_ID is not a UUID")
        ids.append(canonical)
    if not 1 <= len(ids) <= limits.max_key_per_request:
        raise BadRequest(
            f"key_IDs shall hold from 1 to max_key_per_request, {limits.max_key_per_request}, ids"
        )
    if len(set(ids)) != len(ids):
        raise BadRequest("key_IDs holds an id twice")
    return tuple(ids)


def query_pairs(query: str) -> list[tuple[str, str]]:
    """Names and values of a query; BadRequest where it is malformed or has a name twice."""
    try:
        pairs = parse_qsl(query, strict_parsing=True, max_num_fields=8, encoding="utf-8", errors="strict")
    except ValueError:
        if not query:
            return []
        raise BadRequest("the query of the URL is malformed") from None
    if len({name for name, _ in pairs}) != len(pairs):
        raise BadRequest("the query of the URL holds a parameter twice")
    return pairs


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body.decode(), object_pairs_hook=_object, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise BadRequest("the body is not a JSON object") from None
    if not isinstance(document, dict):
        raise BadRequest("the body is not a JSON object")
    return document


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError
    return dict(pairs)


def _no_constant(_name: str) -> Any:
    raise ValueError


def _validated(model: type[_Model], document: dict[str, Any]) -> _Model:
    try:
        return model.model_validate(document)
    except ValidationError as problem:
        first = problem.errors(include_url=False, include_context=False, include_input=False)[0]
        known = {field.alias or name for name, field in model.model_fields.items()}
        where = first["loc"][0] if first["loc"] and first["loc"][0] in known else "a member"
        reason = "is not a member of this format" if first["type"] == "extra_forbidden" else first["msg"]
        raise BadRequest(f"{where}: {reason}") from None
