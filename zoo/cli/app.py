"""The group of verbs, its global options, and how a run ends."""

from __future__ import annotations

import dataclasses
import errno
import gc
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click

from zoo import __version__
from zoo.catalog.near import nearest
from zoo.cli.output import Output
from zoo.errors import DiskError, UsageError, ZooError
from zoo.settings import Settings, elsewhere

#: verb -> module of this package; imported when the verb is used.
VERBS: Final = {
    "list": "catalog",
    "show": "catalog",
    "strategies": "catalog",
    "plugins": "plugins",
    "pull": "weights",
    "verify": "store",
    "rm": "store",
    "cache": "store",
    "register": "weights",
    "convert": "weights",
    "fit": "learn",
    "pretrain": "learn",
    "evaluate": "use",
    "predict": "use",
    "export": "export",
    "push": "export",
    "report": "report",
    "catalog": "report",
    "rank": "choose",
    "audit": "choose",
    "new-plugin": "scaffold",
    "demo": "demo",
    "doctor": "doctor",
    "env": "doctor",
    "config": "doctor",
}
#: Key of a context's `meta` for the command line: up to the verb, and behind it.
ARGUMENTS: Final = "zoo.arguments"
#: Options that stand before the verb.
GLOBAL: Final = ("--registry", "--offline", "-p", "--plugins-dir")


class Verbs(click.Group):
    """Finds a verb's module by name, and the nearest verb for an unknown one."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        whole = tuple(args)
        behind = super().parse_args(ctx, args)
        at = len(whole) - len(behind)
        ctx.meta[ARGUMENTS] = whole[:at], whole[at:]
        return behind

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        if VERBS[cmd_name] in ("catalog", "plugins"):
            gc.disable()  # thousands of specs live until the process ends; looking for garbage among them costs a tenth
        module = importlib.import_module(f"zoo.cli.{VERBS[cmd_name]}")
        return getattr(module, f"{cmd_name.replace('-', '_')}_verb")

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in VERBS:
            near = nearest(args[0], VERBS)
            raise UsageError(
                f"no verb {args[0]!r}",
                hint=f"Did you mean {' or '.join(near)}?" if near else f"Verbs: {', '.join(VERBS)}.",
            )
        return super().resolve_command(ctx, args)


@click.group(
    cls=Verbs,
    invoke_without_command=True,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.option("--registry", type=click.Path(path_type=Path), metavar="FILE", help="The topmost registry file.")
@click.option("--offline", is_flag=True, help="No request leaves this machine.")
@click.option("-p", "plugin_flags", multiple=True, metavar="no:NAME", help="Disable a plugin; it is never imported.")
@click.option("--plugins-dir", type=click.Path(path_type=Path), metavar="DIR", help="A folder of plugin files.")
@click.version_option(__version__, prog_name="zoo", message="%(prog)s %(version)s")
@click.pass_context
def zoo(
    ctx: click.Context, registry: Path | None, offline: bool, plugin_flags: Sequence[str], plugins_dir: Path | None
) -> None:
    """Transfer learning by composition: any backbone, any strategy, on real input."""
    settings = Settings()
    ctx.obj = dataclasses.replace(
        settings,
        offline=offline or settings.offline,
        registry=registry or settings.registry,
        plugins_dir=plugins_dir or settings.plugins_dir,
        disabled=settings.disabled + tuple(_disabled(flag) for flag in plugin_flags),
    )
    if registry is not None and not registry.is_file():
        raise UsageError(f"no registry file {registry}", hint="Give the path of a registry.toml.")
    if ctx.invoked_subcommand is None:
        from zoo.cli.catalog import status

        status(ctx.obj)


def _disabled(flag: str) -> str:
    if not flag.startswith("no:") or len(flag) == 3:
        raise UsageError(f"-p {flag} is not understood", hint="Write -p no:NAME.")
    return flag[3:]


def run(args: Sequence[str], out: Output | None = None) -> int:
    """Run one command line; returns its exit code. Every error ends here, and is told to `out`."""
    out = out or Output(json="--json" in args, quiet="-q" in args or "--quiet" in args)
    debug = os.environ.get("ZOO_DEBUG", "") not in ("", "0")
    try:
        code = zoo.main(args=list(args), prog_name="zoo", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0  # of a verb that ended with click's Exit
    except ZooError as error:
        shown: BaseException = error
    except click.UsageError as error:
        shown = _from_click(error)
    except (click.Abort, KeyboardInterrupt) as stop:
        out.error("interrupted", "Interrupted.", None, None, _notes(stop), exit_code=130)
        return 130
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except BrokenPipeError:
        # The reader has gone; Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        shown = _from_os(error) or error
    except Exception as error:
        shown = error
    if debug:
        import traceback

        traceback.print_exception(shown)
    if isinstance(shown, ZooError):
        notes = getattr(shown, "__notes__", ())
        out.error(shown.code, shown.message, shown.why, shown.hint, notes, shown.facts, shown.exit_code)
        return shown.exit_code
    out.error(
        "internal",
        f"{type(shown).__name__}: {shown}",
        "This is a fault of the zoo or of a plugin, not of your input.",
        "Run it again with ZOO_DEBUG=1 for the traceback.",
        getattr(shown, "__notes__", ()),
    )
    return 1


def _notes(error: BaseException) -> list[str]:
    """The notes of an error; click wraps an interrupt into one of its own."""
    wrapped = error.__context__ or error.__cause__
    return [*getattr(error, "__notes__", ()), *(getattr(wrapped, "__notes__", ()) if wrapped is not None else ())]


def _from_click(error: click.UsageError) -> UsageError:
    verb = error.ctx.command_path if error.ctx else "zoo"
    option = getattr(error, "option_name", None)
    if option in GLOBAL and error.ctx and error.ctx.parent:
        return UsageError(f"{option} goes before the verb", hint=f"Write zoo {option} ... {error.ctx.info_name} ...")
    possible = getattr(error, "possibilities", None)
    near = f"Did you mean {' or '.join(sorted(possible))}? " if possible else ""
    text = error.format_message().split(" Did you mean")[0].split(" (Possible options")[0]
    return UsageError(text.rstrip("."), hint=f"{near}See {verb} --help.")


def _from_os(error: OSError) -> ZooError | None:
    if error.errno in (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, errno.EDQUOT):
        return DiskError(
            f"{error.strerror}: {error.filename or 'the disk'}",
            hint=f"Free some space, check the permissions, or {elsewhere(error.filename)}.",
        )
    return None
