"""Page of a report: one HTML document made of the facts, with its style and drawings inside it.

The document is well-formed XML too. Its security policy forbids the browser to load anything.
"""

from __future__ import annotations

import time
from importlib import resources

from diqkd_postproc.link.timeline import time_unit
from diqkd_postproc.planning.comparison import lengths_of_run
from diqkd_postproc.report import figures
from diqkd_postproc.report.assumptions import ASSUMPTIONS
from diqkd_postproc.report.characterisation import characterisation_sections
from diqkd_postproc.report.facts import RunFacts
from diqkd_postproc.report.headline import banners, headline
from diqkd_postproc.report.markup import Content, Markup, counted, element, figure, joined, section, table

PAPER = "https://doi.org/10.1038/s41586-022-04941-5"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def render_page(facts: RunFacts) -> str:
    """The report as HTML text; give it `for_publication(facts)` for the variant that may leave."""
    parts: list[Content] = [
        _top(facts),
        headline(facts),
        *banners(facts),
        *_results(facts),
        _timeline(facts),
        _interruptions(facts),
        _parameters_and_post_processing(facts),
        *([_assumptions()] if facts.characterisation is None else []),
        _provenance(facts),
        _footer(facts),
    ]
    title = f"DIQKD run {facts.run_id[:8]}"
    return document(title, joined(parts))


def document(title: str, content: Markup) -> str:
    """A whole HTML document around `content`."""
    style = resources.files("diqkd_postproc.report").joinpath("page.css").read_text(encoding="utf-8")
    head = (
        '<meta charset="utf-8" />\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}" />\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1" />\n'
        f"{element('title', title)}\n<style>\n{style}</style>"
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n{head}\n</head>\n'
        f"<body>\n{element('main', content)}\n</body>\n</html>\n"
    )


def _top(facts: RunFacts) -> Markup:
    start = facts.provenance[-1].values.get("start_unix") if facts.provenance else None
    when = f"{utc(float(start))} · " if start else ""
    variant = "published variant" if facts.public else "laboratory variant: keep it in the laboratory"
    return element(
        "div",
        element("h1", "Device-independent quantum key distribution · report of a run"),
        element("span", when, "run ", element("code", facts.run_id[:16]), " · ", variant),
        css="top",
    )


