"""Made-up conversations with the sizes and class shares of IEMOCAP's, for the accuracy benchmark.

Nothing here is a recording: what is known of such corpora is written down as a rule, so that it is known why a model
gains. Two speakers take turns. Each has a state of valence, arousal and dominance that moves slowly about its mood in
the scene, and that answers the state of the other. Three raters name one of ten emotions by what the state is near to,
with errors: where no two of them agree there is no majority. A turn shows its state in its words, in its voice, or in
both, among much that says nothing. A session's voices are recorded through a channel of their own; sessions and
speakers differ in how much they show, and the raters of sessions in how often they agree.

`SIMPLE` makes a corpus in which all of that is missing but the mood: no speaker answers the other or has a mood of its
own, no session differs, and the next turn says as much of a turn as the last of the dialogue.
"""

from dataclasses import dataclass

import numpy as np

SESSIONS = ("Ses01", "Ses02", "Ses03", "Ses04", "Ses05")
CODES = ("ang", "hap", "exc", "neu", "sad", "fru", "sur", "fea", "dis", "oth")
# IEMOCAP's: all turns, dialogues of each session, and labels of the first five codes in each session.
TURNS = 10_039
DIALOGUES = (28, 30, 32, 30, 31)
COUNTS = np.array(
    [
        (229, 135, 143, 384, 194),
        (137, 117, 210, 362, 197),
        (240, 135, 151, 320, 305),
        (327, 65, 238, 258, 143),
        (170, 143, 299, 384, 245),
    ]
)
# How the other codes share what is left.
OTHERS = (0.9, 0.025, 0.025, 0.025, 0.025)
# What raters take for each emotion (valence, arousal, dominance).
PROTOTYPES = np.array(
    [
        (-0.9, 0.9, 0.8),
        (0.9, 0.1, 0.2),
        (0.9, 0.9, 0.5),
        (0.1, -0.3, 0.2),
        (-0.7, -0.8, -0.7),
        (-0.8, 0.2, 0.0),
        (0.4, 0.8, -0.7),
        (-0.5, 0.8, -0.9),
        (-0.9, 0.0, 0.9),
        (0.2, -0.9, -0.9),
    ]
)
# What a speaker takes over of the other's state: it is drawn along by valence and gives way to dominance.
ANSWER = np.array([(0.8, -0.3, 0.0), (0.3, 0.7, -0.3), (0.0, 0.3, -0.8)])
RATERS = 3
# Of all turns, those on which no two raters agree.
UNAGREED = 0.25
# Deviation of the logarithm of how much a turn puzzles its raters.
PUZZLE = 2.0
WIDTH = 128
# How much of the state each layer of the voice's embedding shows.
LAYERS = (0.3, 1.0, 0.5)


@dataclass(frozen=True)
class Effects:
    """How the conversations are made; states deviate by about 1.

    Attributes:
        mood: how far the mood of a scene lies towards one emotion; 1 is on it.
        apart: deviation of a speaker's mood from the scene's.
        inertia: share of what moved it that a speaker keeps from one of its turns to the next.
        answer: share of what moved the other speaker that a speaker takes over.
        surprise: deviation of what is new in the state of a turn.
        shown: chances that a turn shows its state in its words alone, in its voice alone, in both.
        hidden: how much of the state is seen where it is not shown.
        words, voice: deviation of the noise upon what an embedding shows.
        clutter: deviation of what an embedding has beside that, in most of its directions.
        topic: deviation of the words of a dialogue.
        channel: deviation of the voices of a session; those of its speakers differ half as much.
        level: deviation of the logarithm of how much the sessions show; that of the speakers is half as much.
        raters: deviation of the logarithm of how much the raters of a session are puzzled.
    """

    mood: float = 1.3
    apart: float = 0.4
    inertia: float = 0.75
    answer: float = 0.2
    surprise: float = 0.23
    shown: tuple[float, float, float] = (0.35, 0.3, 0.35)
    hidden: float = 0.15
    words: float = 1.5
    voice: float = 1.5
    clutter: float = 0.15
    topic: float = 0.1
    channel: float = 0.08
    level: float = 0.2
    raters: float = 0.9


