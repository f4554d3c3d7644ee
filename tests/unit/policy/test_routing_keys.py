"""Keys in the routing table, on the wire and back."""

from __future__ import annotations

import json

import pytest

from roost.domain.key import KeyLimits
from roost.domain.routing import RoutingTable
from roost.policy.routing import route_keys
from roost.testing.builders import make_key
from roost.testing.clock import START


def test_revoked_keys_are_left_out_and_lists_go_along() -> None:
    keys = [make_key(3, endpoints=("endpoint-1", "endpoint-2")), make_key(2, revoked_at=START), make_key(1)]

    assert [(key.id, key.endpoints) for key in route_keys(keys)] == [
        ("key-00000001", None),
        ("key-00000003", ("endpoint-1", "endpoint-2")),
    ]


def test_a_table_reads_back_equal_from_json() -> None:
    keys = route_keys(
        [
            make_key(1, expires_at=START, limits=KeyLimits(1, 2, 3)),
            make_key(2, endpoints=("endpoint-1",), limits=KeyLimits(concurrency=4)),
            make_key(3, endpoints=()),
        ]
    )
    table = RoutingTable("here", 1, 2, keys=keys)

    assert RoutingTable.from_dict(json.loads(json.dumps(table.to_dict()))) == table


def test_a_table_of_an_older_server_has_keys_without_lists() -> None:
    table = RoutingTable("here", 1, 2, keys=route_keys([make_key(1)])).to_dict()
    del table["keys"][0]["endpoints"]

    assert RoutingTable.from_dict(table).keys[0].endpoints is None


def test_a_table_of_an_older_server_has_keys_without_limits() -> None:
    table = RoutingTable("here", 1, 2, keys=route_keys([make_key(1, limits=KeyLimits(1, 2, 3))])).to_dict()
    for name in ("requests_per_minute", "tokens_per_minute", "concurrency"):
        del table["keys"][0][name]

    assert RoutingTable.from_dict(table).keys == route_keys([make_key(1)])


@pytest.mark.parametrize("name", ["requests_per_minute", "tokens_per_minute", "concurrency"])
def test_a_key_with_any_limit_is_metered(name: str) -> None:
    limited, free = route_keys([make_key(1, limits=KeyLimits(**{name: 1})), make_key(2)])

    assert (getattr(limited, name), limited.metered, free.metered) == (1, True, False)


def test_a_gateway_that_knows_no_limits_knows_no_limited_key() -> None:
    """It reads the fields that it knows of the keys that it knows, as the release before did."""
    table = RoutingTable("here", 1, 2, keys=route_keys([make_key(1), make_key(2, endpoints=("endpoint-1",))]))
    known = {"digest", "id", "owner", "role", "expires_at"}

    wire = json.loads(json.dumps(table.to_dict()))
    seen = [{name: value for name, value in item.items() if name in known} for item in wire["keys"]]

    assert [item["id"] for item in seen] == ["key-00000001"]
    assert all(set(item) == known for item in seen)


def test_a_table_with_limited_keys_among_the_others_keeps_their_lists() -> None:
    table = RoutingTable("here", 1, 2, keys=route_keys([make_key(1), make_key(2, endpoints=("endpoint-1",))]))
    data = table.to_dict()
    data["keys"] += data.pop("limited_keys")

    assert RoutingTable.from_dict(json.loads(json.dumps(data))) == table


@pytest.mark.parametrize("broken", [{"endpoints": None}, {}])
def test_a_limited_key_without_a_list_is_no_key_for_everything(broken: dict[str, object]) -> None:
    data = RoutingTable("here", 1, 2, keys=route_keys([make_key(1, endpoints=("endpoint-1",))])).to_dict()
    del data["limited_keys"][0]["endpoints"]
    data["limited_keys"][0].update(broken)

    with pytest.raises((KeyError, TypeError)):
        RoutingTable.from_dict(data)
