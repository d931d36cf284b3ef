"""Who may connect: limits in all, per address, and on new connections per second. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class _Address:
    open_count: int = 0
    tokens: float = 0.0
    filled_s: float = 0.0


@dataclass(slots=True)
class Admission:
    """Counts connections and decides on new ones.

    Attributes:
        connections_max: Limit in all.
        per_address_max: Limit from one address; also how many may come in one burst.
        new_per_s_max: New connections per second from one address, in the long run.
        open_count: Connections that are open.
    """

    connections_max: int
    per_address_max: int
    new_per_s_max: int
    open_count: int = 0
    _addresses: dict[str, _Address] = field(default_factory=dict)

    def arrive(self, address: str, now_s: float) -> str:
        """Let a connection in, or say why not.

        Args:
            address: Where it comes from.
            now_s: Monotonic time.

        Returns:
            Empty where it is in (`leave` must follow), else the limit it meets, as a label.
        """
        known = self._addresses.get(address)
        if known is None:
            known = self._addresses[address] = _Address(0, float(self.per_address_max), now_s)
        refill = (now_s - known.filled_s) * self.new_per_s_max
        known.tokens = min(float(self.per_address_max), known.tokens + refill)
        known.filled_s = now_s
        if self.open_count >= self.connections_max:
            return "connections_max"
        if known.open_count >= self.per_address_max:
            return "connections_per_address_max"
        if known.tokens < 1:
            return "connections_new_per_address_per_s_max"
        known.tokens -= 1
        known.open_count += 1
        self.open_count += 1
        return ""

    def leave(self, address: str) -> None:
        """Take note that a connection that was let in has ended."""
        self._addresses[address].open_count -= 1
        self.open_count -= 1

    def forget_idle(self, now_s: float) -> None:
        """Forget addresses without connections whose burst has filled up again."""
        for address, known in list(self._addresses.items()):
            full_s = self.per_address_max / self.new_per_s_max
            if not known.open_count and now_s - known.filled_s > full_s:
                del self._addresses[address]
