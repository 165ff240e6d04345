"""What is written of requests: the access log, and the log of residency decisions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import IO

from onetrip.errors import ConfigError
from onetrip.observe.logs import AccessLog, Log, open_access_log
from onetrip.observe.metrics import Metrics


class RequestLogs:
    """Both logs of a data plane; each is None where nobody wants it.

    Args:
        access: where access lines go, or None.
        residency: path of the file for decisions, or "off".

    Raises:
        ConfigError: the file cannot be opened.
    """

    def __init__(self, access: IO[bytes] | None, residency: str, log: Log) -> None:
        # No taps: a collector gets what is in the access line already.
        sink = None if residency == "off" else open_lines(residency, "log.residency")
        self.residency = None if sink is None else AccessLog(sink, log.bind(file="log.residency"))
        self.access = open_access_log(access, log)

    def write_lines(self, access: Sequence[bytes], residency: Sequence[bytes]) -> None:
        """Queue lines that are encoded already, of each log."""
        for log, lines in ((self.access, access), (self.residency, residency)):
            if log is not None and lines:
                log.write_lines(lines)

    def publish(self, metrics: Metrics) -> None:
        """Bring the metrics of dropped lines up to date."""
        if self.access is not None:
            metrics.access_log_dropped.set(self.access.dropped)
        if self.residency is not None:
            metrics.residency_log_dropped.set(self.residency.dropped)

    def close(self) -> None:
        """Write what is queued, and stop."""
        for each in (self.access, self.residency):
            if each is not None:
                each.close()


def open_lines(path: str, key: str) -> IO[bytes]:
    """Open a file that lines are added to; `key` is the setting that names it.

    Raises:
        ConfigError: it cannot be opened.
    """
    try:
        return Path(path).open("ab", buffering=0)
    except OSError as error:
        raise ConfigError(f"{key}: {path} cannot be opened: {error.strerror}") from error
