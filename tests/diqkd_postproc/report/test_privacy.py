"""Nothing private reaches a report: by comparison with other secrets, and by search in many encodings."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from diqkd_postproc.key_store import KeyStore
from diqkd_postproc.report import collect_facts, for_publication, render_page
from diqkd_postproc.report.facts import RunFacts, SessionFacts
from diqkd_postproc.report.writing import summary
from tests.support.small_runs import Run

Bits = npt.NDArray[np.uint8]
VARIANTS: list[Callable[[RunFacts], RunFacts]] = [lambda facts: facts, for_publication]

WINDOW_BYTES = 6
"""48 bits: among the pairs of windows compared here, one agrees by chance with probability below 1e-6."""


def secret_bits(run: Run) -> Iterator[Bits]:
    """Everything private of a run: settings, outcomes, seeds, pads as they were, and the key."""
    for record in (run.alice, run.bob):
        yield record.outcome
        yield record.setting & 1
        is_test = record.round_type == 1
        yield record.setting[is_test]
        yield record.outcome[is_test]
    with KeyStore.open(run.directory / "bob" / "keys.sqlite") as keys:
        for name in ("extractor_seed", "hash_seed"):
            bits = np.frombuffer(keys.peek_seed(name), dtype=np.uint8)
            yield np.unpackbits(bits, count=keys.segment_bits(name))[:40_000]
        yield np.unpackbits(np.frombuffer(keys.node_link_key(), dtype=np.uint8))
        yield keys.generated_key()


def packed_forms(bits: Bits) -> Iterator[bytes]:
    """The bits as bytes, at every shift, in both bit orders, as they are and inverted."""
    for values in (bits, 1 - bits):
        for shift in range(8):
            yield np.packbits(values[shift:]).tobytes()
            yield np.packbits(values[shift:], bitorder="little").tobytes()


def windows_of(page: str) -> set[bytes]:
    """Every run of WINDOW_BYTES bytes that some text of the page may stand for."""
    found: set[bytes] = set()

    def add(data: bytes) -> None:
        found.update(data[i : i + WINDOW_BYTES] for i in range(len(data) - WINDOW_BYTES + 1))

    for token in re.findall(r"[0-9a-fA-F]{12,}", page):
        for start in (0, 1):
            digits = token[start : start + (len(token) - start) // 2 * 2]
            add(bytes.fromhex(digits))
    for token in re.findall(r"[0-9]{14,}", page):
        number = int(token)
        add(number.to_bytes((number.bit_length() + 7) // 8 or 1, "big"))
        add(number.to_bytes((number.bit_length() + 7) // 8 or 1, "little"))
    for token in re.findall(r"[A-Za-z0-9+/_-]{8,}", page):
        text = token.replace("-", "+").replace("_", "/")
        for start in range(4):
            part = text[start : start + (len(text) - start) // 4 * 4]
            add(base64.b64decode(part))
    for token in re.findall(r"[A-Z2-7]{10,}", page):
        part = token[: len(token) // 8 * 8]
        add(base64.b32decode(part))
    return {window for window in found if len(set(window)) > 3}


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_secret_appears_in_any_encoding(finished: Run, variant: Callable[[RunFacts], RunFacts]) -> None:
    facts = variant(collect_facts(finished.directory))
    page = render_page(facts) + str(summary(facts))
    assert not re.search(r"(?:[01][\s,;\[\]]*){24,}", re.sub(r"000+", "", page)), "a string of bits"
    windows = windows_of(page)
    assert len(windows) > 1000
    for bits in secret_bits(finished):
        for form in packed_forms(bits):
            slices = {form[i : i + WINDOW_BYTES] for i in range(len(form) - WINDOW_BYTES + 1)}
            assert not windows & slices


def test_the_search_would_find_a_secret(finished: Run) -> None:
    secret = np.packbits(finished.bob.outcome[5:805])
    for text in (secret.tobytes().hex(), base64.b64encode(secret.tobytes()).decode()):
        windows = windows_of(f"<p>{text}</p>")
        forms = packed_forms(finished.bob.outcome)
        assert any(
            windows & {form[i : i + WINDOW_BYTES] for i in range(len(form) - WINDOW_BYTES + 1)}
            for form in forms
        )


@pytest.mark.parametrize("variant", VARIANTS)
def test_other_secrets_give_the_same_page(
    finished: Run, other_secrets: Run, variant: Callable[[RunFacts], RunFacts]
) -> None:
    """Two runs that agree in all that is public. What their sessions say is put aside: public names and
    digests differ, and so do the few numbers that only the laboratory's variant shows."""
    session = SessionFacts(session_id="0" * 32, ending="key", num_losses=100, seconds={})
    assert not np.array_equal(finished.bob.outcome, other_secrets.bob.outcome)
    pages = [
        render_page(variant(replace(collect_facts(run.directory), directory="run", session=session)))
        for run in (finished, other_secrets)
    ]
    assert pages[0] == pages[1]


