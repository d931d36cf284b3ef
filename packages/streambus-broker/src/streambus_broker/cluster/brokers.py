"""What the cluster knows of each broker."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class BrokerRecord:
    """One broker.

    Attributes:
        broker_id: Its number.
        epoch: Position in the metadata log of its last registration; names the session.
        incarnation: Random bytes of the running process. Brokers show them to each other, clients
            never see them.
        storage_id: Identity of its data directory, drawn when that was made.
        host: Where clients and brokers reach it.
        port: The same.
        rack: Where it stands, None where nobody said.
        fenced: Its session is over: it leads nothing and is not counted on.
        leaving: It is shutting down in good order; ends with the next registration.
        maintenance: An operator keeps leadership and new replicas away from it.
    """

    broker_id: int
    epoch: int
    incarnation: bytes
    storage_id: bytes
    host: str
    port: int
    rack: str | None
    fenced: bool = False
    leaving: bool = False
    maintenance: bool = False

    @property
    def leads(self) -> bool:
        """Whether it may be made a leader."""
        return not (self.fenced or self.leaving or self.maintenance)

    def row(self) -> list[Any]:
        """As a list for msgpack."""
        return list(astuple(self))

    @classmethod
    def from_row(cls, row: Any) -> Self:
        """Read what `row` made; fields of a later version are left out.

        Raises:
            TypeError: It is something else.
        """
        return cls(*row[:10])
