"""The provider: OpenFeature's calls on one side, the feed of toggles on the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random

from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEventDetails
from openfeature.exception import ErrorCode, GeneralError, ProviderNotReadyError, TypeMismatchError
from openfeature.flag_evaluation import FlagResolutionDetails, FlagValueType, Reason
from openfeature.provider import AbstractProvider, Metadata

from onetrip.cli.client import DEFAULT_API, Client
from onetrip.timing import MonotonicClock
from onetrip_openfeature.feed import Feed
from onetrip_openfeature.flags import PLACEMENT, evaluate

READ_TIMEOUT = 40.0
"""Longest silence of the node, s; its stream says something every 15 s."""


class OnetripProvider(AbstractProvider):
    """Flags of the projects of one node; see `onetrip_openfeature.flags`.

    Evaluation reads what is in memory and never waits.

    Args:
        api: base URL of the node's admin API.
        token: bearer token with scope `read`, or None.
        project: the only project, where the token is for no other.
        timeout: longest time that setting the provider waits for the first answer, s.
        poll_interval: time between two looks where there is no stream, s.
        stale_after: time without news after which the provider is stale, s.
        now: monotonic time, s.

    Raises:
        ConfigError: `api` is no URL, or the token cannot be sent.
    """

    def __init__(
        self,
        api: str = DEFAULT_API,
        token: str | None = None,
        *,
        project: str | None = None,
        timeout: float = 5.0,
        poll_interval: float = 10.0,
        stale_after: float = 60.0,
        now: Callable[[], float] | None = None,
    ) -> None:
        super().__init__()
        self._client = Client(api, token, READ_TIMEOUT)
        self._project = project
        self._timeout = timeout
        self._poll_interval = poll_interval
        self._stale_after = stale_after
        self._now = now or MonotonicClock().now
        self._feed: Feed | None = None
        self._is_initialized = self._was_stale = False
        self._reason = "the node did not answer in time"

    def get_metadata(self) -> Metadata:
        """See `FeatureProvider`."""
        return Metadata(name="onetrip")

    def initialize(self, evaluation_context: EvaluationContext) -> None:
        """Begin to follow the node, and wait for its first answer.

        Raises:
            GeneralError: there is none yet; the provider goes on trying, and says when it is ready.
        """
        self._feed = feed = Feed(
            self._client,
            self._project,
            poll_interval=self._poll_interval,
            stale_after=self._stale_after,
            now=self._now,
            rng=Random(),
            on_fresh=self._refreshed,
            on_failed=self._failed,
        )
        feed.start(self._timeout)
        is_loaded = feed.is_loaded
        self._was_stale = not is_loaded
        self._is_initialized = True
        if not is_loaded:
            raise GeneralError(self._reason)

    def shutdown(self) -> None:
        """Stop following the node."""
        if self._feed is not None:
            self._feed.stop()
            self._feed = None
        self._is_initialized = False

    def resolve_boolean_details(
        self,
        flag_key: str,
        default_value: bool,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[bool]:
        """See `FeatureProvider`."""
        value, details = self._resolve(flag_key, bool, evaluation_context)
        assert isinstance(value, bool)
        return FlagResolutionDetails(value, reason=details[0], variant=details[1])

    def resolve_string_details(
        self,
        flag_key: str,
        default_value: str,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[str]:
        """See `FeatureProvider`."""
        value, details = self._resolve(flag_key, str, evaluation_context)
        assert isinstance(value, str)
        return FlagResolutionDetails(value, reason=details[0], variant=details[1])

    def resolve_float_details(
        self,
        flag_key: str,
        default_value: float,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[float]:
        """See `FeatureProvider`."""
        value, details = self._resolve(flag_key, float, evaluation_context)
        assert isinstance(value, float)
        return FlagResolutionDetails(value, reason=details[0], variant=details[1])

    def resolve_integer_details(
        self,
        flag_key: str,
        default_value: int,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[int]:
        """See `FeatureProvider`; no flag is an integer."""
        self._resolve(flag_key, int, evaluation_context)
        raise TypeMismatchError(f"flag {flag_key!r} has no int value")

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Sequence[FlagValueType] | Mapping[str, FlagValueType],
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Sequence[FlagValueType] | Mapping[str, FlagValueType]]:
        """See `FeatureProvider`; no flag is an object."""
        self._resolve(flag_key, dict, evaluation_context)
        raise TypeMismatchError(f"flag {flag_key!r} has no object value")

    def _resolve(
        self, key: str, kind: type, context: EvaluationContext | None
    ) -> tuple[bool | str | float, tuple[Reason, str]]:
        feed = self._feed
        if feed is None or not feed.is_loaded:
            raise ProviderNotReadyError("the node has not answered yet")
        found = evaluate(feed.toggles, key, kind, context.targeting_key if context else None)
        return found.value, (Reason.STALE if feed.is_stale else found.reason, found.variant)

    # --- called on the feed's thread --------------------------------------------------------

    def _refreshed(self, changed: list[str]) -> None:
        if not self._is_initialized:
            return  # `initialize` tells
        if self._was_stale:
            self._was_stale = False
            self.emit_provider_ready(ProviderEventDetails())
        if changed:
            keys = [f"{project}.{PLACEMENT}" for project in changed]
            self.emit_provider_configuration_changed(ProviderEventDetails(flags_changed=keys))

    def _failed(self, reason: str, is_stale: bool) -> None:
        self._reason = reason
        feed = self._feed
        if not self._is_initialized or not is_stale or self._was_stale or feed is None:
            return
        self._was_stale = True
        details = ProviderEventDetails(message=reason, error_code=ErrorCode.GENERAL)
        self.emit_provider_stale(details)