def test_a_published_session_has_public_names_only(finished: Run, other_secrets: Run) -> None:
    for run in (finished, other_secrets):
        session = for_publication(collect_facts(run.directory)).session
        assert session is not None
        assert session == SessionFacts(
            session_id=session.session_id,
            ending="key",
            seconds={},
            transcript_digest=session.transcript_digest,
        )


def test_the_published_variant_leaves_the_laboratory_out(finished: Run) -> None:
    laboratory = collect_facts(finished.directory)
    assert laboratory.session is not None
    timed = replace(laboratory.session, seconds={"error correction": 61.25})
    laboratory = replace(laboratory, session=timed)
    public = for_publication(laboratory)
    page, whole = render_page(public), render_page(laboratory)
    assert laboratory.session is not None and laboratory.chsh_score is not None
    for secret in (
        str(finished.directory.resolve()),
        "kasli-basement",
        "4711",
        "2023-11-14",
        "keep it in the laboratory",
        f"{laboratory.session.num_losses} of them were lost",
        f"{laboratory.chsh_score.value:.3f}",
        "decoder iterations",
        ">error correction<",
        "61.2 s",
    ):
        assert secret in whole, secret
        assert secret not in page, secret
    assert "test passed" in page and "It may leave the laboratory." in page
    numbers = summary(public)
    assert numbers["num_losses"] is None and numbers["chsh_score"] is None


def test_reasons_in_free_text_stay(acquired_with_reason: RunFacts) -> None:
    page = render_page(for_publication(acquired_with_reason))
    assert "10.17.3.2" not in page and "interruption" in page


@pytest.fixture
def acquired_with_reason(acquired: Run) -> RunFacts:
    facts = collect_facts(acquired.directory)
    (gap,) = facts.timeline.gaps
    named = replace(gap, reason="lost connection to 10.17.3.2", duration_s=412.0)
    return replace(facts, timeline=replace(facts.timeline, gaps=(named,)))


def test_times_of_gaps_are_coarse_in_public(acquired_with_reason: RunFacts) -> None:
    public = for_publication(acquired_with_reason).timeline
    (gap,) = public.gaps
    assert gap.duration_s == 420.0 and gap.start_unix is None
    assert public.heralds.size < acquired_with_reason.timeline.heralds.size
    assert public.heralds.sum() == acquired_with_reason.timeline.heralds.sum()


def test_lost_rounds_of_a_key_run_stay(acquired: Run, characterised: Run) -> None:
    """Their outcome is 0: which they are, and how many, would tell outcomes that nobody has announced."""
    facts = collect_facts(acquired.directory)
    assert facts.num_lost == 3 and facts.losses
    more = replace(facts.losses[0], first_round=3000, num_rounds=7)
    other = replace(facts, num_lost=10, losses=(*facts.losses, more))
    public = [for_publication(each) for each in (facts, other)]
    assert summary(public[0]) == summary(public[1])
    assert render_page(public[0]) == render_page(public[1])
    shared = for_publication(collect_facts(characterised.directory))
    assert shared.num_lost == 3 and shared.losses
