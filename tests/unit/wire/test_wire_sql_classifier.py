"""What SQL is seen to do. Each row is one statement and why it is read so."""

import pytest

from onetrip.wire.sql_classifier import MAX_READ, Classifier
from onetrip.wire.sql_intent import DOUBTFUL, Act, Setting

CLASSIFIER = Classifier()


def act_of(sql: str) -> Act:
    return CLASSIFIER.classify(sql.encode()).act


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "select * from orders where id = $1",
        "  -- a comment; delete\n/* insert /* nested */ */ SELECT 'delete from t; insert'",
        'SELECT $$ into $$, $x$ update $$ $x$, "update" FROM t',
        "SELECT E'it\\'s; update'",
        "VALUES (1), (2)",
        "TABLE orders",
        "(SELECT 1) UNION (SELECT 2) ORDER BY 1 LIMIT (3)",
        "WITH a AS (SELECT 1), b AS MATERIALIZED (SELECT 2) SELECT * FROM a, b",
        "WITH RECURSIVE t AS (SELECT 1 UNION ALL SELECT 2) SELECT * FROM t",
        "SHOW search_path",
        "EXPLAIN SELECT 1",
        "EXPLAIN (ANALYZE, BUFFERS) SELECT count(*) FROM t",
        "EXPLAIN ANALYZE SELECT 1",
        "SELECT count(*) FILTER (WHERE a IN (1, 2)), max(b)::numeric(10, 2) OVER () FROM t",
        "SELECT pg_catalog.lower('X'), coalesce(a, b), now(), pg_sleep(0) FROM t AS x (a, b)",
        "SELECT CASE WHEN (a) THEN (b) ELSE (c) END FROM t WHERE a = ANY ($1) AND NOT (b OR (c))",
        "SELECT 1; SELECT 2;",
        "SELECT a[1:2], a->>'x', a #> '{b}', 1.5e3, .5, -2 FROM t",
        "SELECT start, comment, copy FROM runs",
        "SELECT 'a' 'b'",
    ],
)
def test_reads(sql: str) -> None:
    found = CLASSIFIER.classify(sql.encode())
    assert found.act is Act.READ
    assert not found.pins
    assert not found.may_copy


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO t VALUES (1)",
        "SELECT * FROM t FOR UPDATE",
        "SELECT * FROM t FOR NO KEY UPDATE SKIP LOCKED",
        "SELECT * FROM t FOR KEY SHARE",
        "SELECT * INTO copied FROM t",
        "WITH gone AS (DELETE FROM t RETURNING *) SELECT * FROM gone",
        "SELECT nextval('s')",
        "SELECT next /* hidden */ . val('s')",
        "SELECT currval('s'), lastval()",
        "SELECT app.create_order(1)",
        "SELECT create_order(1)",
        "SELECT \"lower\"('x')",
        "SELECT other.lower('x')",
        "SELECT pg_notify('a', 'b')",
        "SELECT pg_terminate_backend(1)",
        "SELECT txid_current()",
        "SELECT current_setting('x')",
        "SELECT * FROM pg_stat_activity",
        'SELECT * FROM "pg_locks"',
        "SELECT * FROM dblink('x', 'y') AS t (a int)",
        "EXPLAIN ANALYZE DELETE FROM t",
        "EXPLAIN ANALYZE EXECUTE p",
        "EXPLAIN ANALYZE CREATE TABLE x AS SELECT 1",
        "SHOW transaction_read_only",
        "SHOW ALL",
        "SELECT 1; DELETE FROM t",
        "SELECT 1; COMMIT; SELECT 2",
        "NOTIFY a",
        "CALL p()",
        "VACUUM",
        "LOCK TABLE t",
        "FETCH",
    ],
)
def test_what_is_no_sure_read_is_none(sql: str) -> None:
    assert act_of(sql) is not Act.READ


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 'unfinished",
        "SELECT $a$ unfinished $b$",
        "SELECT /* unfinished /* */",
        "SELECT E'a'\n'b\\'; DELETE FROM t; --'",
        "SELECT 'a' E'b'",
        "SELECT 1FROM t",
        "SELECT $1a",
        "SELECT \\ 1",
        "SELECT 1\v",
        "SELECT ((1)",
        "SELECT {1}",
    ],
)
def test_what_has_two_readings_is_doubtful(sql: str) -> None:
    assert CLASSIFIER.classify(sql.encode()) == DOUBTFUL


@pytest.mark.parametrize(
    ("sql", "act"),
    [
        ("BEGIN", Act.BEGIN),
        ("begin work isolation level repeatable read", Act.BEGIN),
        ("BEGIN READ ONLY", Act.BEGIN_READ_ONLY),
        ("START TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY", Act.BEGIN_READ_ONLY),
        ("BEGIN READ WRITE", Act.BEGIN_READ_WRITE),
        ("BEGIN READ ONLY READ WRITE", Act.BEGIN_READ_WRITE),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY", Act.BEGIN_READ_WRITE),
        ("BEGIN READ ONLY; SELECT 1", Act.BEGIN_READ_ONLY),
        ("BEGIN READ ONLY; COMMIT; INSERT INTO t VALUES (1)", Act.WRITE),
        ("BEGIN READ ONLY; COMMIT", Act.WRITE),
        ("COMMIT", Act.NEUTRAL),
        ("", Act.NEUTRAL),
        ("-- nothing", Act.NEUTRAL),
        (" ; ;", Act.NEUTRAL),
        ("START", Act.WRITE),
    ],
)
def test_transactions(sql: str, act: Act) -> None:
    assert act_of(sql) is act


