"""The hop mark: made, verified, forged, aged."""

from __future__ import annotations

import pytest

from onetrip.model.measure import Arm
from onetrip.model.topology import RegionId
from onetrip.proxy.hop import MAX_AGE, HopSigner
from support.clock import VirtualClock

DEN = RegionId("den")


@pytest.fixture
def clock():
    return VirtualClock()


def test_peer_with_the_same_secret_reads_it(clock):
    value = HopSigner(b"secret", clock).make(DEN, Arm.EXPLORE)
    hop = HopSigner(b"secret", clock).verify(value)
    assert (hop.edge, hop.arm) == (DEN, Arm.EXPLORE)


def test_deployment_of_a_rollout_travels_with_it(clock):
    signer = HopSigner(b"secret", clock)
    value = signer.make(DEN, Arm.PLACED, "3f9c1a77d0")
    hop = HopSigner(b"secret", clock).verify(value)
    assert (hop.edge, hop.arm, hop.variant) == (DEN, Arm.PLACED, "3f9c1a77d0")
    assert HopSigner(b"secret", clock).verify(signer.make(DEN, Arm.PLACED)).variant == ""
    for changed in (value.replace(b"3f9c", b"3f9d"), value.replace(b";variant=3f9c1a77d0", b"")):
        assert signer.verify(changed) is None


def test_other_secret_or_none_reads_nothing(clock):
    value = HopSigner(b"secret", clock).make(DEN, Arm.PLACED)
    assert HopSigner(b"other", clock).verify(value) is None
    assert HopSigner(None, clock).verify(value) is None
    assert not HopSigner(None, clock).can_hop


def test_any_changed_byte_is_a_forgery(clock):
    signer = HopSigner(b"secret", clock)
    value = signer.make(DEN, Arm.PLACED)
    for at in range(len(value)):
        for changed in (value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :], value[:at]):
            assert signer.verify(changed) is None


@pytest.mark.parametrize("value", [b"", b"v1", b"v2;edge=den", b"x" * 10_000, b"\xff" * 64])
def test_garbage_is_no_hop(clock, value):
    assert HopSigner(b"secret", clock).verify(value) is None


def test_unknown_arm_with_a_valid_mac_is_refused(clock):
    signer = HopSigner(b"secret", clock)
    text = b"v1;edge=den;arm=nonsense;minute=%d" % int(clock.wall() // 60)
    assert signer.verify(text + b";mac=" + signer._mac(b"secret", text)) is None


def test_mark_is_made_once_a_minute(clock):
    signer = HopSigner(b"secret", clock)
    first = signer.make(DEN, Arm.PLACED)
    assert signer.make(DEN, Arm.PLACED) is first
    clock.step(60)
    assert signer.make(DEN, Arm.PLACED) != first


@pytest.mark.parametrize(("minutes", "is_valid"), [(MAX_AGE, True), (MAX_AGE + 1, False)])
def test_age_is_bounded_both_ways_and_caching_does_not_extend_it(clock, minutes, is_valid):
    signer = HopSigner(b"secret", clock)
    value = signer.make(DEN, Arm.PLACED)
    assert signer.verify(value) is not None
    clock.step(60 * minutes)
    assert (signer.verify(value) is not None) is is_valid
    future = HopSigner(b"secret", clock).make(DEN, Arm.PLACED)
    clock.step(-60 * minutes)
    assert (signer.verify(future) is not None) is is_valid


def test_cache_of_seen_marks_is_bounded(clock):
    signer = HopSigner(b"secret", clock)
    for i in range(1000):
        assert signer.verify(HopSigner(b"secret", clock).make(RegionId(f"r{i}"), Arm.PLACED))
    assert len(signer._seen) <= 256
