"""The `atelier` command: its names, in one table; what each does is in `flows/commands.py`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from itertools import takewhile

import typer

from components import stage
from flows import commands, environment

HELP = "The open stack for making generative-AI applications from end to end."
GROUPS = {
    "data": "What you train on, seen before it is trained on; what other systems know, brought in.",
    "pipeline": "Data and models, brought up to date.",
    "model": "Any model, before it is used.",
    "train": "Search for better settings.",
    "release": "Models that users get, tried beside the champion and taken back.",
    "experiment": "Experiments: in force within about a second, without a restart.",
    "label": "Have people label, in Label Studio or in a file.",
    "learn": "Train on what users and annotators taught.",
    "report": "Look at what happened.",
}
COMMANDS: dict[str, Callable[..., None]] = {
    "up": commands.up,
    "down": commands.down,
    "status": commands.status,
    "demo": commands.demo,
    "params": commands.params,
    "data doctor": commands.data_doctor,
    "data import": commands.data_import,
    "pipeline run": commands.pipeline_run,
    "model show": commands.model_show,
    "train tune": commands.train_tune,
    "release start": commands.release_start,
    "release rollback": commands.release_rollback,
    "release history": commands.release_history,
    "experiment apply": commands.experiment_apply,
    "experiment list": commands.experiment_list,
    "experiment history": commands.experiment_history,
    "experiment end": commands.experiment_end,
    "experiment rank": commands.experiment_rank,
    "label start": commands.label_start,
    "label upload": commands.label_upload,
    "label gold": commands.label_gold,
    "label quality": commands.label_quality,
    "label phrases": commands.label_phrases,
    "learn run": commands.learn_run,
    "report write": commands.report_write,
    "report ops": commands.report_ops,
    "report recheck": commands.report_recheck,
    "report why": commands.report_why,
}
# What make, supervisor and schedules call.
HIDDEN: dict[str, Callable[..., None]] = {
    "proof": commands.proof,
    "serve": commands.serve,
    "release step": commands.release_step,
    "label reconcile": commands.label_reconcile,
    "learn adapt": commands.learn_adapt,
}
# Names of the version before, which answer with the new one for this version alone.
RENAMED = {
    "run": "pipeline run",
    "tune": "train tune",
    "release": "release start",
    "canary": "release step",
    "rollback": "release rollback",
    "history": "release history",
    "annotate": "label",
    "labels": "label phrases",
    "learn": "learn run",
    "adapt": "learn adapt",
    "monitor": "report write",
    "ops": "report ops",
    "why": "report why",
}


def refuse_old_name(arguments: Sequence[str]) -> None:
    """End with exit code 2 and the new name where a renamed command is called; a group of the same name is not."""
    names = list(takewhile(lambda argument: not argument.startswith("-"), arguments))
    old = names[0] if names else ""
    asks_group = old in GROUPS and (len(names) > 1 or "--help" in arguments)
    if old in RENAMED and not asks_group:
        print(f"error: atelier {old} is now: atelier {RENAMED[old]}", file=sys.stderr)
        raise SystemExit(2)


def build() -> typer.Typer:
    """The command line of the tables above."""
    root = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=HELP)
    groups = {name: typer.Typer(no_args_is_help=True, help=text) for name, text in GROUPS.items()}
    for names, function in (COMMANDS | HIDDEN).items():
        group, _, name = names.rpartition(" ")
        (groups[group] if group else root).command(name, hidden=names in HIDDEN)(function)
    for name, group_app in groups.items():
        root.add_typer(group_app, name=name)
    return root


app = build()


def main() -> None:
    """Entry point: expected errors end as one line and exit code 1."""
    refuse_old_name(sys.argv[1:])
    environment.apply()
    os.chdir(environment.ROOT)
    stage.guard(app)


if __name__ == "__main__":
    main()
