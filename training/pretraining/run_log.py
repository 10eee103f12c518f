"""What a run says: a line that a person can read, one JSON object a line, and TensorBoard if it is there."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from retina_fm.errors import OutputError

logger = logging.getLogger("retina_fm.training")

_SHORT = {
    "reconstruction": "rec",
    "correlation": "corr",
    "lesions": "les",
    "vessels": "ves",
    "adversarial": "gan",
    "feature_matching": "fm",
    "patch_nce": "nce",
    "patch_identity": "idt",
    "attention": "att",
    "gradient_variance": "gv",
    "perceptual": "vgg",
    "discriminator": "d",
}


def spoken(minutes: float) -> str:
    """A length of time for people: ``40 s``, ``12 min``, ``3 h 05 min``."""
    if minutes < 1:
        return f"{60 * minutes:.0f} s"
    if minutes < 60:
        return f"{minutes:.0f} min"
    hours, rest = divmod(round(minutes), 60)
    return f"{hours} h {rest:02d} min"


class RunLog:
    """Writes ``log.txt``, ``metrics.jsonl`` and, with TensorBoard installed, ``tensorboard/``.

    Args:
        run: the run's folder.
        quiet: write nothing: processes other than the first.
        tensorboard: whether to try TensorBoard.
    """

    def __init__(self, run: Path, *, quiet: bool = False, tensorboard: bool = True) -> None:
        self.run, self.quiet = run, quiet
        self._board: Any = None
        if quiet:
            return
        with self._writing():
            run.mkdir(parents=True, exist_ok=True)
            if tensorboard:
                self._open_board()

    def _open_board(self) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self.say("TensorBoard is not installed: scalars go to metrics.jsonl alone.")
        else:
            self._board = SummaryWriter(str(self.run / "tensorboard"))  # type: ignore[no-untyped-call, unused-ignore]

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(
                f"The log of {self.run} cannot be written ({error}). Its checkpoints are intact: make room "
                "and continue with --resume."
            ) from error

    def say(self, text: str) -> None:
        """One line for people."""
        if self.quiet:
            return
        logger.info(text)
        with self._writing(), (self.run / "log.txt").open("a", encoding="utf-8") as stream:
            stream.write(text + "\n")

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Scalars of a step."""
        if self.quiet:
            return
        with self._writing():
            with (self.run / "metrics.jsonl").open("a", encoding="utf-8") as stream:
                stream.write(json.dumps({"step": step, **values}) + "\n")
            if self._board is not None:
                for name, value in values.items():
                    if isinstance(value, int | float):
                        self._board.add_scalar(name, value, step)

    def picture(self, step: int, name: str, path: Path) -> None:
        """A sheet that was written to ``path``, for TensorBoard."""
        if self.quiet or self._board is None:
            return
        import numpy as np
        from PIL import Image

        with self._writing():
            self._board.add_image(name, np.asarray(Image.open(path).convert("RGB")), step, dataformats="HWC")

    def close(self) -> None:
        """Flush and close."""
        if self._board is not None:
            with self._writing():
                self._board.close()


def progress_line(
    step: int, steps: int | None, share: float, values: dict[str, float], minutes: float, left: float | None
) -> str:
    """The line of a step: where the run is, its losses, its speed, and when it will be done."""
    terms = " ".join(f"{_SHORT[name]} {values[name]:.3g}" for name in _SHORT if name in values)
    of = f"/{steps}" if steps else ""
    rest = f", {spoken(left)} left" if left is not None else ""
    return (
        f"step {step}{of} ({100 * share:.0f} %)  loss {values['loss']:.3g} ({terms})  "
        f"rate {values['rate']:.2g}  {values['samples_per_second']:.2g} samples/s  "
        f"waited {100 * values['waiting']:.0f} %  {spoken(minutes)}{rest}"
    )
