"""Campaigns of faults in simulated acquisitions: what was killed, cut or lost, and what the records then say.

    python -m campaigns.acquisition_faults                 all scenarios (see --help for their sizes)
    python -m campaigns.acquisition_faults kills --points 1000

Every point is a fault at a random place of a short acquisition of two nodes, run by the commands of an
ordinary one, interrupted, started again with the same run directories until it is complete, and audited:
both records are readable and have the same rounds, types and patterns; no acknowledged round has changed; no
random bit was taken twice, and the settings in the record are those that were drawn; no batch has fewer
rounds than both nodes had heralds; unknown outcomes are 0, and counted; the order of the round holds over all
starts (`faults/order.py`). Exit code 1 if a trial has a finding.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from campaigns.faults.scenarios import SCENARIOS, Case, short_parameters
from campaigns.faults.secrecy import SecrecyTrial
from campaigns.faults.trial import Trial
from diqkd.console import ProgressDisplay

NUM_ROUNDS = 300
SECRETS = "secrets"


def run_case(case: Case, seed: int, rounds: int, keep: Path | None) -> dict[str, Any]:
    """One trial in a directory of its own, which stays if there are findings and `keep` is given."""
    with tempfile.TemporaryDirectory(prefix="acquisition-", dir=keep) as name:
        directory = Path(name)
        options = dict(case.options)
        protocol = options.pop("protocol", "ordered")
        parameters = short_parameters(rounds, protocol=protocol)
        options["laboratory_faults"] = ("--protocol", protocol)
        trial = Trial(directory, parameters, seed, started_as="server", **options)
        trial.run(case.starts)
        summary = trial.summary() | {"scenario": case.name, "seed": seed, "messages": trial.messages}
        if trial.findings and keep is not None:
            shutil.copytree(directory, keep / f"findings-{case.name}-{seed}", dirs_exist_ok=True)
    return summary


def run_scenario(name: str, options: argparse.Namespace, progress: ProgressDisplay) -> dict[str, Any]:
    """All trials of a scenario, `jobs` at a time; their sums and every finding."""
    scenario, points = SCENARIOS[name]
    rng = random.Random(f"{name} {options.seed}")
    cases = list(scenario(rng, options.points or points))
    total: Counter[str] = Counter()
    killed_at: Counter[str] = Counter()
    findings: list[Any] = []
    started = time.monotonic()
    with ThreadPoolExecutor(options.jobs) as pool:
        running = [
            pool.submit(run_case, case, options.seed * 100_000 + 100 * number, options.rounds, options.keep)
            for number, case in enumerate(cases)
        ]
        for done, finished in enumerate(as_completed(running), start=1):
            summary = finished.result()
            total.update({key: summary[key] for key in ("starts", "killed", "faults", "rounds")})
            killed_at.update(summary["killed_at"])
            total["lost"] += sum(summary["lost"].values())
            if summary["findings"]:
                findings.append(summary)
            progress(name, done, len(cases), f"{total['faults']} faults, {len(findings)} findings")
    return {
        "scenario": name,
        "trials": len(cases),
        **total,
        "killed_at": dict(sorted(killed_at.items())),
        "trials_with_findings": len(findings),
        "findings": findings,
        "wall_s": round(time.monotonic() - started, 1),
    }


def search_secrets(options: argparse.Namespace, progress: ProgressDisplay) -> dict[str, Any]:
    """The scenario `secrets`: whole runs, post-processing included, and what they leave to be seen."""
    count = options.points or 1
    total: Counter[str] = Counter()
    findings: list[Any] = []
    for number in range(count):
        progress(SECRETS, number, count)
        with tempfile.TemporaryDirectory(prefix="secrets-", dir=options.keep) as directory:
            verdict = SecrecyTrial(Path(directory), options.seed + number).run()
        total.update({key: verdict[key] for key in ("searched_bytes", "faults", "num_hits")})
        total["rounds"] += NUM_ROUNDS
        if verdict["num_hits"] or verdict["findings"] or not verdict["planted_leaks_found"]:
            findings.append({"scenario": SECRETS, "seed": options.seed + number, **verdict})
    progress(SECRETS, count, count)
    return {
        "scenario": SECRETS,
        "trials": count,
        **total,
        "trials_with_findings": len(findings),
        "findings": findings,
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    sizes = ", ".join(f"{name} {points}" for name, (_, points) in SCENARIOS.items()) + f", {SECRETS} 1"
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"with default points: {sizes}")
    parser.add_argument("--points", type=int, help="random points (kills) or trials of each scenario")
    parser.add_argument("--rounds", type=int, default=NUM_ROUNDS, help="rounds of an acquisition")
    parser.add_argument("--seed", type=int, default=1, help="chooses the points")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="trials at a time")
    parser.add_argument("--keep", type=Path, help="folder that keeps the files of trials with findings")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--progress", choices=["auto", "lines", "none"], default="auto")
    options = parser.parse_args()
    names = [*SCENARIOS, SECRETS]
    unknown = sorted(set(options.scenarios) - set(names))
    if unknown:
        parser.error(f"no scenario {', '.join(unknown)}; there are {', '.join(names)}")
    if options.keep is not None:
        options.keep.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ProgressDisplay(options.progress) as progress:
        results = [
            search_secrets(options, progress) if name == SECRETS else run_scenario(name, options, progress)
            for name in options.scenarios or names
        ]
    if options.json:
        print(json.dumps(results, indent=2))
    else:
        show(results)
    return int(any(result["findings"] for result in results))


def show(results: list[dict[str, Any]]) -> None:
    """A table, and the findings below it."""
    table = Table("scenario", "trials", "starts", "killed", "faults", "rounds", "lost", "with findings")
    for result in results:
        names = ("scenario", "trials", "starts", "killed", "faults", "rounds", "lost", "trials_with_findings")
        table.add_row(*(str(result.get(name, 0)) for name in names))
    Console().print(table)
    for result in results:
        for place, count in result.get("killed_at", {}).items():
            print(f"{count:5} killed at {place}")
        for summary in result["findings"]:
            hits = [f"{place}: {', '.join(what)}" for place, what in summary.get("hits", {}).items()]
            print(f"{summary['scenario']}, seed {summary['seed']}:", *summary["findings"], *hits, sep="\n  ")


if __name__ == "__main__":
    sys.exit(main())
