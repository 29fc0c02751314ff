"""Voices of the small text to speech: each reads many short sentences, and each set others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from demo_synthetic import Blend, Said
from demo_tree import DemoClip

from focalcodec.data.randomness import stable_seed
from focalcodec.errors import UserError

_A_CHAPTER = 100  # clips


@dataclass(frozen=True)
class TTSCast:
    """Speakers with the names of their voices, and their clips: one sentence each.

    Parameters
    ----------
    names : sequence of str
        Voices of Kokoro-82M.
    clips_per_voice : mapping of str to int
        Of each split.
    most_words : int
        Longer sentences are left out.
    speed : float
        1 is the normal speed of a voice.
    seed : int
        Seed of the choice of sentences.
    """

    names: Sequence[str]
    clips_per_voice: dict[str, int]
    most_words: int = 12
    speed: float = 1.0
    seed: int = 1986

    def speakers(self, voices: Sequence[str]) -> dict[str, Blend]:
        """Voice of each speaker: 3001, 3002, ... in the order of the names."""
        for name in self.names:
            if name not in voices:
                raise UserError(f"names: no voice {name!r}; there are {', '.join(sorted(voices))}")
        return {f"{3001 + k}": ((name, 1.0),) for k, name in enumerate(self.names)}

    def clips(self, voices: Sequence[str], sentences: Sequence[str]) -> list[DemoClip]:
        """Clips of all splits; no sentence is used twice."""
        usable = [text for text in sentences if len(text.split()) <= self.most_words]
        speakers = self.speakers(voices)
        wanted = len(speakers) * sum(self.clips_per_voice.values())
        if len(usable) < wanted:
            raise UserError(
                f"sentences: {len(usable)} of at most {self.most_words} words for {wanted} clips;"
                " lower clips_per_voice"
            )
        order = np.random.default_rng(stable_seed(self.seed, "sentences")).permutation(len(usable))
        left = iter([usable[place] for place in order])
        # A shorter corpus is the beginning of a longer one, so that more clips can be added: the
        # sets to test come first, then the clips of all speakers in turn.
        return [
            DemoClip(
                split, who, chapter(place, number), number, next(left), Said(voice, self.speed)
            )
            for place, (split, count) in enumerate(sorted(self.clips_per_voice.items()))
            for number in range(count)
            for who, voice in speakers.items()
        ]


def chapter(split: int, number: int) -> str:
    """Chapter of a clip, by the places of its split and of the clip: no two splits share one."""
    return f"{100 * split + number // _A_CHAPTER + 1}"
