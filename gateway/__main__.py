"""`python -m gateway`: serves until SIGTERM or Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Generator

import uvicorn
from pydantic import ValidationError

from gateway.app import create_app
from gateway.http_protocol import DeadlineProtocol
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
    app = create_app(settings)
    server = _Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            http=DeadlineProtocol,
            # There is no WebSocket route; what is installed must not decide whether one could be opened.
            ws="none",
            timeout_keep_alive=settings.request_deadline_s,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="on",
            timeout_graceful_shutdown=settings.shutdown_grace_s,
        )
    )
    app.state.server_state = server.server_state
    server.run()
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())
