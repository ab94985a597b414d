"""The page of a comparison: several runs on one axis, how good each is, what each cost, and in what they differ."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from puna import storage
from puna.model import flop
from puna.report import figures
from puna.report.compare import law, pictures, runs
from puna.report.compare.runs import Compared, Group
from puna.report.facts import at, number
from puna.report.markup import (
    NONE,
    Html,
    amount,
    count,
    element,
    fixed,
    join,
    note,
    paragraph,
    seconds,
    table,
)
from puna.report.page import document
from puna.storage import Place

NAME = "comparison.html"
SAME_TOKENS = 0.02  # two trainings read equally much when they differ by no more, which the last step may


def write(folders: Sequence[Place], target: Place | None = None) -> Place:
    """Write the comparison of these runs to `target`, else beside the first one, and return where it is.

    Only reads the runs. InputError: fewer than two, a folder that is no run, the same run twice.
    """
    found = runs.read(folders)
    place = folders[0].parent / NAME if target is None else target
    storage.write(place, page(found).encode())
    return place


def page(found: Sequence[Compared]) -> str:
    """The whole document."""
    several = runs.groups(found)
    sections = [
        ("training", "Training loss", _training(several)),
        ("heldout", "Held-out text", _heldout(several)),
        ("law", "Loss and size", _law(several)),
        ("quality", "How good each is", _quality(several)),
        ("cost", "Size, tokens and time", _cost(several)),
        ("differences", "In what the recipes differ", _differences(several)),
    ]
    title = f"Comparison of {len(found)} runs"
    return document(title, _header(found, several), sections)


def _header(found: Sequence[Compared], several: Sequence[Group]) -> Html:
    sizes = sorted({group.weights for group in several})
    told = amount(sizes[0]) if len(sizes) == 1 else f"{amount(sizes[0])} to {amount(sizes[-1])}"
    ended = [run for run in found if not run.unfinished]
    tokens = sorted({run.tokens for run in found})
    read = amount(tokens[-1]) if same_tokens(found) else f"{amount(tokens[0])} to {amount(tokens[-1])}"
    best = min((run.bits["all"] for run in ended), default=None) if _same_text(found) else None
    facts = [
        ("runs", count(len(found))),
        ("weights beside the input embedding", told),
        ("tokens trained on", read),
        ("bits per byte, held out, the best", fixed(best, 3)),
    ]
    return join(
        element("p", "Puna, a comparison of ", *_names(found), class_="overline"),
        element("h1", _title(found, several)),
        element("dl", *(element("div", element("dt", name), element("dd", value)) for name, value in facts)),
        _warnings(found),
    )


def _names(found: Sequence[Compared]) -> list[Html]:
    return [join(", " if place else "", element("bdi", run.label)) for place, run in enumerate(found)]


def _title(found: Sequence[Compared], several: Sequence[Group]) -> str:
    sizes = {group.weights for group in several}
    if len(sizes) == len(several) > 1:
        return f"A LLaMA of {len(several)} sizes on the same text" if _same_text(found) else f"{len(several)} sizes"
    return f"{len(found)} runs beside each other"


def _warnings(found: Sequence[Compared]) -> Html:
    """What must be known before any two numbers of the page are compared."""
    said = [f"{run.label} {run.unfinished}, so this page is as far as it has come." for run in found if run.unfinished]
    if not same_tokenizer(found):
        said.append(
            "The runs have different tokenizers. A token then stands for different lengths of text, so losses per "
            "token say nothing of which is better: everything here is in bits per byte."
        )
    if not _same_text(found):
        said.append(
            "The runs were measured on different held-out text. Their bits per byte and cloze items tell how each does "
            "on its own text, not which is better, and no law is drawn through them."
        )
    if not same_tokens(found):
        said.append("The runs were not trained on the same number of tokens.")
    damaged = [run for run in found if run.facts.unreadable]
    said += [f"Of {run.label} could not be read and is left out: {', '.join(run.facts.unreadable)}." for run in damaged]
    return element("ul", *(element("li", text) for text in said), class_="verdict") if said else Html("")


def same_tokenizer(found: Sequence[Compared]) -> bool:
    return len({run.tokenizer for run in found}) == 1


def _same_text(found: Sequence[Compared]) -> bool:
    return len({run.heldout for run in found}) == 1


def same_tokens(found: Sequence[Compared]) -> bool:
    """Whether all read equally many tokens, within the last step."""
    read = [run.tokens for run in found]
    return max(read) - min(read) <= SAME_TOKENS * max(read)


def _training(several: Sequence[Group]) -> Html:
    every = [run for group in several for run in group.runs]
    in_bits = not same_tokenizer(every)
    drawn = pictures.training(several, in_bits)
    if not drawn:
        return paragraph("No run has trained yet.")
    caption = [
        "Each line is a training: the lower, the better it guesses the next token of text that it has not read yet. ",
        _thin(several),
        "Lines are means over 4 % of the steps. By tokens as in the paper's Figure 1; and by computation, of which a ",
        "smaller model takes less for the same text: whichever line is lower there is the better use of it. ",
        f"FLOP of a token: {flop.FORMULA}. ",
    ]
    if in_bits:
        caption.append("Nats per token are told in bits per byte by the bytes that a token of each training text has.")
    return element("figure", drawn, element("figcaption", *caption))


def _thin(several: Sequence[Group]) -> str:
    return "Thin lines of one colour are seeds of one recipe. " if any(len(group.runs) > 1 for group in several) else ""


def _heldout(several: Sequence[Group]) -> Html:
    drawn = pictures.heldout(several)
    if not drawn:
        return paragraph("No run was measured on held-out text yet.")
    caption = (
        "Bits that the model needs for a byte of text that no run has read, all sources together: lower is better. "
        "Dots are measures, of at most train.evaluate_tokens tokens of a source; a run that was measured at its end "
        "alone has one, of all held-out text."
    )
    return element("figure", drawn, element("figcaption", caption))


def points(several: Sequence[Group]) -> list[tuple[float, list[float]]]:
    """Sizes and the held-out bits per byte of their runs."""
    found = [(float(group.weights), [run.bits["all"] for run in group.seeds if "all" in run.bits]) for group in several]
    return [(size, bits) for size, bits in found if bits]


def _law(several: Sequence[Group]) -> Html:
    every = [run for group in several for run in group.runs]
    why = _no_law(every, several)
    if why:
        return paragraph(f"No law is drawn: {why}.")
    known = points(several)
    found = law.fit(known)
    drawn = pictures.scaling(several, known, found)
    told = "A dot is a run" + (". " if found is None else ", the line the law, the band where it lies with 95 %. ")
    parts = [
        element("figure", drawn, element("figcaption", told, "Both axes are logarithmic, so a power law is a line.")),
        paragraph(*_told(found, known)),
    ]
    spread = law.seed_spread(known)
    if spread is not None:
        parts.append(paragraph(f"Seeds of one size lie {fixed(spread, 4)} bits per byte apart (standard deviation)."))
    parts.append(
        note(
            "The rule, fixed before: fewer than three sizes, no law; three or four, L = A / N^α; from five on "
            "L = E + A / N^α where E's interval lies above 0 and no α above 3 fits better. A size counts once, with "
            "the mean of its seeds. Intervals are 95 % by Student's t with as many degrees of freedom as sizes beyond "
            "the parameters. All sizes read the same number of tokens, so this is no law of models that read until "
            "text helps no more."
        )
    )
    return join(*parts)


def _no_law(every: Sequence[Compared], several: Sequence[Group]) -> str:
    """Why these runs have no law of size; "" where they have one."""
    if not _same_text(every):
        return "the runs were measured on different held-out text"
    if any(run.unfinished for run in every):
        return "not every run has ended"
    if not same_tokens(every):
        return "the runs read different numbers of tokens"
    sizes = {group.weights for group in several}
    if len(sizes) < len(several):
        return "some of these recipes have the same size, and differ in something else"
    if len(sizes) < law.FEWEST:
        return f"it takes {law.FEWEST} sizes, and here {'is one' if len(sizes) == 1 else 'are two'}"
    return ""


def _told(found: law.Law | None, known: Sequence[law.Point]) -> list[str]:
    if found is None:
        return ["No law could be fitted."]
    low, high = found.interval
    freedom = found.sizes - len(found.covariance)
    degrees = "degree of freedom" if freedom == 1 else "degrees of freedom"
    said = [
        f"Held-out bits per byte {'fall' if found.exponent > 0 else 'rise'} ",
        f"as the number of weights to the power of {_signed(-found.exponent)}, with 95 % between ",
        f"{_signed(-high)} and {_signed(-low)} ({found.sizes} sizes, {count(freedom, degrees)}). ",
    ]
    if found.floor:
        said.append(
            f"That is above a floor of {fixed(found.floor, 3)} ± {fixed(found.floor_reach, 3)} bits per byte, below "
            "which no size gets on so many tokens. "
        )
    said.append(f"The sizes lie {100 * found.spread:.2f} % about it. ")
    if found.exponent + found.reach < 0:
        said.append("Larger is worse here: on so few tokens, or with these settings, weights do not help.")
    elif not found.falls:
        said.append("The interval holds 0: from these runs it cannot be told that larger is better.")
    elif not found.floor:
        ten = 100 * (1 - 10**-found.exponent)
        said.append(f"Ten times the weights take {ten:.1f} % off.")
    return said


def _signed(value: float) -> str:
    return fixed(value, 4).replace("-", "\N{MINUS SIGN}")


def _quality(several: Sequence[Group]) -> Html:
    sources = list(dict.fromkeys(source for group in several for run in group.runs for source in run.bits))
    if not sources:
        return paragraph("No run was measured on held-out text yet.")
    shown = [source for source in sources if source != "all" or len(sources) != 2]
    head = ["run", *(f"{source}, bits per byte" for source in shown), "cloze, % right", "last training loss"]
    rows: list[list[object]] = []
    for place, group in enumerate(several):
        for run in group.runs:
            cells = [fixed(run.bits.get(source), 3) for source in shown]
            rows.append([_swatched(run.label, place, several), *cells, _cloze(run), fixed(_loss(run), 3)])
        seeds = group.seeds
        if len(seeds) > 1:
            means = [_spread([run.bits[source] for run in seeds if source in run.bits], 3) for source in shown]
            losses = [loss for run in seeds if (loss := _loss(run)) is not None]
            asked = [100 * share for run in seeds if (share := _cloze_mean(run)) is not None]
            rows.append([f"mean of {len(seeds)} seeds", *means, _spread(asked, 1), _spread(losses, 3)])
    every = [run for group in several for run in group.runs]
    unit = "nats a token" if same_tokenizer(every) else "nats a token, of different tokenizers, not to be compared"
    said = [
        "Bits per byte of held-out text, lower is better; for all, bits and bytes are summed over the sources. ± of a "
        "mean is the standard deviation among seeds, of a cloze share one standard error over its items. "
        f"Training loss in {unit}, the mean over the last steps.",
    ]
    if len({run.cloze for run in every}) > 1:
        said.append(" The runs were asked different cloze items.")
    return join(table(head, rows), note(*said))


def _swatched(label: str, place: int, several: Sequence[Group]) -> Html:
    number_of = figures.series(len(several))[place] + 1
    mark = element("span", class_="swatch", style=f"color:var(--series-{number_of})", aria_hidden="true")
    return element("span", mark, label, class_="named")


def _loss(run: Compared) -> float | None:
    if run.facts.curve is None:
        return None
    last = float(figures.smoothed(run.facts.curve.loss)[-1])
    return last if np.isfinite(last) else None


def _cloze_mean(run: Compared) -> float | None:
    results = at(run.facts.cloze, "results")
    found = number(results, "all", "model", "mean")
    if found is None and isinstance(results, dict) and len(results) == 1:
        found = number(next(iter(results.values())), "model", "mean")
    return found


def _cloze(run: Compared) -> str:
    mean = _cloze_mean(run)
    if mean is None:
        return NONE
    error = number(run.facts.cloze, "results", "all", "model", "error")
    return f"{100 * mean:.1f}" + ("" if error is None else f"\u00a0±\u00a0{100 * error:.1f}")


def _spread(values: Sequence[float], places: int) -> str:
    if not values:
        return NONE
    spread = f"\u00a0±\u00a0{np.std(values, ddof=1):.{places}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{places}f}{spread}"


def _cost(several: Sequence[Group]) -> Html:
    head = ["run", "weights", "with embeddings", "tokens", "batch", "learning rate", "FLOP", "training", "kWh"]
    rows: list[list[object]] = []
    for place, group in enumerate(several):
        for run in group.runs:
            train = run.facts.records.get("train")
            energy = next((stage.kwh for stage in run.energy.stages if stage.name == "training"), None)
            rows.append(
                [
                    _swatched(run.label, place, several),
                    amount(run.weights),
                    amount(run.facts.parameters),
                    amount(run.tokens),
                    count(_batch(run)),
                    f"{run.recipe.train.learning_rate:.2g}",
                    f"{run.token_flop * run.tokens:.2e}",
                    seconds(number(train, "seconds")),
                    fixed(energy, 4),
                ]
            )
    said = (
        "Weights that a token is multiplied with, all but the input embedding and the norms. Batch in tokens a step. "
        "Training: the time of that step by the clock, whatever ran beside it. kWh of training, measured or by the "
        "paper's formula; – where neither the machine's counters nor a stated power are there (puna carbon)."
    )
    return join(table(head, rows), note(said))


def _batch(run: Compared) -> float | None:
    windows, context = number(run.facts.mixture, "batch_windows"), number(run.facts.mixture, "context")
    return None if windows is None or context is None else windows * context


def _differences(several: Sequence[Group]) -> Html:
    if len(several) == 1:
        return paragraph("They differ in nothing but name and seed.")
    rows: list[list[object]] = [["seed", *(", ".join(str(run.seed) for run in group.runs) for group in several)]]
    rows += [[key, *(element("code", value) for value in values)] for key, values in runs.differences(several)]
    places = [element("li", run.label, ": ", element("code", run.where)) for group in several for run in group.runs]
    head = ["key", *(_swatched(group.label, place, several) for place, group in enumerate(several))]
    return join(
        table(head, rows, words=len(head)),
        note("Keys that differ, with the values of each; all others are the same in every run."),
        element("details", element("summary", "Where the runs lie"), element("ul", *places, class_="note")),
    )
