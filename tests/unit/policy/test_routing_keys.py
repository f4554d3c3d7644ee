"""Keys in the routing table, on the wire and back."""

from __future__ import annotations

import json

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
        [make_key(1, expires_at=START), make_key(2, endpoints=("endpoint-1",)), make_key(3, endpoints=())]
    )
    table = RoutingTable("here", 1, 2, keys=keys)

    assert RoutingTable.from_dict(json.loads(json.dumps(table.to_dict()))) == table


def test_a_table_of_an_older_server_has_keys_without_lists() -> None:
    table = RoutingTable("here", 1, 2, keys=route_keys([make_key(1)])).to_dict()
    del table["keys"][0]["endpoints"]

    assert RoutingTable.from_dict(table).keys[0].endpoints is None
