"""Power cuts at every write of key store, round spool and sealed record, replayed on a simulated disk.

Each workload runs once while every effect on its files is noted. Then, for every prefix of these effects,
the files that a power cut can leave are made and opened: see `simulated_disk` for the model. An image passes
if it opens with everything that had been acknowledged, and with the step under way done either wholly or not
at all; a refusal (StorageError) and wrong content are counted apart. `--without-sync` is the control: it
removes the synchronisations from the diary, and has to find damage.

    python -m campaigns.power_cuts [--variants 4] [--every 1] [--json]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from campaigns.simulated_disk import SYNC, SYNC_DIRECTORY, Disk, Effect, Image, crash_images
from campaigns.storage_workloads import WORKLOADS, Content, Workload
from diqkd.console import ProgressDisplay
from diqkd_postproc.files import make_private_directory
from diqkd_postproc.protocol.errors import StorageError

RECOVERED, COMPLETED, REFUSED, WRONG = "as acknowledged", "with the step under way", "refused", "wrong"


@dataclass
class Run:
    """A workload that ran to its end: its diary and, for each number of acknowledged steps, the content."""

    effects: list[Effect]
    acknowledged: list[int]
    contents: list[Content]
    snapshots: list[Image] = field(repr=False)


def snapshot(folder: Path) -> Image:
    """All files of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def materialise(image: Image, folder: Path) -> None:
    """Make `folder` hold exactly the files of an image."""
    shutil.rmtree(folder, ignore_errors=True)
    make_private_directory(folder)
    for name, content in image.items():
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o600)


def forget(state: Path) -> None:
    """Empty the account's notes of epochs: they would rightly refuse the older of the campaign's images."""
    shutil.rmtree(state, ignore_errors=True)


def note_epoch(content: Content, state: Path) -> None:
    """What the account knows after a step of the key store: no power cut may leave the store behind that."""
    forget(state)
    if isinstance(content, tuple) and "segments" in content[0]:
        meta = dict(content[0]["meta"])
        make_private_directory(state)
        path = state / f"{meta['store_id']}.epoch"
        path.write_text(f"{int(meta['epoch']):020d}")
        path.chmod(0o600)


def run(workload: Workload, root: Path, state: Path) -> Run:
    """Run a workload in a fresh folder below `root`, everything noted."""
    folder = make_private_directory(root / "live")
    disk = Disk(folder)
    acknowledged, snapshots = [0], [snapshot(folder)]
    handle: Any = None
    with disk.observed():
        for _, step in workload.steps:
            handle = step(folder, handle)
            acknowledged.append(len(disk.effects))
            snapshots.append(snapshot(folder))
        effects = list(disk.effects)
        disk.recording = False
        workload.close(handle)
    shutil.rmtree(folder)
    contents = []
    for image in snapshots:
        forget(state)
        materialise(image, root / "image")
        contents.append(workload.content(root / "image"))
    return Run(effects, acknowledged, contents, snapshots)


def verdict_of(workload: Workload, folder: Path, before: Content, after: Content) -> str:
    """What became of an image of `folder`, between two acknowledged contents."""
    try:
        found = workload.content(folder)
    except StorageError:
        return REFUSED
    if found == before:
        return RECOVERED
    return COMPLETED if found == after else WRONG


def cut(
    workload: Workload, root: Path, options: argparse.Namespace, progress: ProgressDisplay
) -> dict[str, Any]:
    """All power cuts of one workload: counts of verdicts, and where the first bad one was."""
    state = Path(os.environ["DIQKD_STATE_DIR"])
    whole = run(workload, root, state)
    effects = whole.effects
    if options.without_sync:
        kept = [number for number, effect in enumerate(effects) if effect.kind not in (SYNC, SYNC_DIRECTORY)]
        whole.acknowledged = [sum(number < end for number in kept) for end in whole.acknowledged]
        effects = [effects[number] for number in kept]
    verdicts: Counter[str] = Counter()
    first_bad: dict[str, str] = {}
    seen: set[bytes] = set()
    for end in range(0, len(effects) + 1, options.every):
        progress(workload.name, end, len(effects), f"{sum(verdicts.values()):,} images")
        steps = sum(acknowledged <= end for acknowledged in whole.acknowledged) - 1
        before, after = whole.contents[steps], whole.contents[min(steps + 1, len(workload.steps))]
        for image in crash_images(effects, end, options.variants, options.seed):
            digest = hashlib.sha256(f"{steps} {sorted(image)}".encode())
            for name in sorted(image):
                digest.update(hashlib.sha256(image[name]).digest())
            if digest.digest() in seen:
                continue
            seen.add(digest.digest())
            note_epoch(before, state)
            materialise(image, root / "image")
            verdict = verdict_of(workload, root / "image", before, after)
            verdicts[verdict] += 1
            if verdict in (REFUSED, WRONG):
                step = workload.steps[min(steps, len(workload.steps) - 1)][0]
                effect = effects[end - 1].kind if end else "start"
                first_bad.setdefault(verdict, f"effect {end} ({effect}), step {step!r}")
    progress(workload.name, len(effects), len(effects), f"{sum(verdicts.values()):,} images")
    return {
        "steps": len(workload.steps),
        "effects": len(effects),
        "images": sum(verdicts.values()),
        **{name: verdicts[name] for name in (RECOVERED, COMPLETED, REFUSED, WRONG)},
        "first_bad": first_bad,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variants", type=int, default=4, help="random images a prefix")
    parser.add_argument("--every", type=int, default=1, help="take every n-th prefix only")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="workload whose name begins so")
    parser.add_argument("--without-sync", action="store_true", help="control: nothing was ever synced")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--progress", choices=["auto", "lines", "none"], default="auto")
    options = parser.parse_args()
    report = {}
    with tempfile.TemporaryDirectory() as folder, ProgressDisplay(options.progress) as progress:
        os.environ["DIQKD_STATE_DIR"] = str(Path(folder) / "state")
        for number, workload in enumerate(WORKLOADS):
            if workload.name.startswith(options.only or ""):
                root = make_private_directory(Path(folder) / str(number))
                report[workload.name] = cut(workload, root, options, progress)
    if options.json:
        print(json.dumps(report))
    else:
        for name, counts in report.items():
            print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in counts.items()))
    return int(any(counts[REFUSED] or counts[WRONG] for counts in report.values()))


if __name__ == "__main__":
    sys.exit(main())
