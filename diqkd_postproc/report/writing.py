"""Files of a run's report: HTML, and PDF on request."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from diqkd_postproc.files import replace_atomically
from diqkd_postproc.report.facts import RunFacts, collect_facts
from diqkd_postproc.report.page import render_page
from diqkd_postproc.report.printing import find_browser, print_to_pdf
from diqkd_postproc.report.publication import for_publication


def write_report(
    directory: Path,
    *,
    public: bool = False,
    pdf: bool = False,
    output: Path | None = None,
    keys: Path | None = None,
) -> dict[str, Any]:
    """Write the report of the run in `directory` and return what it says, with the files' names.

    output: name of the HTML file, by default `report.html` or `report-public.html` in the run's directory;
    the PDF lies beside it. Both can be read by their owner only. Raises StorageError where the run is not
    complete, ParameterError where no browser can print.
    """
    browser = find_browser() if pdf else None
    facts = collect_facts(directory, keys)
    if public:
        facts = for_publication(facts)
    page = output or directory / ("report-public.html" if public else "report.html")
    replace_atomically(page, render_page(facts).encode(), private=False, mode=0o600)
    files = {"report": str(page)}
    if browser is not None:
        printed = page.with_suffix(".pdf")
        replace_atomically(printed, print_to_pdf(browser, page), private=False, mode=0o600)
        files["pdf"] = str(printed)
    return files | summary(facts)


def summary(facts: RunFacts) -> dict[str, Any]:
    """The report's numbers as plain values, for JSON."""
    score, sheet, session = facts.chsh_score, facts.balance_sheet, facts.session
    return {
        "public": facts.public,
        "run_id": facts.run_id,
        "ending": facts.ending,
        "reason": session.reason if session else "",
        "key_bits": facts.key_bits,
        "proof": facts.key_length.proof,
        "proof_status": facts.key_length.status,
        "net_gain": sheet.net_gain if sheet else None,
        "num_rounds": facts.parameters.num_rounds,
        "num_tests": facts.num_tests,
        "num_losses": session.num_losses if session else None,
        "max_losses": facts.most_losses,
        "chsh_score": asdict(score) if score else None,
        "num_lost": facts.num_lost,
        "num_order_losses": facts.num_order_losses,
        "herald_rate": facts.timeline.herald_rate,
        "herald_patterns": dict(facts.herald_patterns),
        "label_mismatches": facts.label_mismatches,
        "num_gaps": len(facts.timeline.gaps),
        "parameters_digest": facts.parameters.digest,
        "transcript_digest": session.transcript_digest if session else None,
        "balance_sheet": sheet.to_dict() if sheet else None,
    }
