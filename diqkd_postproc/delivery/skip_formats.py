"""The data formats of SKIP, the Secure Key Integration Protocol (draft-cisco-skip-02): JSON with hexadecimal.

An encryptor asks its key provider for a key that the remote one can get too, sends the keyId to its peer,
and the peer asks for the key of that keyId. The systems of SKIP are the SAEs here: localSystemID is the one
of the caller's certificate, remoteSystemID the peer's. A keyId is a key_ID without its hyphens.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence

from diqkd_postproc.delivery.data_formats import Key, KeyLimits, KeyRequest, draw_of, query_pairs
from diqkd_postproc.delivery.refusals import BadRequest

ALGORITHM = "device-independent QKD"


def capabilities(sae: str, peers: Sequence[str]) -> bytes:
    """Answer to GET /capabilities: keys are given, entropy is not."""
    document = {
        "entropy": False,
        "key": True,
        "algorithm": ALGORITHM,
        "localSystemID": sae,
        "remoteSystemID": list(peers),
    }
    return json.dumps(document).encode()


def parse_query(query: str, limits: KeyLimits, *, has_size: bool) -> tuple[str, int]:
    """(remoteSystemID, size in bits) of a query; BadRequest for anything else in it."""
    members = dict(query_pairs(query))
    peer, size = members.pop("remoteSystemID", ""), members.pop("size", None) if has_size else None
    if members or not peer:
        raise BadRequest("the query holds remoteSystemID" + (", and size if wanted" if has_size else ""))
    if size is not None and not (size.isascii() and size.isdigit() and len(size) <= 9):
        raise BadRequest("size is not a positive whole number")
    _, bits = draw_of(KeyRequest(size=None if size is None else int(size)), limits)
    return peer, bits


def parse_key_id(text: str) -> str:
    """A keyId from a path as a key_ID; BadRequest where it is none of ours."""
    if len(text) != 32 or not all(character in "0123456789abcdefABCDEF" for character in text):
        raise BadRequest("a keyId has 32 hexadecimal digits")
    return str(uuid.UUID(text))


def key_document(key: Key) -> bytes:
    """Answer with a key."""
    return json.dumps({"keyId": key.key_id.replace("-", ""), "key": key.key.hex()}).encode()
