"""``retina-fm serve``: a model, an index and an adapter behind HTTP."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from retina_fm.cli.checks import check_index, check_model

EXAMPLES = (
    "retina-fm serve --index photos/",
    "retina-fm serve --model fundus2video-half --adapter grading/ --host 0.0.0.0 --token-file token.txt",
)
_LIMITS: dict[str, tuple[float, str]] = {  # what Limits says, which takes too long to load for --help
    "body_bytes": (33_554_432, "bytes of a photo as it is sent"),
    "pixels": (40_000_000, "pixels of a photo, looked at before it is decoded"),
    "body_seconds": (30.0, "seconds in which a photo has to arrive"),
    "answer_seconds": (60.0, "seconds from the photo to the answer"),
    "in_flight": (128, "photos in the server at once"),
    "in_flight_bytes": (536_870_912, "bytes of all photos in the server"),
    "connections": (512, "open connections"),
    "neighbours": (100, "pictures that one search may ask for"),
}


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "serve",
        help="a model behind HTTP: encode, search, segment, measure, and a page",
        description="Serve on this machine alone, until interrupted. Other machines are served with --host "
        "and a token, which is read from the environment (RETINA_FM_TOKEN) or from --token-file.",
    )
    parser.add_argument("--index", help="folder of an index, or of the photos that it lies in, to search")
    parser.add_argument("--adapter", help="folder of an adapter, to predict")
    parser.add_argument("--model", help="encoder (fundus2video-half); with --index, where its model lies now")
    parser.add_argument("--host", default="127.0.0.1", help="address to bind to (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="port; 0 takes a free one (8000)")
    parser.add_argument("--token-file", metavar="FILE", help="text file that holds the token")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps (the first GPU if there is one)")
    parser.add_argument("--dtype", default="auto", help="auto, float32 or bfloat16")
    parser.add_argument("--batch-size", type=int, help="photos a forward pass (chosen for the device)")
    parser.add_argument("--workers", type=int, help="decoding processes (chosen for the device)")
    parser.add_argument(
        "--allow-unreliable", action="store_true", help="maps too whose stated reliability is not enough"
    )
    parser.add_argument(
        "--stop-seconds", type=int, default=30, help="for answers under way when it is told to stop (30)"
    )
    for name, (default, says) in _LIMITS.items():
        option = f"--max-{name.replace('_', '-')}"
        parser.add_argument(
            option, dest=name, type=type(default), default=default, metavar="N", help=f"{says} (%(default)s)"
        )
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Serve, and say where."""
    from retina_fm.serving.limits import Limits
    from retina_fm.serving.tokens import read_token, refuse_open_door

    token = read_token(arguments.token_file)
    refuse_open_door(arguments.host, token)
    if arguments.index is not None:
        check_index(arguments.index)
    check_model(arguments.model)
    limits = Limits(**{name: getattr(arguments, name) for name in _LIMITS})

    from retina_fm.serving.running import serve

    serve(
        arguments.model,
        index=arguments.index,
        adapter=arguments.adapter,
        host=arguments.host,
        port=arguments.port,
        token=token,
        limits=limits,
        workers=arguments.workers,
        device=arguments.device,
        dtype=arguments.dtype,
        batch_size=arguments.batch_size,
        allow_unreliable=arguments.allow_unreliable,
        stop_seconds=arguments.stop_seconds,
        on_start=lambda address: print(f"{address} (end with Ctrl-C)", file=sys.stderr, flush=True),
    )
    return 0
