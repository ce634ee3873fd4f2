"""Draw docs/model.svg, the network with the shape at every arrow: `python docs/draw_model.py`."""

from pathlib import Path

WIDTH, HEIGHT = 900, 990
TARGET = Path(__file__).with_name("model.svg")
TEXT, AUDIO, MIDDLE = 240, 660, 450
# The four paths, query <- source: those of one query stand side by side.
PATHS = {"text ← text": 130, "text ← audio": 345, "audio ← text": 555, "audio ← audio": 770}
HEAD = f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="Helvetica, Arial, sans-serif" font-size="14" role="img" aria-label="LPGNet: from text and audio embeddings to the emotion of every utterance, in eight steps">
  <style>
    .box {{ fill: #f4f6fb; stroke: #34507a; stroke-width: 1.5 }}
    .data {{ fill: #fff8e6; stroke: #a6771c; stroke-width: 1.5 }}
    .loss {{ fill: #fbf1f1; stroke: #8c3b3b; stroke-width: 1.5 }}
    .name {{ font-weight: bold; fill: #1d2f4a }}
    .what {{ font-size: 12.5px; fill: #333 }}
    .shape {{ font-size: 12.5px; fill: #555; font-style: italic }}
    .arrow {{ stroke: #555; stroke-width: 1.6; fill: none; marker-end: url(#head) }}
    .dashed {{ stroke-dasharray: 5 4 }}
  </style>
  <defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto"><path d="M0,0 L10,5 L0,10 z" fill="#555"/></marker></defs>
  <rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>"""  # noqa: E501


def box(x: int, y: int, width: int, name: str, *lines: str, kind: str = "box") -> str:
    """A box centered at x with its top at y: a name in bold and lines below it."""
    height = 30 + 18 * len(lines)
    parts = [
        f'<rect class="{kind}" x="{x - width // 2}" y="{y}" width="{width}" height="{height}" rx="8"/>',
        text(x, y + 20, name, "name"),
        *(text(x, y + 20 + 18 * (number + 1), line, "what") for number, line in enumerate(lines)),
    ]
    return "\n  ".join(parts)


def text(x: int, y: int, words: str, kind: str, anchor: str = "middle") -> str:
    """Words at a place."""
    return f'<text class="{kind}" x="{x}" y="{y}" text-anchor="{anchor}">{words}</text>'


def arrow(start: tuple[int, int], end: tuple[int, int], *, dashed: bool = False) -> str:
    """A straight arrow."""
    kind = "arrow dashed" if dashed else "arrow"
    return f'<path class="{kind}" d="M{start[0]},{start[1]} L{end[0]},{end[1]}"/>'


def encoding() -> list[str]:
    """The inputs, steps 0 and 1."""
    parts = []
    for x, name, m in ((TEXT, "text", "t"), (AUDIO, "audio", "a")):
        shape_x = x + 10
        parts += [
            box(x, 15, 240, f"{name} embeddings", "cached, of every utterance", kind="data"),
            arrow((x, 63), (x, 97)),
            text(shape_x, 84, f"(B, L, K, D) of {name}", "shape", "start"),
            box(x, 97, 240, "0  standardize, mix layers", "U = Σ softmax(w) · (x − mean) / std"),
            arrow((x, 145), (x, 179)),
            text(shape_x, 166, f"U{sub(m)}  (B, L, D)", "shape", "start"),
            box(x, 179, 240, "1  local encoding", "X = dropout(conv over turns)"),
        ]
    return parts


def attention() -> list[str]:
    """Steps 2 to 5: four columns."""
    parts = [
        *(text(x, 262, "X  (B, L, d)", "shape") for x in (90, WIDTH - 90)),
        text(MIDDLE, 200, "solid: queries, residual", "what"),
        text(MIDDLE, 218, "dashed: keys, values", "what"),
    ]
    for name, x in PATHS.items():
        query, source = ({"text": TEXT, "audio": AUDIO}[side] for side in name.split(" ← "))
        parts += [
            arrow((query + (x - query) // 5, 227), (x - 12, 295)),
            arrow((source + (x - source) // 5, 227), (x + 12, 295), dashed=True),
            box(x, 295, 180, f"2  {name}", "h heads of attention", "3  no key is padding", "or a missing utterance"),
            arrow((x, 379), (x, 411)),
            box(x, 411, 180, "4  enhancement", "Z = X + norm(context)", "H = Z + FFN(norm(Z))"),
            arrow((x, 477), (x, 509)),
            box(x, 509, 180, "5  gate 1", "G = sigmoid(W H) · H"),
            arrow((x, 557), ({"text": TEXT, "audio": AUDIO}[name.split(" ← ")[0]] + (x - query) // 5, 600)),
        ]
    labels = ((399, "context"), (497, "H"))
    return parts + [text(MIDDLE, y, f"{what}  (4, B, L, d)", "shape") for y, what in labels]


def fusion() -> list[str]:
    """The rest of step 5, steps 6 and 7."""
    parts = [text(MIDDLE, 582, "G  (4, B, L, d)", "shape")]
    for x, m in ((TEXT, "t"), (AUDIO, "a")):
        parts += [
            box(x, 600, 200, f"5  H{sub(m)}", "linear of its two paths"),
            arrow((x + (40 if m == "t" else -40), 648), (MIDDLE + (-60 if m == "t" else 60), 690)),
            arrow((x - (80 if m == "t" else -80), 648), (x - (80 if m == "t" else -80), 800)),
            box(x - (110 if m == "t" else -110), 800, 180, f"7  branch head z{sub(m)}", "for training"),
        ]
    return [
        *parts,
        text(MIDDLE, 640, "H  (2, B, L, d)", "shape"),
        box(MIDDLE, 690, 260, "6  gate 2", "H = Σ α · H, per dimension", "α = softmax over {text, audio} of W H"),
        arrow((MIDDLE, 756), (MIDDLE, 800)),
        text(MIDDLE + 10, 783, "H  (B, L, d)", "shape", "start"),
        box(MIDDLE, 800, 200, "7  fused head z", "the prediction"),
    ]


def loss() -> list[str]:
    """Step 8."""
    ends = ((TEXT - 110, 848), (MIDDLE, 848), (AUDIO + 110, 848))
    return [
        *(arrow(end, (end[0], 892)) for end in ends),
        *(text(end[0] + 10, 875, "(B, L, C)", "shape", "start") for end in ends),
        box(
            MIDDLE,
            892,
            860,
            "8  self-distillation loss, in training alone",
            "g₁ CE(y, z)  +  g₂ Σ CE(y, z of a branch)  +  g₃ T² Σ KL(p of z, detached ‖ p of a branch)",
            kind="loss",
        ),
        text(MIDDLE, 975, "B dialogues of up to L utterances, K layers of width D, width d, C classes", "what"),
    ]


def sub(letter: str) -> str:
    """A subscript."""
    return f'<tspan dy="4" font-size="10">{letter}</tspan><tspan dy="-4">\u200b</tspan>'


def draw() -> str:
    """The whole drawing as SVG."""
    parts = [*encoding(), *attention(), *fusion(), *loss()]
    return "\n".join([HEAD, *(f"  {part}" for part in parts), "</svg>", ""])


if __name__ == "__main__":
    TARGET.write_text(draw(), encoding="utf-8")
