"""What each model can and cannot learn: rules of two modalities, of turns before, and of who else has spoken so."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lpgnet.model import build_model

SIZES = {"text": [1, 4], "audio": [2, 4]}


def dialogues(seed: int, rule: str) -> tuple[dict[str, Tensor], Tensor]:
    """32 dialogues of 8 turns with a random cue in each modality; labels (B, L) follow from the cues by the rule."""
    generator = torch.Generator().manual_seed(seed)
    cues = {m: torch.randint(0, 2, (32, 8), generator=generator) for m in SIZES}
    inputs = {m: 0.3 * torch.randn(32, 8, *size, generator=generator) for m, size in SIZES.items()}
    for m in SIZES:
        inputs[m][..., 0] += 2.0 * cues[m][..., None] - 1.0
    if rule == "xor":
        return inputs, cues["text"] ^ cues["audio"]
    before = {"previous": 1, "two before": 2}[rule]
    labels = cues["text"].roll(before, dims=1)
    labels[:, :before] = -100
    return inputs, labels


@dataclass(frozen=True)
class Voices:
    """32 dialogues of 12 turns of two voices in random order, where each voice has one label throughout.

    A turn's cue alone tells its label in 89 of 100 cases; more is known to who knows which other turns are its voice's.
    """

    inputs: dict[str, Tensor]
    labels: Tensor
    speakers: Tensor

    @classmethod
    def draw(cls, seed: int) -> "Voices":
        generator = torch.Generator().manual_seed(seed)
        speakers = torch.randint(0, 2, (32, 12), generator=generator)
        labels = torch.randint(0, 2, (32, 2), generator=generator).gather(1, speakers)
        inputs = {m: torch.randn(32, 12, *size, generator=generator) for m, size in SIZES.items()}
        for m in SIZES:
            inputs[m][..., 0] = (inputs[m][..., 0].mean(-1) + 1.4 * labels - 0.7)[..., None]
        return cls(inputs, labels, speakers)


def accuracy_on_voices(**fields: Any) -> tuple[float, float]:
    """On dialogues that it did not learn from: with the speakers, and without."""
    torch.manual_seed(0)
    model = build_model("lpgnet", input_sizes=SIZES, num_labels=2, dropout=0.1, hidden_size=16, **fields)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    everywhere = torch.ones(32, 12, dtype=torch.bool)
    masks = dict.fromkeys(SIZES, everywhere)
    for step in range(100):
        seen = Voices.draw(step)
        model.train()(seen.inputs, masks, everywhere, seen.labels, seen.speakers).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    new = [Voices.draw(1000 + number) for number in range(8)]
    with torch.no_grad():
        found = [
            [model.eval()(x.inputs, masks, everywhere, speakers=who).logits.argmax(-1) for x in new for who in told(x)]
            for told in (lambda x: [x.speakers], lambda x: [None])
        ]
    labels = torch.stack([x.labels for x in new])
    with_speakers, without = ((torch.stack(each) == labels).float().mean().item() for each in found)
    return with_speakers, without


def held_out_accuracy(model_type: str, rule: str, **fields: Any) -> float:
    torch.manual_seed(0)
    model = build_model(model_type, input_sizes=SIZES, num_labels=2, dropout=0.1, **fields)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    everywhere = torch.ones(32, 8, dtype=torch.bool)
    masks = dict.fromkeys(SIZES, everywhere)
    for step in range(60):
        inputs, labels = dialogues(step % 8, rule)
        model.train()(inputs, masks, everywhere, labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    inputs, labels = dialogues(99, rule)
    with torch.no_grad():
        found = model.eval()(inputs, masks, everywhere).logits.argmax(-1)
    return (found == labels)[labels >= 0].float().mean().item()


def test_lpgnet_learns_the_xor_of_two_modalities() -> None:
    small = {"hidden_size": 32}
    assert held_out_accuracy("lpgnet", "xor", **small) > 0.9
    assert held_out_accuracy("lpgnet", "xor", modalities=["text"], **small) < 0.65
    assert held_out_accuracy("concat", "xor") < 0.65


def test_contextual_models_learn_the_turn_before() -> None:
    assert held_out_accuracy("lpgnet", "previous", hidden_size=32) > 0.9
    assert held_out_accuracy("lpgnet", "previous", hidden_size=32, causal=True) > 0.9
    assert held_out_accuracy("concat", "previous") < 0.65


def test_a_second_local_layer_learns_what_lies_beyond_the_first() -> None:
    assert held_out_accuracy("lpgnet", "two before", hidden_size=32) < 0.87
    assert held_out_accuracy("lpgnet", "two before", hidden_size=32, local_layers=2) > 0.9
    assert held_out_accuracy("lpgnet", "two before", hidden_size=32, local_layers=2, causal=True) > 0.9


def test_voices_help_and_a_model_that_learned_with_them_does_without() -> None:
    plain, same = accuracy_on_voices()
    assert plain == same
    for field in ("voice_neighbours", "speaker_turn_bias"):
        told, not_told = accuracy_on_voices(**{field: True})
        assert told > plain + 0.03 and not_told > plain - 0.07
