"""Refusals of a request, with the status codes of the standard (clause 5, tables 4 to 8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from diqkd_postproc.protocol.errors import DiqkdError


class Refusal(DiqkdError):
    """A request that is not served.

    status: HTTP status code. message, details: members of the Error data format (clause 6.5); public.
    """

    status = 503

    def __init__(self, message: str, details: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.details = tuple(details)


class BadRequest(Refusal):
    """The request is malformed, outside the limits that Status states, or for keys that are not here."""

    exit_code = 2

    status = 400


class Unauthorized(Refusal):
    """The certificate names no SAE of this KME, or the keys were made for another SAE."""

    status = 401


class Unavailable(Refusal):
    """The KME cannot serve now: the other KME is out of reach, the key is used up, the disk is full."""

    status = 503
