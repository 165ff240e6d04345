"""The access log when its sink fails: lines are counted, one event tells it, and none is torn."""

from __future__ import annotations

import io
import json

from onetrip.observe.logs import AccessLog, Log, open_access_log


class Disk(io.RawIOBase):
    """A raw file that has room for `room` bytes."""

    def __init__(self, room):
        self.room = room
        self.data = b""

    def writable(self):
        return True

    def write(self, data):
        if not self.room:
            raise OSError(28, "No space left on device")
        taken = bytes(data[: self.room])
        self.data += taken
        self.room -= len(taken)
        return len(taken)


def flush(access):
    """Write what is queued, here and now instead of on the log's own thread."""
    access._flush()


def make(room):
    events = io.StringIO()
    disk = Disk(room)
    access = AccessLog(disk, Log(events, "info", lambda: 0.0))
    access.close()
    return access, disk, events


def events_of(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_full_disk_is_told_once_and_lines_are_counted():
    access, _, events = make(0)
    for _ in range(3):
        access._lines.append(b"{}")
        flush(access)
    assert access.dropped == 3
    assert [e["event"] for e in events_of(events)] == ["app.access_log_failed"]
    assert "No space left" in events_of(events)[0]["reason"]


def test_a_line_that_was_cut_does_not_swallow_the_next():
    access, disk, events = make(6)
    access._lines.append(b'{"a":1}')
    flush(access)
    disk.room = 1000
    access._lines.append(b'{"b":2}')
    flush(access)
    assert disk.data == b'{"a":1\n{"b":2}\n'
    assert [e["event"] for e in events_of(events)][1:] == ["app.access_log_recovered"]


def test_a_sink_that_takes_nothing_is_no_endless_loop():
    access, disk, _ = make(1000)
    disk.write = lambda data: None
    access._lines.append(b"{}")
    flush(access)
    assert access.dropped == 1


def test_partial_writes_are_continued():
    access, disk, _ = make(1000)
    whole = disk.write
    disk.write = lambda data: whole(data[:3])
    access._lines.append(b'{"a":"long enough"}')
    flush(access)
    assert disk.data == b'{"a":"long enough"}\n'


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Tap:
    takes_access = True

    def __init__(self):
        self.records = []
        self.lines = []

    def take(self, record, cause):
        self.records.append((record, cause))

    def take_lines(self, lines):
        self.lines += lines

    def close(self):
        pass


def test_a_terminal_gets_plain_text_that_cannot_move_its_cursor():
    stream = Terminal()
    log = Log(stream, "info", lambda: 3723.5, region="den")
    log.warning("probe.denied", target="backend pg", reason="\x1b[2Jgone", failures=3, more=None)
    (line,) = stream.getvalue().splitlines()
    head = "01:02:03.500 warning probe.denied region=den"
    assert line == head + ' target="backend pg" reason="\\\\x1b[2Jgone" failures=3'


def test_taps_get_what_is_logged_with_its_cause_and_bound_fields():
    tap, error = Tap(), ValueError("no")
    log = Log(None, "info", lambda: 1.0)
    bound = log.bind(region="den")
    log.taps.append(tap)  # also of loggers that were bound before
    bound.error("app.task_failed", cause=error, task="score")
    bound.debug("proxy.connection_refused")
    fields = {"ts": 1.0, "level": "error", "event": "app.task_failed", "region": "den"}
    assert tap.records == [(fields | {"task": "score"}, error)]


def test_access_lines_go_to_taps_where_there_is_no_sink():
    tap, log = Tap(), Log(None, "info", lambda: 1.0)
    assert open_access_log(None, log) is None
    log.taps.append(tap)
    access = open_access_log(None, log)
    access.write({"ts": 1, "event": "proxy.exchange_finished"})
    access.close()
    assert tap.lines == [b'{"ts":1,"event":"proxy.exchange_finished"}']
    assert access.dropped == 0


def test_an_access_log_on_a_terminal_is_plain_text():
    disk = Disk(1000)
    disk.isatty = lambda: True
    access = AccessLog(disk)
    access.write({"ts": 1, "event": "proxy.exchange_finished", "status": 200, "error": None})
    access.close()
    assert disk.data == b"00:00:01.000 info    proxy.exchange_finished status=200\n"