LIKE_IEMOCAP = Effects()
SIMPLE = Effects(apart=0, inertia=0, answer=0, surprise=0.4, channel=0, level=0, raters=0)


@dataclass(frozen=True)
class Conversations:
    """All N turns of a made-up corpus, one after another.

    Attributes:
        session, dialogue: the number of each turn's, (N,).
        speaker: 0 or 1 in the session, (N,).
        states: valence, arousal and dominance that are felt, (N, 3).
        votes: of the raters for each code, (N, 10).
        ratings: mean valence, arousal and dominance by the raters, from 1 to 5, (N, 3).
        text: embeddings, (N, 1, 128).
        audio: embeddings, (N, 3, 128).
    """

    session: np.ndarray
    dialogue: np.ndarray
    speaker: np.ndarray
    states: np.ndarray
    votes: np.ndarray
    ratings: np.ndarray
    text: np.ndarray
    audio: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """The number of the code that most raters named, (N,); -1 where no two agree."""
        return np.where(self.votes.max(1) >= 2, self.votes.argmax(1), -1)


def converse(effects: Effects, *, seed: int = 0) -> Conversations:
    """Make a corpus; the same seed gives the same numbers."""
    rng = np.random.default_rng(seed)
    lengths = _lengths(rng)
    dialogue = np.repeat(np.arange(len(lengths)), lengths)
    session = np.repeat(np.arange(len(SESSIONS)), DIALOGUES)[dialogue]
    speakers = [_speakers(length, rng) for length in lengths]
    moods = _moods(effects, rng)
    states = np.concatenate([_states(who, mood, effects, rng) for who, mood in zip(speakers, moods, strict=True)])
    votes = _votes(states, session, effects, rng)
    ratings = np.clip(3 + states + rng.normal(0, 0.7 / RATERS**0.5, states.shape), 1, 5)
    speaker = np.concatenate(speakers)
    text, audio = _embed(states, session, 2 * session + speaker, dialogue, effects, rng)
    return Conversations(session, dialogue, speaker, states, votes, ratings, text, audio)


def _lengths(rng: np.random.Generator) -> np.ndarray:
    """Turns of each dialogue, from about 24 to 110, which add up to the corpus's."""
    shares = np.clip(rng.gamma(8.0, size=sum(DIALOGUES)) / 8.0, 0.37, 1.65)
    lengths = np.floor(shares * TURNS / shares.sum()).astype(int)
    lengths[: TURNS - lengths.sum()] += 1
    return np.asarray(lengths)


def _speakers(length: int, rng: np.random.Generator) -> np.ndarray:
    """Who speaks, 0 or 1: after four turns of five it is the other."""
    return np.cumsum(rng.random(length) < 0.8) % 2


def _shares() -> np.ndarray:
    """The share of each code among the labels of each session, (S, 10)."""
    labels = np.array(DIALOGUES) / sum(DIALOGUES) * TURNS * (1 - UNAGREED)
    first = COUNTS / labels[:, None]
    return np.concatenate([first, (1 - first.sum(1, keepdims=True)) * OTHERS], axis=1)


def _moods(effects: Effects, rng: np.random.Generator) -> np.ndarray:
    """The moods of both speakers of each dialogue, (D, 2, 3): about the emotions, as often as the session has them."""
    codes = [rng.choice(len(CODES), size=count, p=share) for count, share in zip(DIALOGUES, _shares(), strict=True)]
    scenes = effects.mood * (PROTOTYPES[np.concatenate(codes)] + rng.normal(0, 0.3, (sum(DIALOGUES), 3)))
    return np.asarray(scenes[:, None] + rng.normal(0, effects.apart, (sum(DIALOGUES), 2, 3)))


