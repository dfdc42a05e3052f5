"""The routes `/api/presence` and `/api/preferences`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from gateway.authorization import CallerOfRequest
from gateway.models import Preferences, PreferencesBody, Presence, PresenceList, UserId
from gateway.routing import Calls, refusals

UserIds = Annotated[
    list[UserId],
    Query(alias="userId", min_length=1, max_length=100, description="May be given up to 100 times."),
]

router = APIRouter(prefix="/api", tags=["people"], responses=refusals(400, 401, 503, 504))


@router.get("/presence")
async def get_presence(caller: CallerOfRequest, calls: Calls, user_ids: UserIds) -> PresenceList:
    """Presence of those of the users who are connected with the caller; the others are left out."""
    answer = await calls.get_presence(caller, user_ids)
    return PresenceList(presences=[Presence.of(each) for each in answer.presences])


@router.get("/preferences")
async def get_preferences(caller: CallerOfRequest, calls: Calls) -> Preferences:
    """What the caller lets others see."""
    return Preferences.of(await calls.get_preferences(caller))


@router.patch("/preferences", responses=refusals(408, 413))
async def set_preferences(body: PreferencesBody, caller: CallerOfRequest, calls: Calls) -> Preferences:
    """Changes what is given, and answers with all of it."""
    return Preferences.of(
        await calls.set_preferences(caller, read_receipts=body.read_receipts, invisible=body.invisible)
    )
