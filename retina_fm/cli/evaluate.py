"""``retina-fm evaluate``: the paper's protocols over data sets, models and baselines."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from retina_fm.cli.checks import check_file
from retina_fm.evaluation.names import PROTOCOLS

EXAMPLES = (
    "retina-fm evaluate probe --labels labels.csv --column grade --images photos/ --out results/",
    "retina-fm evaluate all --data benchmarks/development.toml --root data/ --out results/",
)


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "evaluate",
        help="compare models by the paper's protocols, with a report",
        description="Runs a protocol, or all that a suite asks for, and writes results.json, report.md and "
        "report.html. A killed run continues where it was.",
    )
    parser.add_argument(
        "protocol",
        type=_protocols,
        metavar="PROTOCOL",
        help=f"{', '.join(PROTOCOLS)}; several with commas; all: whatever the suite asks",
    )
    parser.add_argument(
        "--data", "--labels", dest="data", metavar="FILE", required=True,
        help="table with a column path, which names the photos; or a suite (.toml)",
    )  # fmt: skip
    parser.add_argument("--root", help="folder that a suite's paths are relative to (the suite's own)")
    parser.add_argument(
        "--models", default="fundus2video", help="A,B,...: names, folders, NAME=FOLDER, baselines"
    )
    parser.add_argument(
        "--embeddings", nargs="*", default=[], metavar="NAME=TABLE", help="tables that are there"
    )
    parser.add_argument("--out", required=True, help="folder for results and report")
    parser.add_argument("--cache", help="folder of embeddings that several runs share (OUT/cache)")
    parser.add_argument("--size", type=int, help="views of this many pixels instead of the models' own")
    parser.add_argument("--readme", metavar="FILE", help="put the table of results into this README")
    parser.add_argument("--json", action="store_true", help="results on standard output")
    parser.set_defaults(handler=run)
    _add_manifest_arguments(parser.add_argument_group("a manifest's question"))
    _add_settings(parser.add_argument_group("settings (a suite has its own)"))


def _add_manifest_arguments(group: Any) -> None:
    group.add_argument("--column", "--label", dest="label", metavar="NAME", help="of the labels (label)")
    group.add_argument("--positive", help="labels of the second class, A|B")
    group.add_argument("--negative", help="labels of the first class")
    group.add_argument(
        "--images",
        default="",
        metavar="DIR",
        help="folder that the table's paths are relative to (the table's own)",
    )
    group.add_argument("--split", choices=("official", "drawn"), default="drawn", help="use the column split")
    group.add_argument(
        "--unlabelled", choices=("raise", "skip"), default="raise", help="rows without a label"
    )
    group.add_argument("--leaks", choices=("refuse", "allow"), default="refuse", help="repeats across parts")
    group.add_argument(
        "--no-same-eyes", dest="same_eyes", action="store_false",
        help="do not look for other photographs of an eye where the table names no patients",
    )  # fmt: skip


def _add_settings(group: Any) -> None:
    group.add_argument("--seeds", type=int, metavar="N", help="draws, with seeds 0 to N - 1 (5)")
    group.add_argument("--shots", metavar="K,K", help="examples a class, or pictures for vessels")
    group.add_argument(
        "--head", choices=("mlp", "linear", "nearest-mean", "neighbours"), help="mlp is the paper's"
    )
    group.add_argument("--bootstrap", type=int, metavar="N", help="samples of patients (1000)")
    group.add_argument("--permutations", type=int, metavar="N", help="of the paired test (1000)")


def run(arguments: argparse.Namespace) -> int:
    """Evaluate and report."""
    check_file(arguments.data, "--data")
    from retina_fm.cli.main import print_json
    from retina_fm.evaluation.contenders import make_contender
    from retina_fm.evaluation.report.readme import summary, write_readme
    from retina_fm.evaluation.report.tables import text_tables
    from retina_fm.evaluation.running import evaluate

    suite = _suite(arguments)
    models = arguments.models.split(",")
    _refuse_unasked_tables(arguments.embeddings, models)
    contenders = [make_contender(model, arguments.embeddings, arguments.size) for model in models]
    results = evaluate(
        suite,
        contenders,
        arguments.out,
        protocols=arguments.protocol,
        cache=arguments.cache,
        say=_quiet if arguments.json else print,
    )
    if arguments.readme:
        write_readme(arguments.readme, summary(results))
    if arguments.json:
        print_json(results)
    else:
        print("\n".join(text_tables(results)))
    return 0


def _refuse_unasked_tables(tables: Sequence[str], models: Sequence[str]) -> None:
    """Raises ConfigError where a table is of no model that is asked for: it would be left out in silence."""
    from retina_fm.errors import ConfigError

    asked = {part for model in models for part in model.partition("=")[0].split("+")}
    for table in tables:
        name, found, file = table.partition("=")
        if not found or not file:
            raise ConfigError(f"--embeddings {table!r} is not NAME=TABLE.")
        if name not in asked:
            raise ConfigError(
                f"--embeddings has a table of {name!r}, which is not among --models. "
                f"Add it: --models {','.join([*models, name])}"
            )


def _protocols(text: str) -> list[str] | None:
    names = [name.strip() for name in text.split(",")]
    if names == ["all"]:
        return None
    for name in names:
        if name not in PROTOCOLS:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(PROTOCOLS)}, all")
    return names


def _quiet(_: str) -> None:
    """Progress that nobody sees: standard output belongs to the JSON."""


def _suite(arguments: argparse.Namespace) -> Any:
    from retina_fm.evaluation.suite import manifest_suite, read_suite

    if Path(arguments.data).suffix.lower() == ".toml":
        suite = read_suite(arguments.data, arguments.root)
    else:
        wanted = tuple(arguments.protocol or ("few-shot", "supervised"))
        suite = manifest_suite(
            arguments.data,
            wanted,
            images=_images(arguments),
            leaks=arguments.leaks,
            same_eyes=arguments.same_eyes,
            label=arguments.label,
            positive=arguments.positive.split("|") if arguments.positive else None,
            negative=arguments.negative.split("|") if arguments.negative else None,
            split="official" if arguments.split == "official" else None,
            unlabelled=arguments.unlabelled,
        )
    shots = tuple(int(k) for k in arguments.shots.split(",")) if arguments.shots else None
    seeds = tuple(range(arguments.seeds)) if arguments.seeds else None
    changes = {
        "seeds": seeds, "vessel_seeds": seeds, "shots": shots, "vessel_shots": shots, "head": arguments.head,
        "bootstrap": arguments.bootstrap, "permutations": arguments.permutations,
    }  # fmt: skip
    suite.settings = suite.settings.model_copy(update={k: v for k, v in changes.items() if v is not None})
    return suite


def _images(arguments: argparse.Namespace) -> str:
    """The folder of a manifest's photos as its reader wants it: beside the table, or a whole path.

    Raises:
        ConfigError: there is none of that name.
    """
    from retina_fm._io.label_tables import bases_of, read_label_table
    from retina_fm.cli.checks import check_folder

    table = Path(arguments.data)
    beside = table.parent / arguments.images
    rows = read_label_table(table).rows
    first = rows[0].get("path", "") if rows else ""
    bases = bases_of(table, arguments.images)
    found = next((base for base in bases if (base / first).is_file()), None)
    if found is None and arguments.images and not any(base.is_dir() for base in bases):
        check_folder(arguments.images, "--images")
    if found is None or found.resolve() == beside.resolve():
        return str(arguments.images)
    return "images" if not arguments.images else str(found.resolve())