def _states(speakers: np.ndarray, moods: np.ndarray, effects: Effects, rng: np.random.Generator) -> np.ndarray:
    """The state in each turn of a dialogue, (L, 3)."""
    moved = rng.normal(0, effects.surprise, (2, 3))
    states = np.empty((len(speakers), 3))
    for turn, speaker in enumerate(speakers):
        kept = effects.inertia * moved[speaker] + effects.answer * moved[1 - speaker] @ ANSWER
        moved[speaker] = kept + rng.normal(0, effects.surprise, 3)
        states[turn] = moods[speaker] + moved[speaker]
    return states


def _votes(states: np.ndarray, session: np.ndarray, effects: Effects, rng: np.random.Generator) -> np.ndarray:
    """Let raters name emotions, so often and so unlike each other that the corpus has its shares, (N, 10)."""
    near = -((states[:, None] - PROTOTYPES) ** 2).sum(-1)
    puzzles = rng.normal(0, PUZZLE, len(states)) + rng.normal(0, effects.raters, len(SESSIONS))[session]
    doubts = rng.gumbel(size=(RATERS, len(states), len(CODES))) * np.exp(puzzles)[:, None]
    wanted = np.average(_shares(), axis=0, weights=DIALOGUES) * (1 - UNAGREED)
    bias, doubt = np.zeros(len(CODES)), 0.3
    for _ in range(80):
        votes = _named(near + bias + doubt * doubts)
        bias += 0.3 * np.log(wanted / np.maximum((votes >= 2).mean(0), 1e-4))
        doubt *= np.exp(UNAGREED - (votes.max(1) < 2).mean())
    return votes


def _named(scores: np.ndarray) -> np.ndarray:
    """Count the raters who name each code, (R, N, 10) -> (N, 10)."""
    return np.asarray((scores.argmax(-1)[..., None] == np.arange(len(CODES))).sum(0))


def _embed(
    states: np.ndarray,
    session: np.ndarray,
    voice: np.ndarray,
    dialogue: np.ndarray,
    effects: Effects,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Show the states in words and in voices: text (N, 1, 128) and audio (N, 3, 128)."""
    signs = _signs(states)
    shown = rng.choice(3, size=len(states), p=effects.shown)
    in_words, in_voice = (np.where(shown == other, effects.hidden, 1.0) for other in (1, 0))
    in_words, in_voice = (
        seen * np.exp(_offsets(effects.level, 1, session, voice, rng)[:, 0]) for seen in (in_words, in_voice)
    )
    topics = rng.normal(0, effects.topic, (dialogue.max() + 1, WIDTH))[dialogue]
    text = _mixed(in_words[:, None] * signs, effects.words, effects.clutter, rng) + topics
    channel = _offsets(effects.channel, WIDTH, session, voice, rng)
    audio = [
        _mixed(share * in_voice[:, None] * signs, effects.voice, effects.clutter, rng) + channel for share in LAYERS
    ]
    return text[:, None].astype(np.float32), np.stack(audio, axis=1).astype(np.float32)


def _offsets(spread: float, width: int, session: np.ndarray, voice: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What the turns of a session have in common, and half as much those of a voice, (N, width)."""
    of_sessions = rng.normal(0, spread, (len(SESSIONS), width))
    of_voices = rng.normal(0, spread / 2, (2 * len(SESSIONS), width))
    return of_sessions[session] + of_voices[voice]


def _signs(states: np.ndarray) -> np.ndarray:
    """What a state looks like: itself, and how near it is to each emotion, (N, 13), each of deviation 1."""
    near = np.exp(-((states[:, None] - PROTOTYPES) ** 2).sum(-1))
    signs = np.concatenate([states, near], axis=1)
    return np.asarray((signs - signs.mean(0)) / signs.std(0))


def _mixed(signs: np.ndarray, noise: float, clutter: float, rng: np.random.Generator) -> np.ndarray:
    """Lay noisy signs among directions that say nothing, and turn them all: (N, 13) -> (N, 128)."""
    values = clutter * rng.standard_normal((len(signs), WIDTH))
    values[:, : signs.shape[1]] = signs + noise * rng.standard_normal(signs.shape)
    turned, _ = np.linalg.qr(rng.standard_normal((WIDTH, WIDTH)))
    return np.asarray(values @ turned)
