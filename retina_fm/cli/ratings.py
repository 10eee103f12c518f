"""``retina-fm ratings``: a blinded page to rate generated videos on, and what the raters' files say."""

from __future__ import annotations

import argparse
from typing import Any

EXAMPLES = (
    "retina-fm ratings sheet --pairs pairs.csv --videos ours=fundus2video --out ratings/",
    "retina-fm ratings score ratings-anna.csv ratings-ben.csv --key ratings/key.json",
)


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser("ratings", help="rate generated videos blindly; agreement of raters")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    sheet = actions.add_parser("sheet", help="write a self-contained page and its key")
    sheet.add_argument("--pairs", required=True, help="pairs.csv with photos and real frames")
    sheet.add_argument("--videos", nargs="+", required=True, metavar="NAME=PLACE", help="models, or folders")
    sheet.add_argument("--count", type=int, default=50, help="sequences, drawn (50 as in the paper)")
    sheet.add_argument("--seed", type=int, default=0, help="of the draw and the order")
    sheet.add_argument("--out", required=True, help="folder")
    sheet.set_defaults(handler=run_sheet)
    score = actions.add_parser("score", help="means and weighted kappa from the raters' files")
    score.add_argument("files", nargs="+", help="ratings-NAME.csv, one a rater")
    score.add_argument("--key", required=True, help="key.json of the sheet")
    score.set_defaults(handler=run_score)


def run_sheet(arguments: argparse.Namespace) -> int:
    """Write the page."""
    import numpy as np

    from retina_fm.evaluation.ratings import write_sheet
    from retina_fm.evaluation.video_sources import rated_items, source_of
    from retina_fm.training.pairs.table import read_pairs

    sequences = read_pairs(arguments.pairs)
    order = np.random.Generator(np.random.PCG64(arguments.seed)).permutation(len(sequences))
    chosen = [sequences[i] for i in sorted(order[: arguments.count].tolist())]
    items = rated_items([source_of(text) for text in arguments.videos], chosen)
    page, key = write_sheet(items, arguments.out, seed=arguments.seed)
    print(f"{page}: {len(items)} items to rate\n{key}: what they are; keep it from the raters")
    return 0


def run_score(arguments: argparse.Namespace) -> int:
    """Print what the raters said."""
    from retina_fm.cli.main import print_json
    from retina_fm.evaluation.ratings import assess

    print_json(assess(arguments.files, arguments.key))
    return 0
