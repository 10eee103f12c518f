"""The words are one another's, and nobody writes them again."""

from __future__ import annotations

import ast
from pathlib import Path

from retina_fm import vocabulary
from retina_fm.vocabulary import EYES, FRAMES_A_VIDEO, FRAMES_OF, LESION_TYPES, PHASES, SPLITS, phase_of

ROOT = Path(__file__).resolve().parent.parent


def test_the_frames_of_the_phases_are_the_frames_of_a_video() -> None:
    video = list(range(FRAMES_A_VIDEO))
    assert [frame for frames in FRAMES_OF.values() for frame in video[frames]] == video
    assert all(frame in video[FRAMES_OF[phase_of(frame)]] for frame in video)


def test_lists_of_these_words_stand_in_the_vocabulary_alone() -> None:
    written = {LESION_TYPES, PHASES, EYES, SPLITS}
    found = []
    for top in ("retina_fm", "adapters", "indexes", "training", "benchmarks"):
        for path in (ROOT / top).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Tuple | ast.List | ast.Set):
                    words = tuple(e.value for e in node.elts if isinstance(e, ast.Constant))
                    if len(words) == len(node.elts) and words in written:
                        found.append(path)
    assert [path for path in found if path != Path(vocabulary.__file__)] == []
