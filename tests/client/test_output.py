"""What commands print for people."""

from __future__ import annotations

from streambus_client._cli._output import explained, table_lines

ROWS = [
    {"node_id": 1, "host": "127.0.0.1", "rack": None, "voter": True, "replicas": (1, 2)},
    {"node_id": 12, "host": "b", "rack": "north", "voter": False, "replicas": ()},
]


def test_a_table_is_aligned_and_has_no_blanks_at_its_ends() -> None:
    assert table_lines(ROWS, None) == [
        "NODE_ID  HOST       RACK   VOTER  REPLICAS",
        "      1  127.0.0.1  -        yes  1,2",
        "     12  b          north     no  -",
    ]
    assert table_lines(ROWS, 42) == table_lines(ROWS, None), "it fits to the column"


def test_a_table_that_is_too_wide_becomes_blocks_without_a_broken_word() -> None:
    assert table_lines(ROWS, 41) == [
        "NODE_ID   1",
        "HOST      127.0.0.1",
        "RACK      -",
        "VOTER     yes",
        "REPLICAS  1,2",
        "",
        "NODE_ID   12",
        "HOST      b",
        "RACK      north",
        "VOTER     no",
        "REPLICAS  -",
    ]


def test_a_minus_one_is_explained_where_it_means_something_else() -> None:
    assert explained("retention_bytes", "-1") == "-1 (no limit)"
    assert explained("retention_bytes", "1") == "1"
    assert explained("default_partitions", "-1") == "-1"
