"""`curation serve`: the auditor's portal alone, on this machine, for whoever holds the token that it prints."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Annotated, Final

import typer

from curation import pipeline
from curation.cli_text import out
from curation.errors import OutsideError

LOOPBACK: Final = "127.0.0.1"


def serve(
    work: Annotated[Path | None, typer.Option("--work", help="Embedded work folder; else CURATION_WORK.", file_okay=False)] = None,
    port: Annotated[int, typer.Option(help="Port of 127.0.0.1; 0 takes a free one.", min=0, max=65535)] = 8470,
) -> None:
    """The auditor's portal at 127.0.0.1, read-only, behind a token drawn at each start; until Ctrl-C."""
    import uvicorn

    from curation.portal.login import TokenLogin, standalone

    settings = pipeline.open_settings(work)
    with _listening(port) as listener:
        login = TokenLogin(listener.getsockname()[1])
        app = standalone(lambda: pipeline.Reading(settings), login)
        out.print(f"portal: http://{LOOPBACK}:{listener.getsockname()[1]}/ (this machine only; stop with Ctrl-C)")
        out.print(f"token:  {login.token}")
        # Addresses hold ids of clips and rows: no access log keeps them.
        config = uvicorn.Config(app, access_log=False, log_level="warning", server_header=False, date_header=False)
        uvicorn.Server(config).run(sockets=[listener])


def _listening(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port))
    except OSError as error:
        listener.close()
        raise OutsideError(f"cannot be listened on: {error.strerror}", subject=f"port {port}", fix="give another with --port") from error
    return listener