@pytest.mark.parametrize(
    ("sql", "may_end"),
    [
        ("COMMIT", True),
        ("END", True),
        ("ROLLBACK", True),
        ("ABORT WORK", True),
        ("PREPARE TRANSACTION 'x'", True),
        ("COMMIT PREPARED 'x'", True),
        ("INSERT INTO t VALUES (1); COMMIT", True),
        ("CALL p()", True),
        ("DO $$ BEGIN END $$", True),
        ("ROLLBACK TO SAVEPOINT a", False),
        ("COMMIT AND CHAIN", True),  # one transaction is over, whatever follows
        ("SAVEPOINT a", False),
        ("INSERT INTO t VALUES ('commit')", False),
    ],
)
def test_ends(sql: str, may_end: bool) -> None:
    assert CLASSIFIER.classify(sql.encode()).may_end is may_end


@pytest.mark.parametrize(
    "sql",
    [
        "LISTEN a",
        "LOAD 'x'",
        "PREPARE p AS SELECT 1",
        "EXECUTE p",
        "CREATE TEMP TABLE t (a int)",
        "create local temporary table t (a int)",
        "CREATE TABLE pg_temp.t (a int)",
        "SELECT 1 AS a INTO TEMP t",
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
        "SELECT pg_advisory_lock(1)",
        "INSERT INTO t SELECT pg_catalog.pg_try_advisory_lock(1)",
        "SELECT \"set_config\"('a.b', 'c', false)",
        "SELECT set_config('a.b', 'c', $1)",
        "SET ROLE x",
        "SET SESSION AUTHORIZATION x",
        "SET app.tenant = '1'",
        "SET standard_conforming_strings = off",
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "RESET ROLE",
        "DO $$ BEGIN END $$",
        "SELECT U&\"\\0073et_config\"('a', 'b', false)",
    ],
)
def test_what_leaves_state_pins(sql: str) -> None:
    assert CLASSIFIER.classify(sql.encode()).pins


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL;",
        "SELECT pg_advisory_xact_lock(1)",
        "SELECT set_config('a.b', 'c', true)",
        "SET LOCAL app.tenant = '1'",
        "SET TRANSACTION READ ONLY",
        "SET CONSTRAINTS ALL DEFERRED",
        "DECLARE c CURSOR FOR SELECT 1",
        "DECLARE c CURSOR WITHOUT HOLD FOR SELECT 1",
        "UPDATE t SET role = 'x'",
        "COPY t FROM STDIN",
        "CREATE TABLE temperatures (temp int, t temporary_kind)",
        "DISCARD ALL",
    ],
)
def test_what_leaves_none_does_not_pin(sql: str) -> None:
    assert not CLASSIFIER.classify(sql.encode()).pins


@pytest.mark.parametrize(
    ("sql", "settings"),
    [
        ("SET TimeZone TO 'UTC'", [("timezone", "SET TimeZone TO 'UTC'")]),
        ("SET TIME ZONE 'UTC' ;", [("timezone", "SET TIME ZONE 'UTC'")]),
        ("SET SESSION search_path = a, b", [("search_path", "SET SESSION search_path = a, b")]),
        ("SET NAMES 'UTF8'", [("client_encoding", "SET NAMES 'UTF8'")]),
        ("RESET search_path", [("search_path", None)]),
        ("RESET ALL", [("", None)]),
        ("DISCARD ALL", [("", None)]),
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            [("default_transaction_read_only", "SET default_transaction_read_only = on")],
        ),
        (
            "SET jit = off; SET work_mem TO '1MB'",
            [("jit", "SET jit = off"), ("work_mem", "SET work_mem TO '1MB'")],
        ),
    ],
)
def test_settings(sql: str, settings: list[tuple[str, str | None]]) -> None:
    found = CLASSIFIER.classify(sql.encode()).settings
    assert list(found) == [Setting(*setting) for setting in settings]


@pytest.mark.parametrize(
    ("sql", "name"),
    [
        ("DEALLOCATE ALL", ""),
        ("DEALLOCATE PREPARE ALL", ""),
        ('DEALLOCATE "ALL"', "ALL"),
        ("DEALLOCATE _pg3_0", "_pg3_0"),
        ("SELECT 1", None),
    ],
)
def test_dropped_statements(sql: str, name: str | None) -> None:
    assert CLASSIFIER.classify(sql.encode()).deallocates == name


def test_a_text_too_long_to_read_is_a_write_that_pins_only_in_doubt() -> None:
    bulk = b"INSERT INTO t VALUES " + b"(1)," * MAX_READ + b"(2)"
    found = CLASSIFIER.classify(bulk)
    assert (found.act, found.may_end, found.may_copy, found.pins) == (Act.WRITE, True, True, False)
    assert CLASSIFIER.classify(bulk + b"; SET ROLE x").pins
    assert CLASSIFIER.classify(b"SELECT 1 " + b" " * MAX_READ).act is Act.WRITE


def test_functions_can_be_declared_to_read() -> None:
    own = Classifier(("total", "app.total"))
    assert own.classify(b"SELECT total(1), app.total(2)").act is Act.READ
    assert own.classify(b"SELECT other.total(1)").act is Act.WRITE


def test_what_is_remembered_is_bounded() -> None:
    small = Classifier(size=2)
    for number in range(5):
        assert small.classify(b"SELECT %d" % number).act is Act.READ
    assert len(small._known) == 2


@pytest.mark.parametrize(
    "sql",
    [
        "SET LOCAL synchronous_commit = off",
        "SELECT set_config('Synchronous_Commit', 'off', true)",
        "DO $$ BEGIN SET LOCAL synchronous_commit = off; END $$",
    ],
)
def test_commits_that_may_not_wait_are_noticed(sql: str) -> None:
    assert CLASSIFIER.classify(sql.encode()).is_lazy
    assert not CLASSIFIER.classify(b"SET LOCAL jit = off").is_lazy
