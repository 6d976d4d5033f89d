"""The `mstkd` command: its help, errors to one line, logs and exit codes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mstkd import __version__
from mstkd.artifacts.atomic import no_room
from mstkd.cli import models, people, steps
from mstkd.cli.memory import out_of_memory
from mstkd.compute.interruption import Interrupted
from mstkd.errors import InputError, RankError, printable


class Commands(TyperGroup):
    """Tells a user's fault in one line, on the terminal and in the log, and exits with 2.

    A run that a signal ended says so too, and exits as a shell would: 143 for SIGTERM.
    """

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in steps.STEPS:
            return steps.command(cmd_name)  # made when it is asked for, from its function's source
        return super().get_command(ctx, cmd_name)

    def invoke(self, ctx: Any) -> Any:
        with _logging_to(ctx.params.get("log")) as tell:
            try:
                return super().invoke(ctx)
            except InputError as error:
                message = str(error)
            except Interrupted as interrupted:
                tell(f"mstkd: {interrupted}")
                raise SystemExit(interrupted.exit_code) from None
            except RankError as error:
                tell(f"mstkd: error: {error}")
                raise SystemExit(1) from None
            except OSError as error:
                full = no_room(error)
                message = str(error) if full is None else full.line()
                if error.filename is None and error.errno is None:
                    raise  # not the system's word but a library's: it keeps its traceback
            except (MemoryError, RuntimeError) as error:
                too_little = out_of_memory(error, ctx.invoked_subcommand)
                if too_little is None:
                    raise
                message = str(too_little)
            for line in message.rstrip("\n").split("\n"):
                tell(f"mstkd: error: {printable(line)}")
            raise SystemExit(2)


@contextlib.contextmanager
def _logging_to(log: Path | None) -> Iterator[Callable[[str], None]]:
    """Send all output of the process to a file; give a function that tells the terminal too."""
    if log is None:
        yield lambda line: typer.echo(line, err=True)
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    terminal = os.dup(2)
    # Appending: another process that still has the file open leaves no hole in it.
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
    # By descriptor, so that what libraries and worker processes print lands there too.
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)

    def tell(line: str) -> None:
        os.write(terminal, f"{line}\n".encode())
        with contextlib.suppress(OSError):  # the log may lie on the disk that is full
            typer.echo(line, err=True)

    try:
        yield tell
    finally:
        os.close(terminal)


app = typer.Typer(
    cls=Commands,
    help="Fair face recognition by multi-teacher distillation.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _common(
    log: Annotated[
        Path | None, typer.Option("--log", help="Write all output there; errors also here.")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    pass


for _command in (*people.COMMANDS, *models.COMMANDS):
    app.command()(_command)
for _name in steps.STEPS:
    app.command(_name)(lambda: None)  # its place; see `Commands.get_command`


def main() -> None:
    """Entry point of the `mstkd` command."""
    app(prog_name="mstkd")
