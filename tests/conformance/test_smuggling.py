"""No request is smuggled through: every byte onetrip forwards is read alike by everybody.

One proxy with kept upstream connections carries the whole corpus, so a request that poisoned one
of them would answer the next case. Behind it stands a real nginx, whose answers say which request
they are for, and between them a recorder. For each case:

* the client is answered for the requests that onetrip routed, in their order, or refused;
* over all connections, h11, llhttp, nginx and Node see exactly the requests that onetrip's access
  log has, complete, in the same order and with the same bodies;
* what onetrip accepted, each of them either refuses or reads as the same requests: a proxy before
  us cannot be desynchronised from us.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import Any

from onetrip.proxy.settings import ProxySettings
from support.judgement import judge_forwarded, name_of
from support.mutations import Mutation, mutations
from support.proxy_rig import ProxyRig, one_region
from support.recorder import Recorder
from support.referees import (
    Referee,
    ask_h11,
    ask_llhttp,
    ask_nginx,
    running_nginx,
    running_node,
)
from support.results import report_cases
from support.waits import BOUND

QUICK = ProxySettings(linger_timeout=0.5, half_close_timeout=5.0)


_ANSWER = re.compile(rb"HTTP/1\.[01] [2-5][0-9][0-9] [^\r]*\r\n(?:[^\r\n]+\r\n)*")


class Outcome:
    """What became of one case.

    Attributes:
        lines: what onetrip booked for it.
        answers: the heads that the client was sent, without interim ones.
    """

    def __init__(self, case: Mutation, lines: list[dict[str, Any]], raw: bytes) -> None:
        self.case = case
        self.lines = lines
        self.answers = _ANSWER.findall(raw)

    @property
    def forwarded(self) -> list[dict[str, Any]]:
        """The booked requests that the server answered."""
        return [line for line in self.lines if line["upstream"] and line["error"] is None]

    @property
    def read(self) -> list[tuple[str, str]]:
        """Method and path of the requests that onetrip read whole."""
        return [
            (line["method"], line["path"])
            for line in self.lines
            if line["method"] and line["error"] in (None, "no_route")
        ]

    @property
    def is_cut(self) -> bool:
        """Onetrip refused what came after the requests that it read."""
        last = self.answers[-1] if self.answers else b""
        return b"\r\nServer: nginx" not in last and b"\r\nConnection: close" in last


async def send(rig: ProxyRig, case: Mutation) -> Outcome:
    """Send one case, end our side and read to the end."""
    before = len(rig.lines)
    async with rig.client() as client, asyncio.timeout(BOUND):
        raw = b""
        with contextlib.suppress(ConnectionError):
            client.writer.write(case.data)
            client.writer.write_eof()
            while data := await client.reader.read(65536):
                raw += data
    return Outcome(case, rig.lines[before:], raw)


def answered_for(outcome: Outcome) -> list[tuple[str, str] | None]:
    """Return which requests nginx's answers were for; None for one it could not read."""
    found: list[tuple[str, str] | None] = []
    for head in outcome.answers:
        if b"\r\nServer: nginx" in head:
            seen = re.search(rb"\r\nX-Seen: ([^ \r]+) ([^\r?]+)", head)
            if seen is None or head.startswith(b"HTTP/1.1 400 "):
                found.append(None)
            else:
                found.append((seen[1].decode(), seen[2].decode("latin-1")))
    return found


def complain(outcomes: list[Outcome]) -> list[str]:
    """Return what is wrong with what the clients saw."""
    wrong = []
    for outcome in outcomes:
        name, answers = outcome.case.name, outcome.answers
        booked = [
            None if line["status"] == 400 else (line["method"], line["path"])
            for line in outcome.forwarded
        ]
        if answered_for(outcome) != booked:
            wrong.append(f"{name}: answers {answers} for {booked}")
        if outcome.case.is_forbidden and booked:
            wrong.append(f"{name}: was forwarded")
        if not booked and not re.match(rb"HTTP/1\.1 (4[0-9][0-9]|50[15]) ", answers[0]):
            wrong.append(f"{name}: nothing forwarded, answered {answers}")
    return wrong


async def judge_read(outcomes: list[Outcome], referees: dict[str, Referee]) -> list[str]:
    """Return where a reader before us would see other requests than we did."""
    wrong = []
    for outcome in outcomes:
        ours = outcome.read
        for name, ask in referees.items():
            verdict = await ask(outcome.case.data)
            theirs = [name_of(request) for request in verdict.requests]
            agreed = min(len(theirs), len(ours))
            more = len(theirs) > len(ours) and not outcome.is_cut
            less = len(theirs) < len(ours) and not (verdict.refuses or verdict.stops)
            if theirs[:agreed] != ours[:agreed] or more or less:
                wrong.append(f"{outcome.case.name}: {name} reads {theirs}, we {ours}")
    return wrong


async def test_nothing_is_smuggled():
    cases = mutations()
    async with (
        running_nginx() as nginx,
        running_node() as node,
        Recorder(nginx) as recorder,
        one_region(recorder.endpoint, settings=QUICK) as rig,
    ):
        outcomes = [await send(rig, case) for case in cases]
        referees: dict[str, Referee] = {"llhttp": ask_llhttp}
        if node is not None:
            referees["Node"] = node
        wrong = complain(outcomes)
        forwarded, differing = await judge_forwarded(recorder, referees)
        wrong += differing
        referees |= {"h11": ask_h11, "nginx": ask_nginx(nginx)}
        read = [outcome for outcome in outcomes if outcome.read]
        wrong += await judge_read(read, referees)
    booked = [(line["method"], line["path"]) for o in outcomes for line in o.forwarded]
    report_cases(
        "Smuggling over HTTP/1.1",
        "tests/support/mutations.py; read back by " + ", ".join(sorted(referees)),
        len(cases),
        wrong,
        note=f"{len(cases) - len(read):,} refused, {len(read)} read alike by all",
    )
    assert wrong == []
    assert sorted(forwarded) == sorted(booked)
    assert len(cases) > 3000
    assert 200 < len(read) < 1000  # the corpus neither passes nor bounces off as a whole
