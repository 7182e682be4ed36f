"""The command that examines the database and its surroundings."""

from __future__ import annotations

from dataclasses import asdict

import click

from localgcl._doctor import examination
from localgcl.cli._shared import database_of, echo_json, output_option


@click.command()
@output_option
@click.pass_context
def doctor(ctx: click.Context, output: str | None) -> None:
    """Examine the database: which file it is, where it lies, who may use it, whether it is intact.

    Nothing is made or changed. The exit status is 1 where there is a fault; notes are none.

    \b
    Example:
      localgcl doctor
      localgcl --db /var/lib/limits/limits.db doctor -o json
    """
    path, chosen_by = database_of(ctx)
    checks = examination.examine(path, chosen_by)
    if output:
        echo_json(
            {
                "database": path,
                "chosen_by": chosen_by,
                "exists": examination.exists(path),
                "checks": [asdict(check) for check in checks],
            }
        )
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            click.echo(f"{check.status:5}  {check.name:{width}}  {check.detail}")
            if check.remedy is not None:
                click.echo(f"{'':5}  {'':{width}}  -> {check.remedy}")
    faults = sum(check.status == "fault" for check in checks)
    if faults:
        raise click.ClickException(f"{faults} fault(s) found in {path}")
