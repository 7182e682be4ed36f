"""The command that serves the REST API and the web page."""

from __future__ import annotations

import asyncio
import logging
import sys

import click

from localgcl._liveness import identity
from localgcl.cli._secrets import SecretError, first_line
from localgcl.cli._shared import database_of

_INSTALL = "install the server with: pip install 'localgcl[server]'"


@click.command()
@click.option(
    "--host",
    metavar="ADDRESS",
    default="127.0.0.1",
    show_default=True,
    help="Where to serve; another address than this machine's own needs --auth or --auth-file.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=4200,
    show_default=True,
    help="The port; 0 picks a free one.",
)
@click.option(
    "--auth",
    metavar="USER:PASSWORD",
    help="Let in only those who know this; other users of this machine may see it in the process"
    " list.  [default: everybody on this machine]",
)
@click.option(
    "--auth-file",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, readable=True),
    help="The same, read from the first line of a regular file, which only you should be able to"
    " read.  [default: everybody on this machine]",
)
@click.pass_context
def serve(
    ctx: click.Context, host: str, port: int, auth: str | None, auth_file: str | None
) -> None:
    """Serve the REST API of Prefect's clients and the web page, until SIGTERM or Ctrl-C.

    \b
    Example:
      localgcl serve
      PREFECT_API_URL=http://127.0.0.1:4200/api prefect gcl ls
    """
    if auth is not None and auth_file is not None:
        raise click.UsageError("--auth and --auth-file exclude each other.", ctx)
    if auth_file is not None:
        auth = _credentials_in(auth_file)
    if auth is not None and not all(auth.partition(":")):
        raise click.UsageError(
            "The credentials have to be USER:PASSWORD, and neither part may be empty.", ctx
        )
    path = database_of(ctx)[0]
    try:
        from localgcl.server.credentials import Credentials
        from localgcl.server.serving import AddressError, Server, sockets_for, url_of
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "localgcl"):
            raise
        raise click.ClickException(f"{missing} is missing; {_INSTALL}") from None
    # Clients get the answer that a limit is missing, or what is wrong with their requests. The log
    # does not need it too.
    for name in ("localgcl", "uvicorn"):
        logging.getLogger(name).setLevel(logging.ERROR)
    credentials = Credentials(auth) if auth is not None else None
    try:
        listening = sockets_for(host, port, credentials)
    except AddressError as error:
        raise click.ClickException(str(error)) from None

    # Waiters are shown with the command line of their process, and it must not contain the
    # password.
    identity.show_as((*sys.argv[:1], "serve", "--host", host, "--port", str(port)))

    def opened() -> None:
        for one in listening:
            click.echo(f"Serving {path} at {url_of(one)}")
        sys.stdout.flush()

    async def run() -> None:
        server = Server(path, listening, credentials, host)
        server.end_on_signals()
        await server.run(opened)

    asyncio.run(run())


def _credentials_in(path: str) -> str:
    try:
        line, warning = first_line(path)
    except OSError as error:
        raise click.ClickException(f"{path} cannot be read: {error.strerror}") from None
    except SecretError as error:
        raise click.ClickException(str(error)) from None
    if warning is not None:
        click.echo(f"Warning: {warning}", err=True)
    return line
