"""A slice of `campaigns/session_fuzz.py`: garbage is refused by its own error, in bounded memory."""

import pytest

from campaigns import session_fuzz
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.session import framing
from diqkd_postproc.session.messages import Message, MessageType


def test_only_typed_errors_and_bounded_memory() -> None:
    report = session_fuzz.campaign(4000, seed=2)
    assert report["failures"] == []
    readers = report["readers"]
    assert readers["stream"]["endings"]["refused"] > 1000
    assert readers["stream"]["endings"]["messages"] > 200
    assert readers["engine"]["endings"]["has a message to check"] > 0
    assert readers["exchange"]["endings"]["refused"] > 10
    assert min(readers["journal"]["endings"].values()) > 5


def test_the_campaign_would_see_another_error(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = framing.decode_payload

    def careless(kind: MessageType, payload: bytes, parameters: ProtocolParameters) -> Message:
        if kind is MessageType.ABORT:
            raise ValueError("a parser that lets an error through")
        return honest(kind, payload, parameters)

    monkeypatch.setattr(framing, "decode_payload", careless)
    failures = session_fuzz.campaign(400)["failures"]
    assert failures and all("ValueError" in failure for failure in failures)
