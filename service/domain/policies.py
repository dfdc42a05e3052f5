"""The rules that differ by kind of conversation: one table, no other branches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from service.domain.conversation import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What holds in every conversation of one kind."""

    requires_connection: bool
    """Only first-degree connections may open it and send in it."""


POLICIES: Mapping[Kind, Policy] = MappingProxyType({Kind.DIRECT: Policy(requires_connection=True)})
