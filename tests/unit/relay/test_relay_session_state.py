"""What a session is at: transactions, settings, pinning."""

import pytest

from onetrip.relay.session_state import SessionState, differences, startup_settings
from onetrip.wire.sql_classifier import Classifier

CLASSIFIER = Classifier()


def may_use_replica(state: SessionState, sql: str) -> bool:
    return state.may_use_replica(CLASSIFIER.classify(sql.encode()))


def run(state: SessionState, sql: str, status: str = "I", *, tag: str = "", fails: bool = False):
    state.sent(CLASSIFIER.classify(sql.encode()))
    committed = not tag.startswith("ROLLBACK")
    return state.ready(status.encode(), is_failed=fails, is_committed=committed)


def test_reads_and_read_only_transactions_may_use_a_replica() -> None:
    state = SessionState({})
    assert may_use_replica(state, "SELECT 1")
    assert may_use_replica(state, "BEGIN READ ONLY")
    assert not may_use_replica(state, "BEGIN")
    assert not may_use_replica(state, "INSERT INTO t VALUES (1)")
    assert not may_use_replica(state, "SELECT 1; SET jit = off")


@pytest.mark.parametrize("value", ["on", "'on'", "true", "1", "yes"])
def test_a_read_only_session_begins_on_a_replica(value: str) -> None:
    state = SessionState({})
    run(state, f"SET default_transaction_read_only = {value}")
    assert may_use_replica(state, "BEGIN")
    assert not may_use_replica(state, "BEGIN READ WRITE")
    run(state, "SET default_transaction_read_only = off")
    assert not may_use_replica(state, "BEGIN")


def test_read_only_from_the_start() -> None:
    assert may_use_replica(SessionState({"default_transaction_read_only": "on"}), "BEGIN")
    assert not may_use_replica(SessionState({"default_transaction_read_only": "off"}), "BEGIN")


def test_a_serializable_session_uses_no_replica() -> None:
    state = SessionState({"default_transaction_isolation": "serializable"})
    assert not may_use_replica(state, "SELECT 1")


def test_settings_count_once_they_are_committed() -> None:
    state = SessionState({})
    run(state, "BEGIN", "T")
    run(state, "SET jit = off", "T")
    assert state.settings == {}
    run(state, "ROLLBACK", tag="ROLLBACK")
    assert state.settings == {}
    run(state, "BEGIN", "T")
    run(state, "SET jit = off", "T")
    applied = run(state, "COMMIT", tag="COMMIT")
    assert [setting.name for setting in applied] == ["jit"]
    assert state.settings == {"jit": "SET jit = off"}
    run(state, "SET jit = on", fails=True)
    assert state.settings == {"jit": "SET jit = off"}
    run(state, "RESET ALL")
    assert state.settings == {}


def test_a_reset_goes_back_to_what_the_start_said() -> None:
    state = SessionState({"work_mem": "1MB", "jit": "off"})
    start = dict(state.settings)
    run(state, "SET work_mem = '9MB'")
    run(state, "SET lock_timeout = 1")
    run(state, "RESET work_mem")
    assert state.settings == start | {"lock_timeout": "SET lock_timeout = 1"}
    run(state, "DISCARD ALL")
    assert state.settings == start


def test_a_savepoint_that_may_undo_a_setting_pins() -> None:
    state = SessionState({})
    run(state, "BEGIN", "T")
    run(state, "ROLLBACK TO a", "T")
    assert not state.is_pinned
    run(state, "SET jit = off", "T")
    run(state, "ROLLBACK TO a", "T")
    assert state.is_pinned


def test_pins_last_until_the_session_is_discarded() -> None:
    state = SessionState({})
    run(state, "LISTEN a")
    assert state.is_pinned
    assert not may_use_replica(state, "SELECT 1")
    run(state, "DISCARD ALL", fails=True)
    assert state.is_pinned
    run(state, "DISCARD ALL")
    assert not state.is_pinned
    run(state, "BEGIN", "E", fails=True)
    run(state, "LISTEN a", "E", fails=True)
    assert not state.is_pinned  # a failed transaction does nothing
    always = SessionState({}, is_pinned=True)
    run(always, "DISCARD ALL")
    assert always.is_pinned


@pytest.mark.parametrize(
    ("name", "value", "pins"),
    [
        ("standard_conforming_strings", "off", True),
        ("standard_conforming_strings", "on", False),
        ("client_encoding", "UTF8", False),
        ("client_encoding", "LATIN1", False),
        ("client_encoding", "WIN1252", False),
        ("client_encoding", "SJIS", True),
        ("client_encoding", "GB18030", True),
        ("TimeZone", "UTC", False),
    ],
)
def test_sql_that_cannot_be_read_surely_goes_one_way(name: str, value: str, pins: bool) -> None:
    state = SessionState({})
    state.reported(name, value)
    assert state.is_pinned is pins


def test_writing_is_remembered_to_the_end_of_the_transaction() -> None:
    state = SessionState({})
    run(state, "BEGIN", "T")
    run(state, "SELECT 1", "T")
    assert not state.may_have_written
    run(state, "INSERT INTO t VALUES (1)", "T")
    assert state.may_have_written
    state.sent(CLASSIFIER.classify(b"COMMIT"))
    assert state.may_have_written
    state.ready(b"I", is_failed=False, is_committed=True)
    assert not state.may_have_written


def test_dropped_statements_are_told() -> None:
    state = SessionState({})
    run(state, "DEALLOCATE a")
    assert state.deallocated == ["a"]
    run(state, "DEALLOCATE a", fails=True)
    assert state.deallocated == []


def test_differences_make_one_connection_like_the_other() -> None:
    wanted = {"jit": "SET jit = off", "work_mem": "SET work_mem = '1MB'"}
    present = {"jit": "SET jit = on", "lock_timeout": "SET lock_timeout = 1"}
    assert differences(wanted, present) == (
        "RESET lock_timeout; SET jit = off; SET work_mem = '1MB'"
    )
    assert differences(wanted, dict(wanted)) == ""


def test_settings_of_a_start() -> None:
    found = startup_settings(
        {
            "user": "a",
            "database": "b",
            "DateStyle": "ISO",
            "options": r"-c geqo=off --work-mem=1MB -csearch_path=a\ b,c",
        }
    )
    assert found == {
        "datestyle": "ISO",
        "geqo": "off",
        "work_mem": "1MB",
        "search_path": "a b,c",
    }


@pytest.mark.parametrize(
    "parameters",
    [{"options": "-x"}, {"options": "-c a"}, {"options": "-c"}, {"a b": "c"}, {"a';--": "x"}],
)
def test_what_is_no_setting_is_refused(parameters: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"option|setting"):
        startup_settings(parameters)


def test_values_of_a_start_are_quoted() -> None:
    state = SessionState({"application_name": "it's \\ mine"})
    assert state.settings["application_name"] == (
        "SELECT pg_catalog.set_config('application_name', E'it''s \\\\ mine', false)"
    )
