"""Draw architecture.svg: the rooms of the package, floor by floor, and the journey of an image.

Run it from the root of the checkout: ``python docs/images/architecture.py``. The floors are the
layers of the import contract in pyproject.toml, so the figure cannot differ from what is enforced.
"""

import tomllib
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[2]

ABOUT = {
    "cli": "commands, messages, progress bars, exit codes",
    "models": "networks for scripts",
    "evaluate": "metrics of pairs",
    "check": "checks of the data",
    "resolution": "what two halves share",
    "demo": "simulated data sets",
    "bench": "speed and memory",
    "doctor": "machine, kernels",
    "foreign": "imported networks",
    "train": "losses, optimiser, loop, resuming, processes",
    "predict": "whole images or strips, jobs, resuming",
    "report": "tables, curves, previews",
    "measure": "PSNR, SSIM, confusion matrix",
    "nn": "modules, layers from YAML",
    "data": "files, images, samples, results",
    "runs": "run directory, checkpoint",
    "ops": "kernels on CPU and GPU, strips",
    "config": "YAML, schema, errors with lines",
}
"""A room and what is in it. Small modules without an explanation share a box."""

TRAINING = [
    ("data", "specifier, file, image,\nsample, batch"),
    ("nn", "scaling, stem,\nMSD block, head"),
    ("ops", "C++, CUDA\nor PyTorch"),
    ("train", "loss, gradient,\nupdate"),
    ("runs", "checkpoint:\nbest.pt, last.pt"),
]
PREDICTION = [
    ("data", "specifier, file,\nimage"),
    ("predict", "whole image,\nor in strips"),
    ("nn", "scaling, stem,\nMSD block, head"),
    ("ops", "C++, CUDA\nor PyTorch"),
    ("data", "result file,\nwritten whole"),
]

WIDTH, MARGIN, GAP = 1000, 20, 10
FLOOR, STEP = 54, 70  # height of a floor's boxes; of a step of the journey
STYLE = """
    text { font-family: Helvetica, Arial, sans-serif; font-size: 12px; fill: #333 }
    .title { font-size: 15px; font-weight: bold }
    .name { font-size: 14px; font-weight: bold; fill: #111 }
    .room { fill: #eef3f9; stroke: #6b8db5 }
    .training { fill: #e8f4e8; stroke: #6aa56a }
    .prediction { fill: #fdf1e3; stroke: #cf9a55 }
    .arrow { stroke: #555; stroke-width: 1.5; marker-end: url(#tip) }
"""


def floors() -> list[list[str]]:
    """The rooms of each floor, top floor first."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    (layers,) = (
        contract["layers"] for contract in contracts if contract.get("containers") == ["msdtool"]
    )
    return [[name.strip() for name in layer.split("|")] for layer in layers]


def box(x: float, y: float, width: float, height: float, kind: str, name: str, about: str) -> str:
    """A box with a name and lines of explanation."""
    middle = x + width / 2
    lines = about.splitlines()
    baseline = y + height / 2 + 5 - 8 * len(lines)
    texts = [("name", name), *(("about", line) for line in lines)]
    return "\n".join(
        [
            f'  <rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" '
            f'height="{height}" rx="5"/>',
            *(
                f'  <text class="{style}" x="{middle:g}" y="{baseline + 17 * number:g}" '
                f'text-anchor="middle">{escape(text)}</text>'
                for number, (style, text) in enumerate(texts)
            ),
        ]
    )


def house(y: float) -> tuple[list[str], float]:
    """The floors from ``y`` down, and where they end."""
    parts = []
    for rooms in floors():
        explained = ABOUT.keys() & set(rooms)
        labels, height = (rooms, FLOOR) if explained else ([" · ".join(rooms)], FLOOR - 16)
        width = (WIDTH - 2 * MARGIN - GAP * (len(labels) - 1)) / len(labels)
        for number, room in enumerate(labels):
            x = MARGIN + number * (width + GAP)
            parts.append(box(x, y, width, height, "room", room, ABOUT.get(room, "")))
        y += height + GAP
    return parts, y - GAP


def journey(y: float, kind: str, steps: list[tuple[str, str]]) -> list[str]:
    """A row of steps with arrows between them."""
    gap = 24
    width = (WIDTH - 2 * MARGIN - gap * (len(steps) - 1)) / len(steps)
    parts = []
    for number, (room, about) in enumerate(steps):
        x = MARGIN + number * (width + gap)
        parts.append(box(x, y, width, STEP, kind, room, about))
        if number:
            middle = y + STEP / 2
            ends = f'x1="{x - gap + 2:g}" y1="{middle:g}" x2="{x - 4:g}" y2="{middle:g}"'
            parts.append(f'  <line class="arrow" {ends}/>')
    return parts


def title(y: float, text: str) -> str:
    return f'  <text class="title" x="{MARGIN}" y="{y:g}">{escape(text)}</text>'


def draw() -> str:
    """The figure as SVG."""
    rooms, y = house(42)
    parts = [
        title(28, "The rooms: each imports only from floors below it"),
        *rooms,
        title(y + 40, "The journey of an image: training"),
        *journey(y + 54, "training", TRAINING),
        title(y + 54 + STEP + 34, "The journey of an image: prediction"),
        *journey(y + 54 + STEP + 48, "prediction", PREDICTION),
    ]
    height = y + 54 + 2 * STEP + 48 + MARGIN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" '
            f'width="{WIDTH}" height="{height:g}">',
            f"  <style>{STYLE}  </style>",
            '  <defs><marker id="tip" markerWidth="8" markerHeight="8" refX="6" refY="4" '
            'orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="#555"/></marker></defs>',
            '  <rect width="100%" height="100%" fill="white"/>',
            *parts,
            "</svg>",
            "",
        ]
    )


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(draw(), encoding="utf-8")
