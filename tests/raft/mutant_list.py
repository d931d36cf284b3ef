"""All seeded bugs, in the order of the table."""

from tests.raft import mutants_of_consensus, mutants_of_services
from tests.raft.mutant import Mutant

MUTANTS: list[Mutant] = [*mutants_of_consensus.MUTANTS, *mutants_of_services.MUTANTS]

__all__ = ["MUTANTS", "Mutant"]
