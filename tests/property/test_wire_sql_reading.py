"""SQL is read alike whatever stands between its words; what writes is never taken for a read."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from onetrip.wire.postgres_messages import ReplyReader, RequestReader, message
from onetrip.wire.sql_classifier import Classifier
from onetrip.wire.sql_intent import Act
from onetrip.wire.sql_tokens import AmbiguousError, tokens_of

CLASSIFIER = Classifier()

noise = st.text("abc ;'\"$-*/\n(DELETE", max_size=12)


def comment(text: str) -> str:
    return "/*" + text.replace("*/", "").replace("/*", "").rstrip("*/").lstrip("/") + " */"


gaps = st.one_of(
    st.sampled_from([" ", "\n", "\t\r\n ", "\f"]),
    noise.map(lambda text: "--" + text.replace("\n", "") + "\n"),
    noise.map(comment),
    st.tuples(noise, noise).map(lambda pair: f"/*{comment(pair[0])}{comment(pair[1])}*/"),
).map(lambda gap: f" {gap} ")

tags = st.sampled_from(["$$", "$a$", "$Tag_1$"])
strings = st.one_of(
    noise.map(lambda text: "'" + text.replace("'", "''") + "'"),
    noise.map(lambda text: "E'" + text.replace("'", "\\'") + "'"),
    st.tuples(tags, noise).map(lambda p: f"{p[0]} {p[1].replace('$', '')} {p[0]}"),
)

READS = [
    "SELECT a , b FROM t WHERE c = %s",
    "WITH x AS ( SELECT %s ) SELECT * FROM x",
    "VALUES ( %s )",
]
WRITES = [
    "INSERT INTO t VALUES ( %s )",
    "SELECT %s FROM t FOR UPDATE",
    "WITH x AS ( DELETE FROM t WHERE a = %s RETURNING 1 ) SELECT * FROM x",
    "SELECT nextval ( %s )",
    "SELECT %s ; DELETE FROM t",
    "SELECT %s INTO u",
    "SELECT other . lower ( %s )",
    "COMMIT ; SELECT %s",
]


@st.composite
def sentences(draw: st.DrawFn, texts: list[str]) -> bytes:
    words = draw(st.sampled_from(texts)).split()
    spoken = [draw(strings) if word == "%s" else word for word in words]
    spoken = [draw(st.sampled_from([w.lower(), w])) if w.isalpha() else w for w in spoken]
    return "".join(draw(gaps) + word for word in spoken).encode() + draw(gaps).encode()


@given(sentences(READS))
def test_reads_are_seen_through_all_that_stands_between(sql: bytes) -> None:
    assert CLASSIFIER.classify(sql).act is Act.READ


@given(sentences(WRITES))
def test_writes_are_never_reads(sql: bytes) -> None:
    assert CLASSIFIER.classify(sql).act is not Act.READ


@given(st.binary(max_size=60), sentences(WRITES), st.binary(max_size=60))
def test_no_bytes_around_it_turn_a_write_into_a_read_unless_they_quote_it(
    before: bytes, sql: bytes, after: bytes
) -> None:
    whole = before + b"\n;" + sql + b";\n" + after
    if CLASSIFIER.classify(whole).act is Act.READ:
        # Then all of the write must be inside one literal, name or comment.
        begin, end = len(before) + 2, len(before) + 2 + len(sql)
        assert not [t for t in tokens_of(whole) if begin <= t.start and t.end <= end]


@given(st.binary(max_size=200))
def test_any_bytes_are_tokens_in_order_or_ambiguous(sql: bytes) -> None:
    try:
        found = tokens_of(sql)
    except AmbiguousError:
        return
    ends = [0]
    for token in found:
        assert ends[-1] <= token.start < token.end <= len(sql)
        ends.append(token.end)


messages = st.lists(
    st.builds(
        message,
        st.sampled_from([b"D", b"Z", b"C", b"T", b"S", b"E", b"d", b"1", b"Q", b"P"]),
        st.binary(max_size=40),
    ),
    max_size=8,
)


@st.composite
def splits(draw: st.DrawFn) -> tuple[list[bytes], list[bytes]]:
    whole = draw(messages)
    data = b"".join(whole)
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=6)))
    edges = [0, *cuts, len(data)]
    return whole, [data[a:b] for a, b in pairwise(edges)]


@given(splits())
def test_requests_come_out_whole_however_they_are_split(
    case: tuple[list[bytes], list[bytes]],
) -> None:
    whole, pieces = case
    reader = RequestReader()
    assert [each.data for piece in pieces for each in reader.feed(piece)] == whole
    assert reader.is_empty


@given(splits())
def test_replies_lose_nothing_and_steering_ones_are_whole(
    case: tuple[list[bytes], list[bytes]],
) -> None:
    whole, pieces = case
    reader = ReplyReader()
    found = [each for piece in pieces for each in reader.feed(piece)]
    assert b"".join(each.data for each in found) == b"".join(whole)
    steering = [each for each in whole if each[0] in reader.whole]
    assert [each.data for each in found if each.kind] == steering
