"""What each model can and cannot learn: a rule of two modalities, and a rule of the turn before."""

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
    labels = cues["text"].roll(1, dims=1)
    labels[:, 0] = -100
    return inputs, labels


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
