"""Prometheus metrics of the pipeline and the bridge; labels are closed lists, never user data."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

COMMANDS = Counter("messaging_commands", "Commands answered, by command and outcome", ["command", "outcome"])
BATCH_SIZE = Histogram(
    "messaging_batch_messages",
    "Messages in one commit",
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000),
)
COMMIT_SECONDS = Histogram(
    "messaging_commit_seconds",
    "Duration of one commit, retries included",
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5),
)
TASKS = Gauge("messaging_tasks", "Asyncio tasks of this process")
LANES = Gauge("messaging_lanes", "Users whose commands wait for an authorization or for their rate")
WAITING = Gauge("messaging_waiting_messages", "Authorized messages that wait for their commit or are in it")
BROKER_CONNECTED = Gauge("messaging_broker_connected", "1 while subscribed at the broker")
BROKER_RECONNECTS = Counter("messaging_broker_reconnects", "Links to the broker that were lost")
PUBLICATIONS_REFUSED = Counter("messaging_publications_refused", "Events that the broker did not take")
UNACKNOWLEDGED = Gauge("messaging_unacknowledged_commands", "Commands received and not yet acknowledged")
PLATFORM_EVENTS = Counter("messaging_platform_events", "Platform events, by outcome", ["outcome"])
LEASE_HELD = Gauge("messaging_lease_held", "1 while this instance is the active one")
LEASE_ACQUISITIONS = Counter("messaging_lease_acquisitions", "Times that this instance became the active one")
TYPING = Counter("messaging_typing_signals", "Typing signals by what became of them", ["outcome"])
PRESENCE_REPORTS = Counter("messaging_presence_reports", "What sessions said of themselves", ["state"])
PRESENCE_TOLD = Counter("messaging_presence_told", "Changes of users' presence told to others", ["state"])
DEAD_LETTERS = Counter(
    "messaging_dead_letters", "What could not be processed because of its content, by error code", ["reason"]
)
