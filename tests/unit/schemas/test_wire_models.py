"""Wire models: strict bodies, tolerant answers."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pydantic import BaseModel, ValidationError

from roost import schemas


def models(kind: type[BaseModel]) -> list[type[BaseModel]]:
    return [item for item in vars(schemas).values() if isinstance(item, type) and issubclass(item, kind)]


def test_answers_ignore_what_they_do_not_know() -> None:
    zones = schemas.ZoneList.model_validate({"avzones": ["a"], "from_the_future": 1})

    assert zones == schemas.ZoneList(avzones=["a"])


@pytest.mark.parametrize("value", [True, "1", 1.5, 2.0, [1]])
def test_numbers_in_bodies_are_integers(value: object) -> None:
    with pytest.raises(ValidationError):
        schemas.AutoscalingBody.model_validate({"min_replicas": value})


def test_the_endpoint_of_the_reference_page_is_read() -> None:
    endpoint = schemas.Endpoint.model_validate(
        {
            "object": "endpoint",
            "id": "endpoint-abc123",
            "name": "user/meta-llama/Llama-3-8b-a32b82a1",
            "display_name": "My Endpoint",
            "model": "meta-llama/Llama-3.3-70B-Instruct-Turbo",
            "hardware": "4x_nvidia_h100_80gb_sxm",
            "type": "dedicated",
            "owner": "user",
            "state": "STARTED",
            "autoscaling": {"min_replicas": 1, "max_replicas": 3},
            "created_at": "2024-01-15T14:30:00Z",
        }
    )

    assert endpoint.created_at == datetime(2024, 1, 15, 14, 30, tzinfo=UTC)
    assert '"created_at":"2024-01-15T14:30:00Z"' in endpoint.model_dump_json()


def test_a_seventh_state_is_refused() -> None:
    field = schemas.Endpoint.model_fields["state"].annotation

    assert set(getattr(field, "__args__", ())) == {"PENDING", "STARTING", "STARTED", "STOPPING", "STOPPED", "ERROR"}


@pytest.mark.parametrize(
    "expires",
    [
        "2030-01-01T00:00:00",
        "2030-01-01T00:00Z",
        "2030-01-01",
        "soon",
        "",
        True,
        1999999999,
        "1999999999",
        4e12,
        "4e12",
    ],
)
def test_an_expiry_is_rfc_3339_with_a_zone(expires: object) -> None:
    with pytest.raises(ValidationError):
        schemas.ApiKeyCreate.model_validate({"expires_at": expires})


@pytest.mark.parametrize(
    "expires", ["2030-01-01T00:00:00Z", "2030-01-01t01:00:00.000000+01:00", "2029-12-31 19:00:00-05:00"]
)
def test_all_forms_of_rfc_3339_are_read(expires: str) -> None:
    body = schemas.ApiKeyCreate.model_validate({"expires_at": expires})

    assert body.expires_at == datetime(2030, 1, 1, tzinfo=UTC)


def test_all_that_is_exported_is_a_wire_model_or_a_choice() -> None:
    assert len(models(BaseModel)) + len({"DesiredState", "Role", "State"}) == len(schemas.__all__)


def test_a_list_is_iterated_like_its_data() -> None:
    lines = [schemas.LogLine(replica_id="r", line="one"), schemas.LogLine(replica_id="r", line="two")]
    listing = schemas.LogList(data=lines)
    assert list(listing) == lines
    assert listing.model_dump() == {"object": "list", "data": [line.model_dump() for line in lines]}


def test_a_repr_has_what_differs_from_the_default_and_no_key() -> None:
    download = schemas.Download(state="fetching", percent=5.0)
    assert repr(download) == "Download(state='fetching', percent=5.0)"
    key = schemas.ApiKeyCreated.model_construct(id="key-1", key="secret")
    assert "secret" not in repr(key)
