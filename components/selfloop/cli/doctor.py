"""Looking whether a cluster has everything that a loop needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from selfloop.cli.app import app, console
from selfloop.cluster.access import is_in_pod

if TYPE_CHECKING:
    from selfloop.cluster.doctor import Finding

MARKS = {"well": ("✓", "green"), "bad": ("✗", "bold red"), "unseen": ("–", "dim")}


@app.command()
def doctor(
    namespace: Annotated[
        str | None,
        typer.Option(
            "--namespace", "-n", envvar="SELFLOOP_NAMESPACE", help="Default: selfloop; in a pod, the pod's own."
        ),
    ] = None,
    profile: Annotated[str, typer.Option(help="What hardware is asked for: a profile's name or TOML file.")] = "cpu",
    kfp: Annotated[
        str | None,
        typer.Option("--kfp", envvar="SELFLOOP_KFP_ENDPOINT", help="Address of Kubeflow Pipelines, as in a browser."),
    ] = None,
    tracking_uri: Annotated[str | None, typer.Option(envvar="MLFLOW_TRACKING_URI", help="MLflow's address.")] = None,
    store: Annotated[
        str | None, typer.Option("--store", envvar="SELFLOOP_STORE", help="Where policies are kept: s3://...")
    ] = None,
    in_pod: Annotated[
        bool | None, typer.Option("--in-pod/--on-laptop", help="Where this runs; found out if it is not said.")
    ] = None,
    only: Annotated[
        list[str], typer.Option("--only", metavar="CHECK", help="Look at this alone, such as sandbox; repeat for more.")
    ] = [],  # noqa: B006 (typer copies it)
    skip: Annotated[
        list[str], typer.Option("--skip", metavar="CHECK", help="Do not look at this; repeat for more.")
    ] = [],  # noqa: B006
) -> None:
    """Look whether a cluster, and this machine, has all that a loop needs; each finding comes with its remedy.

    Of this machine alone: --only machine.
    """
    from selfloop.cluster.doctor import case_of, examine

    inside = is_in_pod() if in_pod is None else in_pod
    case = case_of(namespace, profile, kfp, tracking_uri, store, inside)
    console.print(f"Namespace {case.namespace}, profile {case.profile.name}, from {'a pod' if inside else 'a laptop'}:")
    findings = examine(case, only, skip)
    if findings:  # in a pod, of a laptop there are none
        show(findings)
    if any(finding.state == "bad" for finding in findings):
        raise typer.Exit(1)


def show(findings: Sequence[Finding]) -> None:
    """Print a line a finding; on a terminal it is broken where it must be, elsewhere it is not."""
    width = max(len(finding.subject) for finding in findings)
    table = Table.grid(padding=(0, 1))
    for finding in findings:
        mark, style = MARKS[finding.state]
        words = Text.assemble(finding.found, (f" → {finding.remedy}" if finding.remedy else "", "bold"))
        if console.is_terminal:
            table.add_row(Text(mark, style), Text(finding.subject, no_wrap=True), words)
        else:
            console.print(Text.assemble(f"{mark} {finding.subject.ljust(width)} ", words), soft_wrap=True)
    if table.row_count:
        console.print(table)
    counts = {state: sum(finding.state == state for finding in findings) for state in MARKS}
    summary = f"{counts['well']} well, {counts['bad']} to mend, {counts['unseen']} that cannot be seen from here."
    console.print(Text(summary, "bold"))
