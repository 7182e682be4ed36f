"""The command that prints the counters."""

from __future__ import annotations

import click

from localgcl._admin import metrics as _metrics
from localgcl.cli._shared import administer


@click.command()
@click.pass_context
def metrics(ctx: click.Context) -> None:
    """Print the counters of every limit in Prometheus' text format.

    \b
    Example:
      localgcl metrics > /var/lib/node_exporter/localgcl.prom.new
      mv /var/lib/node_exporter/localgcl.prom.new /var/lib/node_exporter/localgcl.prom
    """
    rows = administer(ctx, _metrics.counters())
    click.echo(_metrics.exposition(rows), nl=False)
