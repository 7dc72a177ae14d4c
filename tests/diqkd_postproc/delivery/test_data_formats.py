"""The formats against the examples of ETSI GS QKD 014 v1.1.1, clause 6 (facts of the standard)."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diqkd_postproc.delivery import data_formats
from diqkd_postproc.delivery.data_formats import Key, KeyLimits
from diqkd_postproc.delivery.refusals import BadRequest

EXAMPLE_LIMITS = KeyLimits(key_size=352, min_key_size=64, max_key_size=1024, max_key_per_request=128)
ID_1, ID_2 = "bc490419-7d60-487f-adc1-4ddcc177c139", "0a782fb5-3434-48fe-aa4d-14f41d46cf92"


def test_status_of_clause_6_1() -> None:
    encoded = data_formats.status(
        source_kme="AAAABBBBCCCCDDDD",
        target_kme="EEEEFFFFGGGGHHHH",
        master_sae="IIIIJJJJKKKKLLLL",
        slave_sae="MMMMNNNNOOOOPPPP",
        stored_key_count=25000,
        max_key_count=100000,
        limits=EXAMPLE_LIMITS,
        extension={},
    )
    assert json.loads(encoded) == {
        "source_KME_ID": "AAAABBBBCCCCDDDD",
        "target_KME_ID": "EEEEFFFFGGGGHHHH",
        "master_SAE_ID": "IIIIJJJJKKKKLLLL",
        "slave_SAE_ID": "MMMMNNNNOOOOPPPP",
        "key_size": 352,
        "stored_key_count": 25000,
        "max_key_count": 100000,
        "max_key_per_request": 128,
        "max_key_size": 1024,
        "min_key_size": 64,
        "max_SAE_ID_count": 0,
        "status_extension": {},
    }


def test_key_request_of_clause_6_2() -> None:
    request = data_formats.parse_key_request(b'{"number": 3, "size": 1024}')
    assert data_formats.draw_of(request, EXAMPLE_LIMITS) == (3, 1024)
    assert data_formats.draw_of(data_formats.parse_key_request(b"{}"), EXAMPLE_LIMITS) == (1, 352)
    assert data_formats.draw_of(data_formats.parse_key_request(b""), EXAMPLE_LIMITS) == (1, 352)
    optional = data_formats.parse_key_request(b'{"extension_optional": [{"abc_max_age": 30000}]}')
    assert data_formats.draw_of(optional, EXAMPLE_LIMITS) == (1, 352)
    query = data_formats.parse_key_request_query("number=3&size=1024")
    assert data_formats.draw_of(query, EXAMPLE_LIMITS) == (3, 1024)
    assert data_formats.draw_of(data_formats.parse_key_request_query(""), EXAMPLE_LIMITS) == (1, 352)


def test_mandatory_extensions_and_multicast_are_refused_as_clause_6_2_says() -> None:
    document = {
        "number": 20,
        "size": 512,
        "extension_mandatory": [{"abc_route_type": "direct"}, {"abc_transfer_method": "qkd"}],
        "extension_optional": [{"abc_max_age": 30000}],
    }
    with pytest.raises(BadRequest) as caught:
        data_formats.draw_of(data_formats.parse_key_request(json.dumps(document).encode()), EXAMPLE_LIMITS)
    assert caught.value.message == "not all extension_mandatory parameters are supported"
    assert caught.value.details == (
        {"extension_mandatory_unsupported": "abc_route_type is not supported"},
        {"extension_mandatory_unsupported": "abc_transfer_method is not supported"},
    )
    document = {"additional_slave_SAE_IDs": ["ABCDEFG", "HIJKLMN"]}
    with pytest.raises(BadRequest, match="max_SAE_ID_count, 0"):
        data_formats.draw_of(data_formats.parse_key_request(json.dumps(document).encode()), EXAMPLE_LIMITS)
    harmless = b'{"additional_slave_SAE_IDs": [], "extension_mandatory": [], "number": null}'
    assert data_formats.draw_of(data_formats.parse_key_request(harmless), EXAMPLE_LIMITS) == (1, 352)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"size": 1021}', "size shall be a multiple of 8"),
        (b'{"size": 56}', "size shall be from min_key_size, 64"),
        (b'{"size": 1032}', "to max_key_size, 1024"),
        (b'{"size": -64}', "size shall be from"),
        (b'{"number": 0}', "number shall be from 1 to max_key_per_request, 128"),
        (b'{"number": 129}', "number shall be from 1 to"),
        (b'{"number": 1e0}', "number: Input should be a valid integer"),
        (b'{"number": true}', "number: Input should be a valid integer"),
        (b'{"number": "3"}', "number: Input should be a valid integer"),
        (b'{"number": NaN}', "not a JSON object"),
        (b'{"number": 1, "number": 2}', "not a JSON object"),
        (b'{"numbr": 1}', "a member: is not a member of this format"),
        (b'{"extension_mandatory": {"a": 1}}', "extension_mandatory: Input should be a valid list"),
        (b"[]", "not a JSON object"),
        (b"{", "not a JSON object"),
        (b"\xff\xfe", "not a JSON object"),
        (b"[" * 60_000, "not a JSON object"),
        (b'{"number": ' + b"9" * 10_000 + b"}", "not a JSON object"),
    ],
)
def test_bad_key_requests(body: bytes, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        data_formats.draw_of(data_formats.parse_key_request(body), EXAMPLE_LIMITS)


@pytest.mark.parametrize(
    "query", ["number=1&number=2", "number", "number=-1", "number=1.0", "size=%32%35%36;", "key_ID=1", "a=1"]
)
def test_bad_key_request_queries(query: str) -> None:
    with pytest.raises(BadRequest):
        data_formats.parse_key_request_query(query)


def test_key_ids_of_clause_6_4() -> None:
    body = json.dumps({"key_IDs": [{"key_ID": ID_1}, {"key_ID": ID_2.upper()}]}).encode()
    assert data_formats.parse_key_ids(body, EXAMPLE_LIMITS) == (ID_1, ID_2)
    assert data_formats.parse_key_ids_query(f"key_ID={ID_1}", EXAMPLE_LIMITS) == (ID_1,)
    extended = {"key_IDs": [{"key_ID": ID_1, "key_ID_extension": {"a": 1}}], "key_IDs_extension": {}}
    assert data_formats.parse_key_ids(json.dumps(extended).encode(), EXAMPLE_LIMITS) == (ID_1,)


@pytest.mark.parametrize(
    "ids", [[], [ID_1, ID_1], [ID_1, ID_1.upper()], ["x"], ["{" + ID_1 + "}"], [ID_1.replace("-", "")]]
)
def test_bad_key_ids(ids: list[str]) -> None:
    with pytest.raises(BadRequest):
        data_formats.parse_key_ids(
            json.dumps({"key_IDs": [{"key_ID": text} for text in ids]}).encode(), EXAMPLE_LIMITS
        )


@pytest.mark.parametrize("query", ["", "key_IDs=1", f"key_ID={ID_1}&key_ID={ID_2}", f"key_ID={ID_1}&size=8"])
def test_bad_key_id_queries(query: str) -> None:
    with pytest.raises(BadRequest):
        data_formats.parse_key_ids_query(query, EXAMPLE_LIMITS)


def test_key_container_and_error_of_clauses_6_3_and_6_5() -> None:
    key = Key(
        key_id=ID_1, key=bytes.fromhex("c071d5c51c0326cdff6d7777f061cfde87b8b2f4ee469652d32082ef1e0bcbeb")
    )
    assert json.loads(data_formats.key_container([key])) == {
        "keys": [{"key_ID": ID_1, "key": "wHHVxRwDJs3/bXd38GHP3oe4svTuRpZS0yCC7x4Ly+s="}]
    }
    assert "c071" not in repr(key) and "256 bits" in repr(key)
    message = "not all extension_mandatory parameters are supported"
    details = [{"extension_mandatory_unsupported": "abc_route_type is not supported"}]
    assert json.loads(data_formats.error(message, details)) == {"message": message, "details": details}
    assert json.loads(data_formats.error("x")) == {"message": "x"}


@settings(max_examples=60)
@given(st.binary(max_size=40) | st.text(max_size=20).map(str.encode))
def test_any_body_is_read_or_refused(body: bytes) -> None:
    for parse in (data_formats.parse_key_request, lambda b: data_formats.parse_key_ids(b, EXAMPLE_LIMITS)):
        try:
            parse(body)
        except BadRequest as refusal:
            assert len(refusal.message) < 300


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_MEMBERS = st.sampled_from(
    ["number", "size", "additional_slave_SAE_IDs", "extension_mandatory", "extension_optional", "key_IDs"]
)


@settings(max_examples=60)
@given(st.dictionaries(_MEMBERS, _JSON))
def test_any_document_stays_within_the_limits(document: dict[str, object]) -> None:
    body = json.dumps(document).encode()
    try:
        number, size = data_formats.draw_of(data_formats.parse_key_request(body), EXAMPLE_LIMITS)
    except BadRequest:
        return
    assert 1 <= number <= 128 and 64 <= size <= 1024 and size % 8 == 0
    assert not document.get("additional_slave_SAE_IDs") and not any(document.get("extension_mandatory") or [])
