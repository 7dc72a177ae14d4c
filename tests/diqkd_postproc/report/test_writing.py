"""Files in, files out: what is missing is said, what is written is private, and the command line works."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diqkd.cli import main
from diqkd_postproc.key_store import KeyStore
from diqkd_postproc.link.characterisation import characterise
from diqkd_postproc.link.timeline import elapsed_seconds, timeline_of
from diqkd_postproc.protocol.errors import DiqkdError, ParameterError, StorageError
from diqkd_postproc.report import collect_facts, for_publication, printing, render_page, write_report
from diqkd_postproc.session.engine import derive_session_id
from diqkd_postproc.session.events import Persist
from diqkd_postproc.session.framing import encode_frame
from diqkd_postproc.session.journal import SessionJournal, journal_path
from diqkd_postproc.session.messages import Decision, Verdict
from diqkd_postproc.session.result_file import load_result, result_path, save_refusal
from tests.support.small_runs import GAP, PARAMETERS, RUN_ID, Run, records


def copy_of(run: Run, target: Path) -> Path:
    return Path(shutil.copytree(run.directory, target))


def test_what_is_missing_is_named(acquired: Run, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="is not a directory"):
        collect_facts(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(StorageError, match=r"holds no record\.h5"):
        collect_facts(tmp_path / "empty")
    folder = copy_of(acquired, tmp_path / "half")
    (folder / "alice" / "record.h5").rename(folder / "alice" / "spool.sqlite")
    with pytest.raises(StorageError, match="acquisition has not finished"):
        collect_facts(folder)
    with pytest.raises(StorageError, match="does not exist"):
        collect_facts(folder / "bob", tmp_path / "no.keys")
    with pytest.raises(StorageError, match="several nodes"):
        collect_facts(acquired.directory, acquired.directory / "bob" / "keys.sqlite")


def test_records_of_two_runs_are_not_mixed(acquired: Run, tmp_path: Path) -> None:
    folder = copy_of(acquired, tmp_path / "mixed")
    (folder / "alice" / "record.h5").unlink()
    replace(acquired.alice, run_id="a" * 32).write(folder / "alice" / "record.h5")
    with pytest.raises(StorageError, match="different runs"):
        collect_facts(folder)


def test_a_truncated_record_is_refused(acquired: Run, tmp_path: Path) -> None:
    record = copy_of(acquired, tmp_path / "torn") / "bob" / "record.h5"
    record.write_bytes(record.read_bytes()[:-100])
    with pytest.raises(StorageError, match="not a usable record"):
        collect_facts(tmp_path / "torn")


def test_a_record_without_keys_is_reported_too(acquired: Run, tmp_path: Path) -> None:
    folder = copy_of(acquired, tmp_path / "run")
    (folder / "bob" / "keys.sqlite").unlink()
    answer = write_report(folder / "bob")
    assert answer["ending"] == "acquired" and answer["balance_sheet"] is None
    assert "no key store" in Path(answer["report"]).read_text(encoding="utf-8")


def test_reports_are_readable_by_their_owner_only(acquired: Run, tmp_path: Path) -> None:
    for public in (False, True):
        path = Path(write_report(acquired.directory, public=public)["report"])
        assert path.name == ("report-public.html" if public else "report.html")
        if os.name == "posix":
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    elsewhere = tmp_path / "page.html"
    elsewhere.write_text("old")
    write_report(acquired.directory, output=elsewhere)
    assert elsewhere.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    with pytest.raises(StorageError, match="cannot write"):
        write_report(acquired.directory, output=tmp_path / "missing" / "page.html")


def test_the_command_line(acquired: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    assert main(["report", str(acquired.directory), "-o", str(page), "--public"]) == 0
    assert capsys.readouterr().out == f"{page}\n"
    assert main(["report", str(acquired.directory), "-o", str(page), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["report"] == str(page) and answer["num_rounds"] == PARAMETERS.num_rounds
    assert main(["report", str(tmp_path)]) == StorageError.exit_code
    assert "holds no record.h5" in capsys.readouterr().err


def test_a_pdf_needs_a_browser(acquired: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(printing.shutil, "which", lambda name: None)
    with pytest.raises(ParameterError, match="install one, or open the HTML report"):
        write_report(acquired.directory, pdf=True)


@pytest.mark.parametrize("works", [True, False])
def test_a_browser_prints_the_page(
    works: bool, acquired: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def browser(command: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
        assert command[-1].startswith("file://") and command[-1].endswith("page.html")
        target = next(text.partition("=")[2] for text in command if text.startswith("--print-to-pdf="))
        if works:
            Path(target).write_bytes(b"%PDF-1.4")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(printing.shutil, "which", lambda name: "/usr/bin/browser")
    monkeypatch.setattr(printing.subprocess, "run", browser)
    if works:
        answer = write_report(acquired.directory, pdf=True, output=tmp_path / "page.html")
        assert Path(answer["pdf"]).read_bytes() == b"%PDF-1.4"
    else:
        with pytest.raises(DiqkdError, match="printed nothing"):
            write_report(acquired.directory, pdf=True, output=tmp_path / "page.html")


def test_outcomes_of_a_key_run_are_never_compared(finished: Run) -> None:
    with pytest.raises(ParameterError, match="may not be compared"):
        characterise(finished.alice, finished.bob)


def test_records_for_characterisation_have_to_fit(characterised: Run) -> None:
    with pytest.raises(ParameterError, match="give Alice's, then Bob's"):
        characterise(characterised.bob, characterised.alice)
    with pytest.raises(ParameterError, match="different runs"):
        characterise(characterised.alice, replace(characterised.bob, run_id="a" * 32))


def test_a_restarted_clock_does_not_turn_time_back() -> None:
    _, bob = records()
    stamps = bob.timestamp_mu.copy()
    stamps[2003:] -= stamps[2003] - 5_000_000
    restarted = replace(bob, timestamp_mu=stamps, attributes={"gaps": [GAP | {"first_round": 2003}]})
    elapsed = elapsed_seconds(restarted)
    assert (np.diff(elapsed) >= 0).all()
    assert elapsed[2003] - elapsed[1999] == pytest.approx(600.0)
    assert elapsed[-1] - elapsed[2003] == pytest.approx(0.01 * (6000 - 2004))
    timeline = timeline_of(restarted)
    assert timeline.paused_s == pytest.approx(600.0) and timeline.heralds.sum() == 6000


def test_a_session_keeps_what_it_learnt_once(finished: Run) -> None:
    keys = finished.directory / "bob" / "keys.sqlite"
    (path,) = keys.parent.glob("keys.sqlite.result-*")
    stored = json.loads(path.read_text(encoding="utf-8"))
    assert result_path(keys, stored["session_id"]) == path
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_result(keys, stored["session_id"]) == stored
    assert load_result(keys, "f" * 32) is None
    assert stored["num_losses"] > 0 and stored["finished_unix"] > 0


def test_a_resumed_session_keeps_the_count_of_losses(finished: Run, tmp_path: Path) -> None:
    from diqkd_postproc.key_store import KeyStore
    from diqkd_postproc.session.result_file import save_result
    from diqkd_postproc.session.run import run_session

    folder = copy_of(finished, tmp_path / "again") / "bob"
    before = collect_facts(folder).session
    with KeyStore.open(folder / "keys.sqlite") as keys:
        result = run_session("bob", finished.bob, keys, PARAMETERS, "127.0.0.1", 0, True, timeout=0.1)
        assert result.num_losses is None
        save_result(keys.path, result)
    after = collect_facts(folder).session
    assert before is not None and after is not None and after.num_losses == before.num_losses


def test_a_damaged_result_is_named(finished: Run, tmp_path: Path) -> None:
    folder = copy_of(finished, tmp_path / "damaged") / "bob"
    (path,) = folder.glob("keys.sqlite.result-*")
    path.write_text("{")
    with pytest.raises(StorageError, match="damaged"):
        collect_facts(folder)
    path.write_text('{"session_id": "0"}')
    with pytest.raises(StorageError, match="not the result of session"):
        collect_facts(folder)


def test_a_wrong_tag_is_told_though_no_message_says_so(acquired: Run, tmp_path: Path) -> None:
    directory = copy_of(acquired, tmp_path / "run")
    keys = directory / "alice" / "keys.sqlite"
    with KeyStore.open(keys) as store:
        session_id = derive_session_id(PARAMETERS, store.key_id, RUN_ID)
    SessionJournal(journal_path(keys, session_id), PARAMETERS, session_id).close()
    assert collect_facts(directory).ending == "unfinished"
    save_refusal(keys, session_id.hex(), "the tag of Bob's decision is wrong")
    facts = collect_facts(directory)
    assert facts.ending == "aborted" and facts.session is not None
    assert facts.session.reason == "the tag of Bob's decision is wrong."


def test_a_forged_decision_is_not_reported(acquired: Run, tmp_path: Path) -> None:
    """Alice journals a decision before she checks its tag: what it says may be anybody's invention."""
    directory = copy_of(acquired, tmp_path / "run")
    keys = directory / "alice" / "keys.sqlite"
    with KeyStore.open(keys) as store:
        session_id = derive_session_id(PARAMETERS, store.key_id, RUN_ID)
    forged = Decision(verdict=Verdict.TOO_MANY_LOSSES, num_losses=5, tag=bytes(8))
    with closing(SessionJournal(journal_path(keys, session_id), PARAMETERS, session_id)) as journal:
        journal.append(Persist(outgoing=False, message=forged, frame=encode_frame(session_id, forged)))
    save_refusal(keys, session_id.hex(), "the tag of Bob's decision is wrong")
    session = collect_facts(directory).session
    assert session is not None and session.ending == "aborted" and session.num_losses is None
    assert session.reason == "the tag of Bob's decision is wrong."


def test_a_remark_is_printed_in_the_laboratory_only(acquired: Run, tmp_path: Path) -> None:
    directory = copy_of(acquired, tmp_path / "run")
    (directory / "remark.txt").write_text("After the new <lens>.\n", encoding="utf-8")
    facts = collect_facts(directory)
    assert "After the new &lt;lens&gt;." in render_page(facts)
    assert "lens" not in render_page(for_publication(facts))
