"""`python -m gateway`: serves until SIGTERM or Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Generator

import uvicorn
from pydantic import ValidationError

from gateway.app import create_app
from gateway.logs import configure_logs
from gateway.settings import GatewaySettings, describe_faults


class _Server(uvicorn.Server):
    """Ends by itself at a signal: uvicorn would raise it once more afterwards, which looks like a crash."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """SIGTERM and SIGINT ask for a clean end."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.handle_exit)
        yield


def main() -> int:
    """Reads the settings, or says what is wrong with them, and serves."""
    try:
        settings = GatewaySettings()
    except ValidationError as error:
        print(describe_faults(error), file=sys.stderr)
        return 2
    configure_logs(settings.log_level)
    server = _Server(
        uvicorn.Config(
            create_app(settings),
            host=settings.host,
            port=settings.port,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="on",
            timeout_graceful_shutdown=settings.shutdown_grace_s,
        )
    )
    server.run()
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())
