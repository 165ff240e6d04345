"""Trace Context: the specification's examples, its format rules, and what is dropped."""

from __future__ import annotations

import pytest

from onetrip.wire.trace_context import MAX_MEMBERS, Trace, new_trace_id, parent_value, read_trace

TRACE = b"0af7651916cd43dd8448eb211c80319c"
PARENT = b"00-" + TRACE + b"-b7ad6b7169203331-01"


class TestParent:
    @pytest.mark.parametrize(
        ("value", "trace_id", "flags"),
        [
            # Section 3.2.3, the two examples; then the one of section 2.
            (
                b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                b"4bf92f3577b34da6a3ce929d0e0e4736",
                1,
            ),
            (
                b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
                b"4bf92f3577b34da6a3ce929d0e0e4736",
                0,
            ),
            (PARENT, TRACE, 1),
        ],
    )
    def test_examples_of_the_specification_are_read(self, value, trace_id, flags):
        assert read_trace([value], []) == Trace(trace_id, value.split(b"-")[2], flags, b"")

    @pytest.mark.parametrize(
        ("flags", "kept"), [(b"00", 0), (b"01", 1), (b"02", 2), (b"03", 3), (b"fd", 1), (b"fc", 0)]
    )
    def test_unknown_flags_are_not_passed_on(self, flags, kept):
        trace = read_trace([PARENT[:-2] + flags], [])
        assert trace is not None
        assert trace.flags == kept

    @pytest.mark.parametrize(
        "value",
        [
            b"01" + PARENT[2:],
            b"cc" + PARENT[2:] + b"-what-the-future-will-be-like",
            b"fe" + PARENT[2:],
        ],
    )
    def test_later_versions_are_read_as_far_as_known(self, value):
        assert read_trace([value], []) == Trace(TRACE, b"b7ad6b7169203331", 1, b"")

    @pytest.mark.parametrize(
        "value",
        [
            b"",
            PARENT + b"-",
            PARENT + b"-more",
            PARENT + b".",
            b"cc" + PARENT[2:] + b".what",
            b"ff" + PARENT[2:],
            PARENT.upper(),
            PARENT[1:],
            PARENT[:-1],
            PARENT.replace(b"-", b"_"),
            b"00-" + b"0" * 32 + b"-b7ad6b7169203331-01",
            b"00-" + TRACE + b"-0000000000000000-01",
            b"00-" + TRACE[1:] + b"-b7ad6b7169203331-01",
            b"00-" + TRACE + b"-b7ad6b716920333-01",
            b"00-" + TRACE + b"-b7ad6b716920333x-01",
            b"0x-" + PARENT[3:],
            PARENT[:-2] + b"0x",
            PARENT + b"\n",
            b" " + PARENT,
        ],
    )
    def test_invalid_parent_tells_no_trace(self, value):
        assert read_trace([value], [b"rojo=1"]) is None

    def test_two_parents_tell_no_trace(self):
        assert read_trace([PARENT, PARENT], []) is None
        assert read_trace([], [b"rojo=1"]) is None


class TestState:
    def state(self, *values: bytes) -> bytes:
        trace = read_trace([PARENT], list(values))
        assert trace is not None, "a bad state must not cost the trace"
        return trace.state

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ([b"rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"], None),
            ([b"congo=ucfJifl5GOE,rojo=00f067aa0ba902b7"], None),
            ([b"rojo=1", b"congo=2"], b"rojo=1,congo=2"),
            ([b" rojo=1 , congo=2\t"], b"rojo=1,congo=2"),
            ([b"rojo=1,,congo=2,"], b"rojo=1,congo=2"),
            ([b"fw529a3039@dt=FfAAAAAAAA"], None),
            ([b"0tenant@system=1"], None),
            ([b"a*_-/b=with space inside"], None),
            ([b"a=" + b"v" * 256], None),
            ([b"k" * 256 + b"=1"], None),
            ([b"0rojo=1"], None),
            ([b"t" * 241 + b"@" + b"s" * 14 + b"=1"], None),
            ([], b""),
            ([b""], b""),
        ],
    )
    def test_valid_state_passes(self, values, expected):
        assert self.state(*values) == (values[0] if expected is None else expected)

    @pytest.mark.parametrize(
        "value",
        [
            b"rojo",
            b"=1",
            b"rojo=",
            b"Rojo=1",
            b"rojo=1=2",
            b"rojo=\x01",
            b"rojo=\xc3\xa9",
            b"rojo =1",
            b"a=" + b"v" * 257,
            b"k" * 257 + b"=1",
            b"t" * 255 + b"@s=1",
            b"@s=1",
            b"rojo=1,rojo=2",
        ],
    )
    def test_invalid_state_is_dropped_whole(self, value):
        assert self.state(b"congo=2," + value) == b""

    def test_more_members_than_allowed_are_dropped(self):
        members = [b"k%d=1" % number for number in range(MAX_MEMBERS + 1)]
        assert self.state(b",".join(members[:-1])).count(b"=") == MAX_MEMBERS
        assert self.state(*members) == b""


def test_what_is_written_can_be_read():
    value = parent_value(TRACE, 0xB7AD6B7169203331, 1)
    assert value == PARENT
    assert read_trace([value], []) == Trace(TRACE, b"b7ad6b7169203331", 1, b"")


def test_ids_are_never_zero():
    assert read_trace([parent_value(new_trace_id(0), 0, 0)], []) is not None
