"""Health and metrics over HTTP: starlette on uvicorn, on the broker's own event loop.

``/health/live`` and ``/health/ready`` answer 200, or 503 with reasons; ``/health`` gives every
component with its reason; ``/metrics``, ``/metrics/detail`` and ``/metrics/kafka`` are for
Prometheus.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from typing import TYPE_CHECKING

import anyio
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from streambus_broker.observe.metrics import Metrics

if TYPE_CHECKING:
    import socket
    from collections.abc import Generator

    from starlette.requests import Request

    from streambus_broker.broker import Broker
    from streambus_broker.observe.health import Health
    from streambus_broker.observe.logs import Logger


class _Server(uvicorn.Server):
    """A uvicorn server that leaves the signals to the broker."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Capture nothing."""
        yield


class _Said(logging.Handler):
    """Puts what uvicorn has to say into the broker's own log."""

    def __init__(self, logger: Logger) -> None:
        super().__init__(logging.WARNING)
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """Write one message, as one of those that a stranger can provoke."""
        self._logger.warning("serve", record.getMessage(), sparse=True)


def build_app(broker: Broker) -> Starlette:
    """Build the application over a running broker."""
    metrics = Metrics(broker)

    async def live(_: Request) -> Response:
        judged = broker.health()
        return _status(judged.live, judged)

    async def ready(_: Request) -> Response:
        judged = broker.health()
        return _status(judged.ready, judged)

    async def health(_: Request) -> Response:
        judged = broker.health()
        status = 200 if judged.ready else 503
        return JSONResponse(dataclasses.asdict(judged), status_code=status)

    def page(name: str) -> Route:
        async def serve(_: Request) -> Response:
            return Response(metrics.page(name), media_type=CONTENT_TYPE_LATEST)

        path = "/metrics" if name == "small" else f"/metrics/{name}"
        return Route(path, serve)

    return Starlette(
        routes=[
            Route("/health/live", live),
            Route("/health/ready", ready),
            Route("/health", health),
            *map(page, ("small", "detail", "kafka")),
        ]
    )


def _status(good: bool, health: Health) -> Response:
    if good:
        return JSONResponse({"ok": True})
    reasons = [f"{one.name}: {one.reason}" for one in health.components if one.status == "failed"]
    return JSONResponse({"ok": False, "reasons": reasons}, status_code=503)


async def serve_http(broker: Broker, listener: socket.socket) -> None:
    """Serve until cancelled."""
    config = uvicorn.Config(
        build_app(broker),
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        http="h11",
        limit_concurrency=100,
        timeout_keep_alive=5,
        server_header=False,
    )
    said = logging.getLogger("uvicorn.error")
    handler = _Said(broker.logger("http"))
    said.addHandler(handler)
    said.propagate = False
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await asyncio.shield(serving)
    finally:
        server.should_exit = server.force_exit = True
        with anyio.CancelScope(shield=True):
            await serving
        said.removeHandler(handler)
