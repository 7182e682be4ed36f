"""`/metrics`, for Prometheus to read."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from localgcl._admin.metrics import METRICS, Row
from localgcl.server.reading import all_counters
from localgcl.server.service import service_of


class _Counters(CollectorRegistry):
    """A registry of the values that were read from the database."""

    def __init__(self, rows: Iterable[Row]) -> None:
        super().__init__()
        self._rows = list(rows)

    def collect(self) -> Iterator[Metric]:
        for metric in METRICS if self._rows else ():
            family: CounterMetricFamily | GaugeMetricFamily
            kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            family = kind(metric.name, metric.help, labels=["limit"])
            for row in self._rows:
                value = metric.value(row)
                if value is not None:
                    family.add_metric([row["name"]], value)
            yield family


async def metrics(request: Request) -> Response:
    """Return the counters of every limit in the format that is asked for."""
    rows = await all_counters(service_of(request).limiter)
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    # Thousands of limits take a while. Meanwhile the loop answers others.
    content = await asyncio.to_thread(encode, _Counters(rows))
    return Response(content, media_type=content_type)


ROUTES = [Route("/metrics", metrics, methods=["GET"])]
