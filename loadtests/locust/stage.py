"""What all users of this process share while a test runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from locust import User
from locust.env import Environment

from loadtests.locust.accounts import Accounts
from loadtests.locust.deployment import Deployment
from loadtests.locust.ledger import Ledger, Measure
from loadtests.locust.thresholds import CHAT


class Lost(Exception):
    """What Locust's table of failures shows for something that did not come, or was refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The deployment, and who its users are."""

    environment: Environment
    deployment: Deployment
    accounts: Accounts

    @classmethod
    def of(cls, environment: Environment, deployment: Deployment) -> Stage:
        """A stage without users."""

        def report(measure: Measure, seconds: float, failure: str | None) -> None:
            fire(environment, CHAT, measure, seconds, failure)

        def new_ledger() -> Ledger:
            return Ledger(
                report, resend_after=deployment.resend_after, give_up_after=deployment.give_up_after
            )

        accounts = Accounts(new_ledger, deployment.pairs)
        return cls(environment=environment, deployment=deployment, accounts=accounts)


class StagedUser(User):
    """A user who knows the stage; it is set before the first one is made."""

    abstract = True
    stage: ClassVar[Stage]


def fire(environment: Environment, kind: str, name: str, seconds: float, failure: str | None = None) -> None:
    """Adds to Locust's statistics."""
    request: Callable[..., None] = environment.events.request.fire
    request(
        request_type=kind,
        name=str(name),
        response_time=seconds * 1000,
        response_length=0,
        exception=None if failure is None else Lost(failure),
        context={},
    )
