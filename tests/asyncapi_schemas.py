"""Holds payloads to `docs/asyncapi.yaml`: every test client checks every event it receives.

The document's schemas are JSON Schema draft-07 (AsyncAPI's own dialect), formats included.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import yaml
from jsonschema import Draft7Validator, FormatChecker
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

DOCUMENT_PATH = Path(__file__).parents[1] / "docs" / "asyncapi.yaml"
_URI = "urn:asyncapi"
_RFC3339 = re.compile(r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})")

FORMATS = FormatChecker(formats=())
"""Exactly the formats that the document may use."""


@FORMATS.checks("uuid", raises=ValueError)
def _is_uuid(value: object) -> bool:
    return not isinstance(value, str) or str(UUID(value)) == value.lower()


@FORMATS.checks("date-time", raises=ValueError)
def _is_date_time(value: object) -> bool:
    if not isinstance(value, str):
        return True
    return _RFC3339.fullmatch(value) is not None and datetime.fromisoformat(value).tzinfo is not None


@FORMATS.checks("uri-reference", raises=ValueError)
def _is_uri_reference(value: object) -> bool:
    return not isinstance(value, str) or (urlsplit(value) is not None and " " not in value)


@cache
def document() -> dict[str, Any]:
    """The parsed `docs/asyncapi.yaml`."""
    loaded: dict[str, Any] = yaml.safe_load(DOCUMENT_PATH.read_text(encoding="utf-8"))
    return loaded


@cache
def validator(schema_name: str) -> Draft7Validator:
    """Validator of `components/schemas/{schema_name}`, formats checked."""
    if schema_name not in document()["components"]["schemas"]:
        raise LookupError(f"docs/asyncapi.yaml describes no {schema_name}")
    registry: Registry[Any] = Registry().with_resource(
        _URI, Resource.from_contents(document(), default_specification=DRAFT7)
    )
    return Draft7Validator(
        {"$ref": f"{_URI}#/components/schemas/{schema_name}"}, registry=registry, format_checker=FORMATS
    )


@cache
def _schemas_by_name(kind: str) -> Mapping[str, str]:
    """Name of the payload's schema for each of `commands` or `events`, by the last level of its topic."""
    found: dict[str, str] = {}
    for channel in document()["channels"].values():
        start, _, name = channel["address"].rpartition("/")
        if start.endswith(f"/users/{{userId}}/{kind}"):
            (message_name,) = channel["messages"]
            message = document()["components"]["messages"][message_name]
            found[name] = message["payload"]["$ref"].rsplit("/", 1)[1]
    return found


@cache
def _qos_by_event() -> Mapping[str, int]:
    found: dict[str, int] = {}
    for operation in document()["operations"].values():
        channel = document()["channels"][operation["channel"]["$ref"].rsplit("/", 1)[1]]
        if operation["action"] == "send":
            found[channel["address"].rsplit("/", 1)[1]] = operation["bindings"]["mqtt"]["qos"]
    return found


def promised_qos(event_name: str) -> int:
    """The quality of service that an event has at the least."""
    return _qos_by_event()[event_name]


def published_events() -> frozenset[str]:
    """Names of the events that users receive: the last level of their topics."""
    return frozenset(_schemas_by_name("events"))


def accepted_commands() -> frozenset[str]:
    """Names of the commands that users send."""
    return frozenset(_schemas_by_name("commands"))


def event_schema(event_name: str) -> str:
    """Name of an event's schema: not the event's where a command has the same name."""
    return _schemas_by_name("events")[event_name]


def validate_event(event_name: str, payload: Mapping[str, Any]) -> None:
    """Raises `AssertionError` unless the payload is what the document says of this event.

    The words of the error name the place and the rule, never the values.
    """
    if event_name not in published_events():
        raise AssertionError(f"docs/asyncapi.yaml describes no event {event_name!r}")
    _validate(event_schema(event_name), payload)


def validate_command(command: str, payload: Mapping[str, Any]) -> None:
    """The same for what a client sends."""
    if command not in accepted_commands():
        raise AssertionError(f"docs/asyncapi.yaml describes no command {command!r}")
    _validate(_schemas_by_name("commands")[command], payload)


def _validate(schema_name: str, payload: Mapping[str, Any]) -> None:
    faults = [
        f"{'.'.join(str(part) for part in error.absolute_path) or 'payload'}: breaks {error.validator}"
        for error in validator(schema_name).iter_errors(dict(payload))
    ]
    if faults:
        raise AssertionError(f"{schema_name} does not match docs/asyncapi.yaml: " + "; ".join(faults))
