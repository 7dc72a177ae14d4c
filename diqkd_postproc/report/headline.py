"""The top of the page: the key, its proof, its cost and every warning."""

from __future__ import annotations

from scipy.stats import binom

from diqkd_postproc.report.facts import RunFacts
from diqkd_postproc.report.markup import Content, Markup, counted, element

_CSS = {"key": "key", "aborted": "aborted", "unfinished": "open", "acquired": "open"}


def headline(facts: RunFacts) -> Markup:
    """One large number, one sentence, six small ones."""
    proven = facts.parameters.proof == "paper"
    badge = element(
        "span",
        "peer-reviewed proof" if proven else "proof not peer-reviewed",
        css=f"badge {'good' if proven else 'warn'}",
    )
    if facts.characterisation is not None:
        large, unit = f"{facts.characterisation.chsh_score.value:.4f}", "CHSH score S of the link"
        badge = element("span", "characterisation: outcomes shared, no key", css="badge good")
    elif facts.ending == "key":
        large, unit = f"{facts.key_bits:,}", "secret key bits, shared by Alice and Bob"
    elif facts.ending == "aborted":
        large, unit = "No key", "the protocol aborted, as it must"
    else:
        large, unit = "No key yet", "the rounds are there"
    left = element(
        "div",
        element("div", large, css="figure-of-merit"),
        element("p", unit, css="unit"),
        element("p", badge, css="sentence"),
    )
    return element(
        "div",
        left,
        _numbers(facts),
        css=f"hero {'key' if facts.characterisation else _CSS[facts.ending]}",
    )


def _numbers(facts: RunFacts) -> Markup:
    parameters, sheet, score = facts.parameters, facts.balance_sheet, facts.chsh_score
    if score is not None:
        bell = (
            f"{score.value:.3f} ± {score.standard_error:.3f}",
            f"{facts.demanded_score:.3f} demanded",
        )
    elif facts.ending == "key":
        bell = ("passed", f"S = {facts.demanded_score:.3f} demanded")
    else:
        bell = ("–", "not known")
    rate = facts.timeline.herald_rate
    lost = "" if facts.num_lost is None else f", {counted(facts.num_lost, 'outcome')} lost"
    entries = [
        (
            "net gain",
            f"{sheet.net_gain:+,} bits" if sheet and facts.ending == "key" else "–",
            f"{sheet.consumed:,} bits consumed" if sheet else "no key store here",
        ),
        ("proof", parameters.proof, f"soundness error {parameters.soundness_error:g}"),
        ("Bell test", *bell),
        ("rounds", f"{parameters.num_rounds:,}", f"{facts.num_tests:,} of them tests"),
        (
            "herald rate",
            f"{rate:,.0f} / s" if rate >= 100 else f"{rate:.3g} / s",
            counted(len(facts.timeline.gaps), "pause") + lost,
        ),
        (
            "key rate",
            f"{facts.key_bits / parameters.num_rounds:.4f}" if facts.key_bits else "–",
            "bits a round",
        ),
    ]
    if facts.characterisation is not None:
        errors = facts.characterisation.qber
        value, detail = "–", "no key rounds"
        if errors is not None:
            value = f"{100 * errors.value:.3f} %"
            detail = f"± {100 * errors.standard_error:.3f} %, {errors.num_rounds:,} key rounds"
        entries = [("bit error rate Q", value, detail), *entries[3:5]]
    items: list[Content] = [
        element("div", element("dt", name), element("dd", value, element("small", detail)))
        for name, value, detail in entries
    ]
    return element("dl", *items, css="numbers")


def _comparison(facts: RunFacts) -> str:
    """After an abort for too many losses: how the honest link and the best classical devices would fare."""
    parameters, losses = facts.parameters, facts.session.num_losses if facts.session else None
    if losses is None:
        return ""
    tests = float(parameters.gamma)
    honest = binom.sf(facts.most_losses, parameters.num_rounds, tests * parameters.design_test_error)
    classical = binom.cdf(facts.most_losses, parameters.num_rounds, tests / 4)
    return (
        f" {losses:,} were lost where {facts.most_losses:,} are accepted. A link of the design point "
        f"ends so with probability {honest:.1g}; devices that share no entanglement, which lose at least one "
        f"test in four, would pass with at most {classical:.1g}."
    )


def banners(facts: RunFacts) -> list[Markup]:
    """What a reader must not overlook."""
    notes: list[Markup] = []

    def note(text: str, css: str = "note") -> None:
        notes.append(element("p", text, css=css))

    if facts.remark:
        note(facts.remark, "note plain")
    if facts.ending == "aborted" and facts.session:
        note(f"{facts.session.reason}{_comparison(facts)} Neither side has made a key.", "note bad")
    elif facts.characterisation is not None:
        pass
    elif facts.parameters.key_bits == 0:
        note("These parameters allow no key: no part of the initial key is ever spent on them.")
    elif facts.ending == "unfinished":
        note(
            "Post-processing was begun and has not ended in a key on this node. Start it on both sides "
            "again: it goes on where it stopped, or says why it cannot."
        )
    elif facts.ending == "acquired":
        what = (
            "was not started yet"
            if facts.balance_sheet
            else "is not known here: there is no key store in this folder"
        )
        note(f"All rounds are recorded and sealed. Post-processing {what}.")
    if facts.same_key is False:
        note("The two key stores hold different keys. Use neither, and report this.", "note bad")
    if facts.parameters.key_bits > facts.key_length.bits and facts.parameters.length == "fixed":
        note(
            f"The proof certifies {facts.key_length.bits:,} bits for these parameters, fewer than "
            f"key_bits = {facts.parameters.key_bits:,}: no such key is secure.",
            "note bad",
        )
    if facts.simulated:
        note(
            "A simulation: these nodes ran without hardware, and the simulated laboratory knows everything. "
            "The key is worth nothing."
        )
    elif len(facts.roles) == 2 and facts.characterisation is None:
        note("The private files of both nodes lie on one machine: a key made like this is a demonstration.")
    return notes
