"""Do all readers of what onetrip forwarded see the requests that onetrip meant?"""

from __future__ import annotations

from support.recorder import Recorder
from support.referees import Referee, Seen, Verdict, ask_h11, nginx_verdict


def is_same(verdict: Verdict, wanted: tuple[Seen, ...]) -> bool:
    """Tell whether a reader saw these requests, all of them unless it refused the next one."""
    found = verdict.requests
    is_whole = len(found) == len(wanted) or (verdict.refuses and len(found) < len(wanted))
    return is_whole and all(f.is_as(w) for f, w in zip(found, wanted, strict=False))


def name_of(request: Seen) -> tuple[str, str]:
    """Return what the access log says of a request: method and path."""
    return request.method.decode("latin-1"), request.target.partition(b"?")[0].decode("latin-1")


async def judge_forwarded(
    recorder: Recorder, referees: dict[str, Referee]
) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the requests that were forwarded, and where readers differ about them.

    h11's reading is the reference; the server behind the recorder is nginx, which read everything
    as it came.
    """
    requests: list[tuple[str, str]] = []
    wrong = []
    for recording in recorder.recordings:
        reference = (await ask_h11(recording.sent)).requests
        requests += [name_of(request) for request in reference]
        verdicts = {name: await ask(recording.sent) for name, ask in referees.items()}
        verdicts["nginx"] = nginx_verdict(recording.answered)
        for name, verdict in verdicts.items():
            if not is_same(verdict, reference):
                wrong.append(f"{name} reads {verdict}, h11 {reference}, of {recording.sent!r}")
    return requests, wrong
