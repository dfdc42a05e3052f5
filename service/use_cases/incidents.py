"""Defects that a user meets: logged under an id, and the id told."""

from __future__ import annotations

from uuid import UUID, uuid4

import structlog

from service.domain.errors import ErrorCode, Rejection
from service.domain.ids import UserId

_log = structlog.get_logger(__name__)


def incident(step: str, subject: UUID | UserId) -> Rejection:
    """Logs the exception being handled under a new id, and returns what its user is told.

    `subject` is the id of what, or for whom, was worked on, for the log only.
    """
    number = uuid4()
    _log.exception("command_failed", step=step, incident=str(number), subject=str(subject))
    return Rejection(ErrorCode.INTERNAL, f"the service failed (incident {number})", 1_000, number)
