"""The gallery: every prompt of the recipe continued once, unselected.

Samples that somebody picked say how well they were picked. So the prompts are fixed before the training, each is
continued once with a seed of its own, and whatever comes is kept.
"""

from __future__ import annotations

from typing import Any

from puna import generate, storage
from puna.formats import SAMPLES
from puna.model import device
from puna.progress import progress
from puna.recipe import Recipe
from puna.storage import Place


def samples(folder: Place, recipe: Recipe) -> dict[str, Any]:
    """Continue each of the recipe's prompts with the run's newest checkpoint; writes evaluations/samples.json.

    The n-th prompt, from 0, has the seed `samples.seed` + n, so that a prompt given twice gives two texts. Returns what
    was written. InputError when the run has no checkpoint.
    """
    asked = recipe.samples
    generator = generate.load(folder, device=device.chosen(recipe.train.device))
    made = []
    with progress("samples", len(asked.prompts), "prompts") as bar:
        for seed, prompt in enumerate(asked.prompts, start=asked.seed):
            text = generator.generate(
                prompt, tokens=asked.tokens, temperature=asked.temperature, top_p=asked.top_p, seed=seed
            )
            made.append({"prompt": prompt, "text": text, "seed": seed})
            bar.advance()
    result = {
        "format": SAMPLES.version,
        "checkpoint": generator.folder.name,
        "settings": {
            "tokens": asked.tokens,
            "temperature": asked.temperature,
            "top_p": asked.top_p,
            "seed": asked.seed,
        },
        "samples": made,
    }
    storage.write_json(folder / "evaluations" / "samples.json", result)
    return result
