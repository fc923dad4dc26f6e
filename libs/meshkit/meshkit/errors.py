"""The tree of faults: the world misbehaving, named for what happened.

An expected outcome is a return type (a ``Problem``, a ``Refusal``), not one of these.
"""

from mesh_contracts.ask import Problem


class MeshError(Exception):
    """Whatever the mesh raises on purpose."""


class ConfigError(MeshError):
    """Settings are missing or unusable; the message names every one and says what to set."""


class Unavailable(MeshError):
    """Bus, database or peer cannot be reached now; doing the same again later may work."""


class Deposed(Unavailable):
    """Another process has taken over: what this one decided has not been."""


class StaleSnapshot(MeshError):
    """What was read has moved on before it was applied; load and decide again."""


class NotHeardYet(StaleSnapshot):
    """What an ask names may be told of any moment: it is asked again for a while, in new transactions.

    ``problem`` is the answer where that did not help.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__("not heard of yet")
        self.problem = problem


class JournalFull(MeshError):
    """The journal reached its bound: the effect must be refused (503), nothing is lost."""


class PrincipalInvalid(MeshError):
    """A principal that is not sealed by this mesh, or has expired."""


class MessageTooLarge(MeshError):
    """A message is larger than the bus takes; sending it again cannot work."""


class PermissionsViolation(MeshError):
    """The bus refused a publish or a subscribe; the contracts' table does not grant it."""


class MigrationMismatch(MeshError):
    """A migration that has shipped was edited, or the database is ahead of this program."""
