"""Files of a session that end with it: a journal that must not be in use, and what is noted of a refusal."""

from contextlib import closing
from pathlib import Path

import pytest

from diqkd_postproc.files import make_private_directory
from diqkd_postproc.protocol.errors import StorageError
from diqkd_postproc.session.journal import SessionJournal, idle_session, journal_path
from diqkd_postproc.session.result_file import load_result, save_refusal
from tests.support.joined_parties import small_parameters

SESSION = bytes(range(16))


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return make_private_directory(tmp_path / "private") / "keys.sqlite"


def test_a_session_that_runs_is_not_idle(keys: Path) -> None:
    with idle_session(keys, SESSION.hex()):
        pass  # it has never begun
    journal = SessionJournal(journal_path(keys, SESSION), small_parameters(), SESSION)
    with closing(journal), pytest.raises(StorageError, match="in use"), idle_session(keys, SESSION.hex()):
        pass
    with (
        idle_session(keys, SESSION.hex()),
        pytest.raises(StorageError, match="in use"),
    ):
        SessionJournal(journal_path(keys, SESSION), small_parameters(), SESSION)


def test_a_refusal_is_noted(keys: Path) -> None:
    save_refusal(keys, SESSION.hex(), "the tag does not fit")
    noted = load_result(keys, SESSION.hex())
    assert noted is not None and noted["refused"] == "the tag does not fit"
    assert load_result(keys, bytes(16).hex()) is None
