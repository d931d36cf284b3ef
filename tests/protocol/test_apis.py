"""Two sides of different age agree on a version, or say that they cannot."""

from __future__ import annotations

import pytest

from streambus_protocol import (
    APIS,
    ApiKey,
    ApiRange,
    ErrorCode,
    api_of,
    find_api,
    negotiate,
    supported_ranges,
    version_for,
)
from streambus_protocol.errors import UnsupportedApiError, UnsupportedVersionError


def test_negotiation_with_oneself_chooses_the_newest() -> None:
    assert negotiate(supported_ranges()) == {api.key: api.version_max for api in APIS.values()}


def test_negotiation_leaves_out_what_only_one_side_knows() -> None:
    chosen = negotiate([ApiRange(ApiKey.FETCH, 90, 99), ApiRange(4711, 0, 3)])
    assert chosen == {}
    with pytest.raises(UnsupportedVersionError, match="FETCH"):
        version_for(chosen, ApiKey.FETCH)


def test_negotiation_takes_the_lower_of_both_maxima() -> None:
    newest = APIS[ApiKey.PRODUCE].version_max
    chosen = negotiate([ApiRange(ApiKey.PRODUCE, 0, newest + 5)])
    assert version_for(chosen, ApiKey.PRODUCE) == newest


def test_unknown_api_and_version_are_told_apart() -> None:
    with pytest.raises(UnsupportedApiError) as unknown:
        find_api(999, 0)
    assert unknown.value.code is ErrorCode.UNSUPPORTED_API
    with pytest.raises(UnsupportedVersionError) as old:
        find_api(ApiKey.FETCH, 99)
    assert old.value.code is ErrorCode.UNSUPPORTED_VERSION


def test_api_is_found_from_its_request() -> None:
    for api in APIS.values():
        assert api_of(api.request) is api


def test_every_error_code_advises_and_says_whether_to_retry() -> None:
    for code in ErrorCode:
        assert code.advice.endswith(".")
        assert isinstance(code.retriable, bool)
