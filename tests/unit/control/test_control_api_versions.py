"""Dated versions: of the API, and of what deployments were made for."""

from __future__ import annotations

import datetime

import pytest

from onetrip.control.api_versions import CHANGES, LATEST, VERSIONS, version_of
from onetrip.errors import ApiError
from onetrip.model.compatibility import CLEAN_URLS, DEPLOYMENT_CHANGES, check_date, has

TODAY = datetime.date(2026, 12, 1)


def test_client_without_a_version_gets_the_latest():
    assert version_of(None) == LATEST == max(VERSIONS)
    assert [version_of(version) for version in VERSIONS] == list(VERSIONS)


@pytest.mark.parametrize("text", ["", "2026-11-26", "latest", "2026-11-25 ", "x" * 1000])
def test_unknown_version_is_refused_with_the_known_ones(text):
    with pytest.raises(ApiError, match="must be one of 2026-11-01") as refusal:
        version_of(text)
    assert refusal.value.field == "onetrip-api-version"
    assert len(str(refusal.value)) < 200


@pytest.mark.parametrize("changes", [CHANGES, DEPLOYMENT_CHANGES])
def test_changes_are_dated_in_order_and_named_once(changes):
    dates = [change.date for change in changes]
    assert dates == sorted(dates)
    assert all(datetime.date.fromisoformat(date) for date in dates)
    assert len({change.name for change in changes}) == len(changes)


def test_new_behaviour_begins_on_its_day():
    assert [has(date, CLEAN_URLS) for date in ("2026-11-24", "2026-11-25", "2027-01-01")] == [
        False,
        True,
        True,
    ]


@pytest.mark.parametrize("text", ["2026-11-01", "2026-12-01", "2026-12-02"])
def test_date_from_the_first_to_today_is_taken(text):
    assert check_date(text, TODAY) == text  # the day after is today in the east


@pytest.mark.parametrize(
    "text", ["2026-10-31", "2026-12-03", "20261125", "2026-W48-3", "2026-13-01", "", "x"]
)
def test_any_other_date_is_refused(text):
    with pytest.raises(ApiError, match=r"a date in 2026-11-01\.\.2026-12-01") as refusal:
        check_date(text, TODAY)
    assert refusal.value.field == "compatibility_date"
