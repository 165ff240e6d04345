"""States as the service manager reads them."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from onetrip.app.notify import Notifier


@pytest.mark.parametrize("name", ["{folder}/notify", "@onetrip-test-{folder.name}"])
def test_states_reach_a_path_or_an_abstract_address(name: str, tmp_path: Path) -> None:
    name = name.format(folder=tmp_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name[1:] if name.startswith("@") else name)
        manager.settimeout(5)
        notifier = Notifier({"NOTIFY_SOCKET": name})
        notifier.ready()
        notifier.reloading()
        notifier.succeeded_by(7)
        notifier.stopping()
        assert manager.recv(100) == b"READY=1"
        assert re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=[0-9]+", manager.recv(100))
        assert manager.recv(100) == b"MAINPID=7\nREADY=1"
        assert manager.recv(100) == b"STOPPING=1"


def test_nothing_is_sent_without_a_manager_or_to_one_that_is_gone(tmp_path: Path) -> None:
    Notifier({}).ready()
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready()