def utc(seconds: float) -> str:
    """Date and time of day, UTC."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def _results(facts: RunFacts) -> list[Content]:
    if facts.characterisation is not None:
        return list(characterisation_sections(facts.characterisation))
    rate_and_length = element("div", _rate(facts), _terms(facts), css="pair")
    return [*_balance_and_bell(facts), rate_and_length, *_lengths_side_by_side(facts)]


def _balance_and_bell(facts: RunFacts) -> list[Content]:
    bell = section("Bell test", figure(figures.bell_test_figure(facts), _bell_caption(facts)))
    sheet = facts.balance_sheet
    if sheet is None:
        return [bell]
    rows: list[tuple[Content, ...]] = [
        (row.step, f"{row.consumed:,}", row.note or f"{row.used_reusable:,}", f"{row.generated:,}")
        for row in sheet.rows
    ]
    total = element(
        "tr",
        element("th", "total", scope="row"),
        *(element("td", f"{bits:,}") for bits in (sheet.consumed, sheet.used_reusable, sheet.generated)),
        css="total",
    )
    printed = table(rows, ("protocol step", "consumed", "used, reusable", "generated"), css="balance")
    printed = Markup(printed.html.replace("</tbody>", f"{total}</tbody>"))
    caption = (
        f"Shared secret bits. The initial key K0 has {sheet.k0_bits:,}, K1 afterwards {sheet.k1_bits:,}: "
        f"a net {'gain' if sheet.net_gain >= 0 else 'loss'} of {abs(sheet.net_gain):,} bits."
    )
    return [section("Key balance sheet", printed, element("p", caption, css="small")), bell]


def _bell_caption(facts: RunFacts) -> str:
    parameters = facts.parameters
    tests = f"{facts.num_tests:,} of {parameters.num_rounds:,} rounds were tests; "
    limit = f"at most {facts.most_losses:,} lost ones are accepted"
    losses = facts.session.num_losses if facts.session else None
    if losses is not None:
        text = f"{tests}{losses:,} of them were lost, {limit}. S = 4 − 8 · lost / tests, with 95 % interval. "
        if parameters.length == "variable":
            return text + "The number of lost rounds was announced with the key, whose length pays for it."
        if facts.ending == "key":
            text += (
                "Bob alone knows the number of lost tests: it was not announced, and is not to be published. "
            )
        return text + "The bit error rate of the key rounds is never revealed in a key run."
    if facts.ending == "key":
        why = (
            "How many were lost was never announced: the key length pays only for what was."
            if facts.public
            else "How many were lost only Bob knows; his report shows it."
        )
        return f"{tests}{limit}, and the test was passed. {why}"
    return f"{tests}{limit}. Nobody has compared outcomes yet, so there is no score to show."


def _rate(facts: RunFacts) -> Markup:
    parameters = facts.parameters
    point = "this run" if facts.ending == "key" else "this run's parameters"
    caption = (
        f"Key rate by the proof named {parameters.proof} at the design point S = "
        f"{parameters.design_chsh_score:g}, Q = {100 * parameters.design_qber:g} %, γ = {parameters.gamma}, "
        f"soundness error {parameters.soundness_error:g}, with threshold and syndrome re-designed at every n "
        "(as Fig. 4 of the paper)."
    )
    if parameters.length_rule is None and parameters.protocol == "ordered":
        caption += " Dotted: the limit of infinitely many rounds."
    key_bits = facts.key_bits or parameters.key_bits
    return section("Key rate", figure(figures.rate_figure(parameters, key_bits, point), caption))


def _timeline(facts: RunFacts) -> Markup:
    timeline = facts.timeline
    scale, unit = time_unit(timeline.duration_s)
    digits = 1 if facts.public else 2
    caption = (
        f"{facts.parameters.num_rounds:,} heralds in {timeline.duration_s / scale:.{digits}f} {unit} of "
        f"{facts.roles[-1].capitalize()}'s clock, {counted(len(timeline.gaps), 'pause')} (shaded)."
    )
    rate = section("The run in time", figure(figures.timeline_figure(timeline), caption))
    total = max(1, sum(facts.herald_patterns.values()))
    rows = [
        (element("code", name), f"{count:,}", f"{100 * count / total:.2f} %")
        for name, count in facts.herald_patterns.items()
    ]
    mismatches = ""
    if facts.label_mismatches is not None:
        heralds = counted(facts.label_mismatches, "herald")
        mismatches = f" Of {heralds} Alice's core saw another pattern; no outcome depends on it."
    patterns = section(
        "Herald patterns",
        figure(
            figures.pattern_figure(facts),
            "With 95 % intervals. Each pattern heralds a Bell state of its own." + mismatches,
        ),
        table(rows, ("pattern", "heralds", "share")),
        css="narrow-drawing",
    )
    return element("div", rate, patterns, css="pair wide-narrow")


def duration(seconds: float) -> str:
    """In words, as exact as is readable."""
    if seconds >= 7200:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.2g} s"


def _interruptions(facts: RunFacts) -> Markup:
    gaps = [
        (
            f"{gap.first_round:,}",
            gap.reason,
            duration(gap.duration_s),
            *((utc(gap.start_unix),) if gap.start_unix is not None else ()),
        )
        for gap in facts.timeline.gaps
    ]
    losses = [(f"{loss.first_round:,}", f"{loss.num_rounds:,}", loss.reason) for loss in facts.losses]
    headings = ("before round", "why", "for", *(() if facts.public else ("since",)))
    content: list[Content] = [
        table(gaps, headings) if gaps else element("p", "No pauses: the run went through without a gap.")
    ]
    content.append(element("h3", "Lost outcomes"))
    if losses:
        content.append(table(losses, ("first round", "rounds", "why")))
    how_many = (
        "Which outcomes are unknown, and how many, is not published: they count as 0. "
        if facts.num_lost is None
        else f"{facts.num_lost:,} of {facts.parameters.num_rounds:,} rounds have an unknown outcome. "
    )
    if facts.num_order_losses:
        how_many += (
            f"{counted(facts.num_order_losses, 'round')} count as lost for what came on the nodes' lines, "
            "whatever was measured. "
        )
    content.append(
        element(
            "p",
            f"{how_many}Every herald is a round: a lost outcome counts as 0 and is never dropped, so that "
            "nothing is selected. Pauses between rounds do not touch the security of the key.",
        )
    )
    return section("Pauses and lost rounds", *content)


def _terms(facts: RunFacts) -> Markup:
    length = facts.key_length
    total = sum(facts.length_terms.values())
    caption = f"The theorem's terms add up to {total:,.1f} bits before rounding down. "
    rule = facts.parameters.length_rule
    if rule is not None and rule.length == "variable":
        caption += (
            f"A lost round costs {float(rule.free.kappa):.1f} bits, a test round is credited with "
            f"{float(rule.free.eta):.1f}, a late loss costs one. "
        )
    caption += f"Arithmetic: {length.certificate}."
    return section(
        "Where the key length comes from",
        element("p", f"Proof {length.proof}: {length.status}."),
        figure(figures.key_length_figure(facts), caption),
    )


def _lengths_side_by_side(facts: RunFacts) -> list[Content]:
    """What three theorems make of the same data, where the number of lost rounds may be said."""
    losses = facts.session.num_losses if facts.session else None
    if facts.parameters.length != "variable" or losses is None:
        return []
    rows = [
        (found.name, f"{found.key_bits:,}", found.status)
        for found in lengths_of_run(facts.parameters, losses, facts.num_tests, facts.num_late_losses)
    ]
    printed = table(rows, ("theorem", "bits of key", "status"))
    return [section("The same data under three theorems", printed)]


def _parameters_and_post_processing(facts: RunFacts) -> Markup:
    parameters = facts.parameters
    rows: list[tuple[Content, ...]] = [
        ("rounds n", f"{parameters.num_rounds:,}"),
        ("test probability γ", f"{parameters.gamma} = {float(parameters.gamma):.5f}"),
        ("CHSH threshold ω", f"{parameters.omega_threshold:.6f}"),
        ("most lost tests accepted", f"{parameters.max_losses:,}"),
        *([("most tests accepted", f"{parameters.max_tests:,}")] if parameters.max_tests is not None else []),
        *(
            [("most late losses accepted", f"{parameters.max_late_losses:,}")]
            if parameters.max_late_losses
            else []
        ),
        ("syndrome", f"{parameters.syndrome_bits:,} bits"),
        (
            "key length",
            f"{parameters.key_bits:,} bits"
            if parameters.length == "fixed"
            else f"variable, at most {parameters.key_bits:,} bits",
        ),
        ("soundness error", f"{parameters.soundness_error:g}"),
        ("design point", f"S = {parameters.design_chsh_score:g}, Q = {100 * parameters.design_qber:g} %"),
        ("proof", parameters.proof + (f", {parameters.bound} bound" if parameters.bound else "")),
        ("extractor", parameters.extractor),
        ("seed of the code", str(parameters.code_seed)),
    ]
    cards = [section("Parameters", table(rows, css="plain-list"))]
    session = facts.session
    if session is not None:
        done: list[tuple[Content, ...]] = [
            ("session", element("code", session.session_id)),
            ("digest of the transcript", element("code", session.transcript_digest or "not recorded")),
        ]
        if session.decode_iterations is not None:
            done.append(("decoder iterations", f"{session.decode_iterations:,}"))
        done += [(stage, f"{seconds:.1f} s") for stage, seconds in session.seconds.items() if seconds >= 0.05]
        cards.append(section("Post-processing", table(done, css="plain-list")))
    return element("div", *cards, css="pair")


def _assumptions() -> Markup:
    items = [element("li", element("b", headline), text) for headline, text in ASSUMPTIONS]
    return section("What the key rests on", element("ol", *items, css="assumptions"))


def _provenance(facts: RunFacts) -> Markup:
    rows: list[tuple[Content, ...]] = [
        ("run", element("code", facts.run_id)),
        ("digest of the parameters", element("code", facts.parameters.digest)),
        ("report written by", facts.written_by),
        *([("directory", element("code", facts.directory))] if facts.directory else []),
    ]
    names = {
        "artiq": "ARTIQ",
        "diqkd": "diqkd",
        "rid": "RID",
        "revision": "revision",
        "start_unix": "started",
    }
    details: list[Content] = []
    for node in facts.provenance:
        said = [
            f"{names.get(name, name)} {utc(float(value)) if name == 'start_unix' else value}"
            for name, value in node.values.items()
        ]
        rows.append((f"{node.role.capitalize()}'s node", " · ".join(said) or "says nothing of itself"))
        if node.configuration is not None:
            summary = element("summary", f"Configuration of {node.role.capitalize()}'s node")
            details.append(element("details", summary, element("pre", node.configuration)))
    return section("Provenance", table(rows, css="plain-list"), *details)


def _footer(facts: RunFacts) -> Markup:
    return element(
        "footer",
        "Protocol: Nadlinger et al., ",
        element("a", "Nature 607, 682 (2022)", href=PAPER),
        ". No setting, outcome, key, pad or seed is in this document. ",
        "It may leave the laboratory." if facts.public else "",
    )
