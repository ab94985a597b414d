"""The peer's half of the metric `web_path`: datatrove's classes over the same shards and models, in an interpreter that
has datatrove, fastText with training and KenLM's module. It imports nothing of Puna.

    python web_path_peer.py version
    python web_path_peer.py train FOLDER
    python web_path_peer.py run FOLDER TARGET WORKERS
"""

from __future__ import annotations

import json
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

PARTS = 4


def version() -> None:
    import fasttext
    import kenlm

    assert kenlm.Model
    assert fasttext.train_supervised
    print(metadata.version("datatrove"))


def train(folder: str) -> None:
    """A classifier as ours is: runs of one and two words, a million buckets, five epochs; 16 dimensions as lid.176. And
    the perplexity that is its own percentile of the same pages."""
    import statistics

    import fasttext

    place = Path(folder) / "peer.json"
    known = json.loads(place.read_text())
    model = _local_model(f"{folder}/en", known["ngrams"])
    scores = [model.get_perplexity(text) for text in json.loads((Path(folder) / "english.json").read_text())]
    known["perplexity"] = statistics.quantiles(scores, n=100)[known["percentile"] - 1]
    place.write_text(json.dumps(known))

    made = fasttext.train_supervised(
        f"{folder}/examples", dim=16, wordNgrams=2, bucket=1 << 20, minCount=2, epoch=5, lr=0.5, thread=1, verbose=0
    )
    made.save_model(f"{folder}/classifier.bin")


def run(folder: str, target: str, workers: str) -> None:
    import xxhash
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import SentenceDedupFilter, SentenceDedupSignature, SentenceFindDedups
    from datatrove.pipeline.dedup.sentence_dedup import SentDedupConfig
    from datatrove.pipeline.filters import FastTextClassifierFilter, LambdaFilter, LanguageFilter
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.writers import ParquetWriter
    from datatrove.utils.word_tokenizers import WordTokenizer
    from loguru import logger

    logger.remove()
    known = json.loads((Path(folder) / "peer.json").read_text())

    class NoWords(WordTokenizer):
        """Asked for by the classes, and never used where lines are compared and pages of any length stay."""

        def word_tokenize(self, text: str) -> list[str]:
            raise NotImplementedError

        sent_tokenize = span_tokenize = word_tokenize

    config = SentDedupConfig(
        n_sentences=1, split_sentences=False, only_dedup_in_index=False, min_doc_words=0, min_num_sentences=0
    )
    pages, signatures, found = str(Path(folder) / "pages"), f"{target}/signatures", f"{target}/found"
    hashing = SentenceDedupSignature(signatures, PARTS, config, NoWords())
    hashing.hash_fc = lambda text: xxhash.xxh64_intdigest(text.encode())
    several = int(workers)
    language = LanguageFilter(languages=["en"], language_threshold=0.5)
    language.model.languages = ["en"]
    language.model.MODEL_URL = known["language_model"]  # of the instance, which goes to other processes as it is
    # A task of the last stage reads its models anew, so there are no more of them than workers; the first has as many,
    # by which the filter finds its lines again.
    stages: list[tuple[int, list[Any]]] = [
        (several, [ParquetReader(pages), hashing]),
        (PARTS, [SentenceFindDedups(signatures, found, config=config)]),
        (
            several,
            [
                ParquetReader(pages),
                SentenceDedupFilter(found, config, language=NoWords()),
                language,
                LambdaFilter(Perplexity(f"{folder}/en", known["ngrams"], known["perplexity"])),
                FastTextClassifierFilter(f"{folder}/classifier.bin", ("keep", known["score"]), newline_replacement=" "),
                ParquetWriter(f"{target}/out"),
            ],
        ),
    ]
    for number, (tasks, pipeline) in enumerate(stages):
        LocalPipelineExecutor(pipeline, tasks=tasks, workers=several, logging_dir=f"{target}/logs-{number}").run()


class Perplexity:
    """Whether a page is as likely as asked, by datatrove.utils.perplexity.KenlmModel with models that lie here."""

    def __init__(self, pieces: str, ngrams: str, most: float) -> None:
        self.pieces, self.ngrams, self.most = pieces, ngrams, most
        self._model: Any = None

    def __call__(self, document: Any) -> bool:
        if self._model is None:
            self._model = _local_model(self.pieces, self.ngrams)
        return bool(self._model.get_perplexity(document.text) <= self.most)


def _local_model(pieces: str, ngrams: str) -> Any:
    import kenlm
    import sentencepiece
    from datatrove.utils.perplexity import KenlmModel, SentencePiece

    made = KenlmModel("", "en")
    made._tokenizer = SentencePiece("", "en")
    made._tokenizer._model = sentencepiece.SentencePieceProcessor(model_file=f"{pieces}.model")
    made._model = kenlm.Model(ngrams)
    return made


if __name__ == "__main__":
    {"version": version, "train": train, "run": run}[sys.argv[1]](*sys.argv[2:])
