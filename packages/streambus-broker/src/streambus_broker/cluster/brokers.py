"""What the cluster knows of each broker."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Any, Self

NOBODY = -1


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
        replaced_by: Who takes everything over from it; NOBODY for none.
        vote: Whether it is wished to vote on metadata; None for as it is.
        level_min: The oldest level of metadata that its release takes part in.
        level_max: The newest.
        read_only: Its storage takes no writes, as it says: it leads only where nobody else can,
            and is in no in-sync set that does without it. Stays until it has tried.
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
    replaced_by: int = NOBODY
    vote: bool | None = None
    level_min: int = 1
    level_max: int = 1
    read_only: bool = False

    @property
    def leads(self) -> bool:
        """Whether it may be made a leader."""
        return not (self.fenced or self.leaving or self.maintenance or self.read_only)

    @property
    def leads_at_need(self) -> bool:
        """Whether it may lead where nobody can who should: it is at least read from."""
        return not (self.fenced or self.leaving or self.leads)

    @property
    def keeps_up(self) -> bool:
        """Whether it may be counted on to be in sync."""
        return not (self.fenced or self.leaving or self.read_only)

    @property
    def takes_replicas(self) -> bool:
        """Whether new replicas may be placed on it, once it lives."""
        return not self.maintenance and self.replaced_by == NOBODY

    def row(self) -> list[Any]:
        """As a list for msgpack."""
        return list(astuple(self))

    @classmethod
    def from_row(cls, row: Any) -> Self:
        """Read what `row` made; fields of a later version are left out.

        Raises:
            TypeError: It is something else.
        """
        return cls(*row[:15])
