"""The demo's language: words by what they tell about the speaker's feeling, and sentences made of them."""

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_LEXICON = tomllib.loads((Path(__file__).parent / "lexicon.toml").read_text(encoding="utf-8"))
_IMPRESSIONS = _LEXICON.pop("impressions")
_TOPICS, _PEOPLE = _LEXICON["topics"].split(), _LEXICON["people"].split()
_STATES = {feeling: words.split() for feeling, words in _LEXICON["states"].items()}
_VERDICTS = {feeling: words.split() for feeling, words in _LEXICON["verdicts"].items()}
_SCENES = {feeling: text.replace("\n", " ").split(", ") for feeling, text in _LEXICON["scenes"].items()}
_OPENINGS = ("", "", "", "well ", "yes ", "so ", "now ", "look ", "oh ", "right ")
_TURNS = (
    "i am {state} about the {topic}",
    "we are {state} about that {topic}",
    "i am {state} about my {topic} today",
    "the {topic} is {verdict} and i am {state}",
    "that {topic} is {verdict} i am {state}",
    "i was {state} about your {topic}",
)
_STORIES = (
    "{turn} and {who} {scene}",
    "{who} was {state} about the {topic} and {scene} and {scene2}",
    "{who} {scene} because the {topic} was {verdict} and {verdict2}",
    "{who} was {state} and {state2} and {scene}",
    "{turn} and {state2} so {who} {scene} and {scene2}",
    "the {topic} was {verdict} and {verdict2} so {who} was {state} and {scene}",
    "{who} was {state} and {state2} because the {topic} was {verdict}",
)

FEELINGS = tuple(_STATES)
LABELS = tuple(feeling for feeling in FEELINGS if feeling != "plain")


def turn(feeling: str, rng: np.random.Generator, share: tuple[int, int] = (0, 1)) -> str:
    """Return what a speaker says; `share` (i, n) takes the words from the i-th of n equal parts."""
    form = str(rng.choice(_OPENINGS)) + str(rng.choice(_TURNS))
    return form.format(
        state=rng.choice(_part(_STATES[feeling], share)),
        verdict=rng.choice(_part(_VERDICTS[feeling], share)),
        topic=rng.choice(_TOPICS),
    )


def impression(feeling: str) -> npt.NDArray[np.float64]:
    """Return the valence, arousal and dominance that words of a feeling tell, from -1 to 1."""
    return np.array(_IMPRESSIONS[feeling])


def story(rng: np.random.Generator) -> str:
    """Return a sentence in which a feeling's words come with what goes with it."""
    feeling = str(rng.choice(FEELINGS))
    states = rng.choice(_STATES[feeling], 2, replace=False)
    verdicts = rng.choice(_VERDICTS[feeling], 2, replace=False)
    scenes = rng.choice(_SCENES[feeling], 2, replace=False)
    return str(rng.choice(_STORIES)).format(
        turn=turn(feeling, rng),
        who=rng.choice(_PEOPLE),
        topic=rng.choice(_TOPICS),
        state=states[0],
        state2=states[1],
        verdict=verdicts[0],
        verdict2=verdicts[1],
        scene=scenes[0],
        scene2=scenes[1],
    )


def babble(rng: np.random.Generator) -> str:
    """Return five to nine of the language's words in an order without sense."""
    return " ".join(rng.choice(sorted(_words(_LEXICON)), rng.integers(5, 10)))


def _part(words: list[str], share: tuple[int, int]) -> list[str]:
    index, parts = share
    return words[index::parts]


def _words(entry: dict[str, Any] | str) -> set[str]:
    """Return every word under an entry of the lexicon."""
    if isinstance(entry, dict):
        return set().union(*map(_words, entry.values()))
    return set(entry.replace(",", " ").split())
