"""The pages of finished, aborted, unprocessed and characterisation runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from diqkd_postproc.report import collect_facts, for_publication, render_page
from diqkd_postproc.report.facts import RunFacts
from diqkd_postproc.security.proofs import key_length_of
from tests.support.small_runs import PARAMETERS, RUN_ID, Run

DOI = "https://doi.org/10.1038/s41586-022-04941-5"
VARIANTS: list[Callable[[RunFacts], RunFacts]] = [lambda facts: facts, for_publication]


def elements(page: str) -> list[ElementTree.Element]:
    """All elements; the page has to be well-formed XML behind its document type."""
    head, _, rest = page.partition("\n")
    assert head == "<!DOCTYPE html>"
    return list(ElementTree.fromstring(rest).iter())


def text_of(page: str) -> str:
    """What a reader sees, one space between words."""
    words = "".join(ElementTree.fromstring(page.partition("\n")[2]).itertext())
    return " ".join(words.split())


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", ["finished", "aborted", "acquired", "characterised"])
def test_every_page_is_well_formed_and_needs_nothing_else(
    name: str, variant: Callable[[RunFacts], RunFacts], request: pytest.FixtureRequest
) -> None:
    page = render_page(variant(collect_facts(request.getfixturevalue(name).directory)))
    ids = [element.get("id") for element in elements(page) if element.get("id")]
    assert len(ids) == len(set(ids)) > 20
    for element in elements(page):
        assert element.tag not in ("script", "link", "iframe", "img", "object", "embed")
        assert element.get("src") is None
        target = element.get("href")
        assert target is None or target == DOI or target.removeprefix("#") in ids
        for value in element.attrib.values():
            for reference in re.findall(r"url\(([^)]*)\)", value):
                assert reference.removeprefix("#") in ids
    assert re.findall(r"https?:[^\"]*", page) == [DOI]
    assert "@import" not in page and "url(http" not in page
    assert "default-src 'none'" in page


def test_a_finished_run_tells_its_numbers(finished: Run) -> None:
    facts = collect_facts(finished.directory)
    lost = (finished.bob.setting != 2) & (
        ((finished.alice.outcome ^ finished.bob.outcome) != (finished.alice.setting & finished.bob.setting))
        | (finished.alice.late_loss == 1)
    )
    num_losses, num_tests = int(lost.sum()), int(finished.bob.round_type.sum())
    assert facts.ending == "key" and facts.same_key is True and facts.key_bits == 200
    assert facts.session is not None and facts.session.num_losses == num_losses
    assert facts.chsh_score is not None
    assert facts.chsh_score.value == pytest.approx(4 - 8 * num_losses / num_tests)
    text = text_of(render_page(facts))
    for number in (
        "200secret key bits",
        "-56 bits",
        f"S = {4 - 8 * num_losses / num_tests:.3f}",
        f"{num_tests:,} of 6,000 rounds were tests; {num_losses:,} of them were lost",
        f"at most {PARAMETERS.max_losses:,} lost ones",
        PARAMETERS.digest,
        RUN_ID,
        "RID 4711",
        "kasli-basement",
        "ion lost",
        "10 min",
        "3 of 6,000 rounds have an unknown outcome",
        "soundness error 1e-10",
        "Quantum theory holds",
    ):
        assert number in text, number
    assert facts.balance_sheet is not None
    for row in facts.balance_sheet.rows:
        assert row.step in text and f"{row.consumed:,}" in text
    # These parameters are made up: the theorem certifies no key for them, and the page has to say so.
    assert key_length_of(PARAMETERS).bits == 0 and "no such key is secure" in text


def test_patterns_rate_and_gap(finished: Run) -> None:
    facts = collect_facts(finished.directory)
    assert sum(facts.herald_patterns.values()) == 6000
    assert facts.timeline.herald_rate == pytest.approx(100, rel=0.01)
    (gap,) = facts.timeline.gaps
    assert gap.start_s == pytest.approx(19.99) and gap.end_s == pytest.approx(620.03)
    assert gap.duration_s == pytest.approx(600)


def test_one_nodes_report_tells_what_that_node_knows(finished: Run) -> None:
    alice, bob = (collect_facts(finished.directory / role) for role in ("alice", "bob"))
    assert alice.ending == bob.ending == "key" and alice.same_key is None
    assert alice.chsh_score is None and bob.chsh_score is not None
    assert "only Bob knows" in text_of(render_page(alice))


def test_an_aborted_run_says_why(aborted: Run) -> None:
    facts = collect_facts(aborted.directory)
    assert facts.ending == "aborted" and facts.key_bits == 0
    text = text_of(render_page(facts))
    assert "No key" in text and "Bell violation was too small" in text
    assert facts.session is not None
    assert f"{facts.session.num_losses:,} were lost where {PARAMETERS.max_losses:,} are accepted" in text
    # The count stands in Bob's decision, which was sent: here it is public.
    public = text_of(render_page(for_publication(facts)))
    assert facts.session is not None and f"{facts.session.num_losses:,} of them were lost" in public


def test_an_unprocessed_run_is_open(acquired: Run) -> None:
    facts = collect_facts(acquired.directory)
    assert facts.ending == "acquired" and facts.chsh_score is None
    assert "Post-processing was not started yet" in text_of(render_page(facts))


def test_a_characterisation_run_shows_the_link(characterised: Run) -> None:
    facts = collect_facts(characterised.directory)
    assert facts.characterisation is not None
    estimate = facts.characterisation.chsh_score
    text = text_of(render_page(facts))
    assert f"S = {estimate.value:.4f}" in text and "P(A, B | X, Y)" in text
    assert estimate.value == pytest.approx(8 * 0.85 - 4, abs=5 * estimate.standard_error)


def test_texts_of_others_are_escaped(acquired: Run) -> None:
    facts = collect_facts(acquired.directory)
    (gap,) = facts.timeline.gaps
    evil = replace(gap, reason='"><script>alert(1)</script>')
    node = replace(facts.provenance[0], values={"artiq": "<img src='http://example.org/x'/>"})
    page = render_page(replace(facts, timeline=replace(facts.timeline, gaps=(evil,)), provenance=(node,)))
    assert all(element.tag not in ("script", "img") for element in elements(page))


def test_the_same_run_gives_the_same_page(acquired: Run) -> None:
    first, second = (render_page(collect_facts(acquired.directory)) for _ in range(2))
    assert first == second


def test_colours_follow_the_scheme(acquired: Run) -> None:
    page = render_page(collect_facts(acquired.directory))
    assert "prefers-color-scheme: dark" in page and "@media print" in page
    drawings = re.findall(r"<svg.*?</svg>", page, flags=re.S)
    assert len(drawings) == 5
    for drawing in drawings:
        assert "var(--" in drawing and not re.search(r"(fill|stroke): ?#", drawing)


def test_a_directory_with_another_key_store(acquired: Run, tmp_path: Path) -> None:
    keys = acquired.directory / "bob" / "keys.sqlite"
    facts = collect_facts(acquired.directory / "bob", keys)
    assert facts.balance_sheet is not None and facts.balance_sheet.consumed == 0
