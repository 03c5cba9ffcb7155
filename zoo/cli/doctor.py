"""doctor, env, config: what this machine has, how the zoo is set up on it, and what is wrong."""

from __future__ import annotations

from dataclasses import asdict

import click

from zoo.cli.options import open_registry
from zoo.cli.output import Output, modes, table_of
from zoo.settings import Settings


@click.command("doctor", short_help="Find what is wrong here, and how to mend it.")
@modes
@click.pass_obj
def doctor_verb(settings: Settings, out: Output) -> None:
    """Look at packages, accelerators, plugins, registry files, disk, lock, store and network.

    Every finding comes with its fix. Exit code 1 if something will fail.
    """
    from zoo.report.health import examine

    found = examine(open_registry(settings, out))
    problems = sum(check.state == "problem" for check in found)
    warnings = sum(check.state == "warning" for check in found)

    def draw(console: object) -> None:
        for check in found:
            out.echo(f"{check.state:8} {check.name}: {check.finding}")
            if check.fix:
                out.echo(f"{'':8} -> {check.fix}")
        out.echo(
            f"{problems or 'no'} problem{'s' * (problems != 1)}, {warnings or 'no'} warning{'s' * (warnings != 1)}"
        )

    out.data({"checks": [asdict(check) for check in found], "problems": problems, "warnings": warnings}, draw)
    if problems:
        raise click.exceptions.Exit(1)


@click.command("env", short_help="Versions and accelerators, for a report of a fault.")
@modes
@click.pass_obj
def env_verb(settings: Settings, out: Output) -> None:
    """Print versions, machine and accelerators. No secret is among them."""
    from zoo.report.health import environment

    facts = environment(open_registry(settings, out))

    def draw(console: object) -> None:
        for name, value in facts.items():
            if isinstance(value, dict):
                value = ", ".join(f"{key} {version or '-'}" for key, version in value.items()) or "-"
            out.echo(f"{name:13} {', '.join(map(str, value)) if isinstance(value, list) else value}")

    out.data(facts, draw)


@click.command("config", short_help="Every setting, and where it comes from.")
@modes
@click.pass_obj
def config_verb(settings: Settings, out: Output) -> None:
    """Print every setting with its value and whether a flag, the environment or the default says so."""
    from zoo.report.health import configuration

    rows = configuration(settings, open_registry(settings, out))

    def draw(console: object) -> None:
        table = table_of("name", "value", "from")
        for row in rows:
            value = "\n".join(row["value"]) if isinstance(row["value"], list) else row["value"]
            table.add_row(row["name"], "-" if value in (None, "") else str(value), row["source"])
        console.print(table)  # type: ignore[attr-defined]

    out.data({"settings": rows}, draw)
