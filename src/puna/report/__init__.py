"""The report: one HTML page that tells the story of a run, from the raw text that went in to how good the model is.

The page is for a reader who wants to check: it says what was dropped and by which rule, shows samples nobody chose, and
states where a baseline is better. It is built from the files of a run folder alone, so it can be written at any moment
of a run; what is not there yet is named. It opens from disk without a network: style and figures are inside, and there
are no scripts. The same files give the same bytes.

    facts    what the run folder's files hold, read with tolerance
    markup   elements, escaping, numbers with their units
    figures  inline SVG, drawn by matplotlib
    corpus   what went in, what was dropped, tokenizer, mixture (the paper's section 2.1)
    quality  what text was filtered by: lines, languages, perplexity, the classifier, benchmarks (2.1)
    figure2  benchmarks along the training (Figure 2)
    training loss, learning rate, throughput, where the time went (2.2 to 2.4)
    cost     what each stage of the data read and took, per core
    energy   energy and carbon of each stage, and the paper's Table 15
    safety   Tables 11 to 14, and what such numbers say (5)
    finetuned  answers before and after a finetuning of this run (4)
    results  the headline, bits per byte beside the baselines, samples
    origin   recipe, machine, versions, digests
    page     puts them in order and writes report.html
    compare/ several runs on one page
"""

from __future__ import annotations

from puna.report.page import write

__all__ = ["write"]
