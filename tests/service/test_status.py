"""The table from errors to statuses."""

from __future__ import annotations

import inspect
from types import ModuleType

import grpc
import pytest
from google.rpc import error_details_pb2
from sidelight.v1 import error_pb2
from sidelight_engines import errors as engine_errors
from sidelight_engines.errors import InvalidField, SidelightError
from sidelight_service import errors as service_errors
from sidelight_service.status import DOMAIN, TABLE, incident_of, reason_name, to_status


def _errors_of(module: ModuleType) -> set[type[SidelightError]]:
    return {
        kind
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, SidelightError) and kind is not SidelightError
    }


def test_every_error_of_engines_and_service_has_a_row() -> None:
    assert _errors_of(engine_errors) | _errors_of(service_errors) == set(TABLE)


def test_every_row_names_a_reason_of_the_contract_that_states_its_code() -> None:
    for kind, row in TABLE.items():
        assert row.reason != error_pb2.ERROR_REASON_UNSPECIFIED, kind
        assert reason_name(row.reason)


def test_an_invalid_field_carries_its_path() -> None:
    status = to_status(InvalidField("parameters.samples", "is 1", "give at least 2"))

    assert status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    bad = error_details_pb2.BadRequest()
    assert any(detail.Unpack(bad) for detail in status.details)
    assert [violation.field for violation in bad.field_violations] == ["parameters.samples"]


@pytest.mark.parametrize("error", [RuntimeError("secret path /etc"), KeyError("k"), MemoryError()])
def test_an_unknown_error_is_internal_and_keeps_its_text_to_itself(error: Exception) -> None:
    status = to_status(error)

    assert status.code == grpc.StatusCode.INTERNAL.value[0]
    assert str(error) not in status.message or not str(error)
    incident = incident_of(status)
    assert incident is not None
    assert incident in status.message
    info = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(info) for detail in status.details)
    assert (info.domain, info.reason) == (DOMAIN, "INTERNAL")
