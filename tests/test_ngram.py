"""The n-gram model: equal to its readable twin and to lmplz, a distribution, the same again from its own ARPA file."""

from __future__ import annotations

import shutil
import subprocess
import tracemalloc
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.data.quality.arpa import read_arpa, word, write_arpa
from puna.data.quality.ngram import FALLBACK, NgramModel, discounts, find, stream, train
from puna.errors import InputError

BOS, EOS = 1, 2
Documents = list[list[int]]
Gram = tuple[int, ...]


class Twin:
    """Interpolated modified Kneser-Ney as the equations stand: one dictionary of counts, one recursion."""

    def __init__(self, documents: Documents, order: int, vocabulary: int) -> None:
        self.documents, self.order, self.vocabulary = documents, order, vocabulary

    @cached_property
    def counts(self) -> dict[Gram, int]:
        plain: Counter[Gram] = Counter()
        left: dict[Gram, set[int]] = defaultdict(set)
        for document in self.documents:
            text = (BOS, *document, EOS)
            for end in range(1, len(text) + 1):
                for start in range(max(0, end - self.order), end):
                    plain[text[start:end]] += 1
                    left[text[start:end]].update(text[start - 1 : start])
        whole = {gram for gram in plain if len(gram) == self.order or gram[0] == BOS}
        counts = {gram: plain[gram] if gram in whole else len(left[gram]) for gram in plain}
        counts[(BOS,)] = 0
        return counts

    @cached_property
    def discounts(self) -> dict[int, list[float]]:
        found = {}
        for order in range(1, self.order + 1):
            numbers = Counter(count for gram, count in self.counts.items() if len(gram) == order)
            n1, n2, n3, n4 = (numbers[count] for count in (1, 2, 3, 4))
            found[order] = [0, *FALLBACK]
            if n1 and n2 and n3:
                y = n1 / (n1 + 2 * n2)
                exact = [0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3]
                if all(0 < exact[count] <= count for count in (1, 2, 3)):
                    found[order] = exact
        return found

    @cached_property
    def followers(self) -> dict[Gram, list[int]]:
        followers: dict[Gram, list[int]] = defaultdict(list)
        for gram, count in self.counts.items():
            if count:
                followers[gram[:-1]].append(count)
        return followers

    def probability(self, piece: int, context: Gram) -> float:
        if context in self.followers:
            counts = self.followers[context]
            discount = self.discounts[len(context) + 1]
            count = self.counts.get((*context, piece), 0)
            rest = sum(discount[min(count, 3)] for count in counts) / sum(counts)
            own = (count - discount[min(count, 3)]) / sum(counts)
        else:
            own, rest = 0.0, 1.0
        lower = self.probability(piece, context[1:]) if context else 1 / (self.vocabulary - 1)
        return own + rest * lower

    def log10_probabilities(self, document: list[int]) -> list[float]:
        text = (BOS, *document, EOS)
        contexts = [text[max(0, end - self.order + 1) : end] for end in range(1, len(text))]
        return [float(np.log10(self.probability(p, c))) for p, c in zip(text[1:], contexts, strict=True)]


VOCABULARY = 8
documents_of_pieces = st.lists(st.lists(st.sampled_from([0, 3, 4, 5, 6, 7]), max_size=12), min_size=1, max_size=12)
orders = st.integers(1, 5)


@pytest.mark.promise("twins")
@settings(deadline=None, max_examples=150)
@given(training=documents_of_pieces, held=documents_of_pieces, order=orders)
def test_sorting_gives_what_counting_by_hand_gives(training: Documents, held: Documents, order: int) -> None:
    model = train(training, order=order, vocabulary=VOCABULARY, bos=BOS, eos=EOS)
    twin = Twin(training, order, VOCABULARY)
    tokens = stream(held, vocabulary=VOCABULARY, bos=BOS, eos=EOS)
    expected = [value for document in held for value in (0.0, *twin.log10_probabilities(document))]
    np.testing.assert_allclose(model.log10_probabilities(tokens), expected, rtol=0, atol=1e-12)


@settings(deadline=None, max_examples=60)
@given(
    training=documents_of_pieces,
    order=orders,
    context=st.lists(st.sampled_from([0, 3, 4, 5, 6, 7]), max_size=6),
    begins=st.booleans(),
)
def test_probabilities_sum_to_one_after_any_context(
    training: Documents, order: int, context: list[int], begins: bool
) -> None:
    model = train(training, order=order, vocabulary=VOCABULARY, bos=BOS, eos=EOS)
    before = [BOS] * begins + context
    total = sum(10 ** model.log10_probabilities([*before, piece])[-1] for piece in range(VOCABULARY) if piece != BOS)
    assert total == pytest.approx(1, abs=1e-12)


def test_probabilities_sum_to_one_where_discounts_are_estimated() -> None:
    training = _corpus()
    model = train(training, order=4, vocabulary=40, bos=BOS, eos=EOS)
    for context in ([], [BOS], training[0][:3], training[9][2:5], [39, 39, 39]):
        total = sum(10 ** model.log10_probabilities([*context, piece])[-1] for piece in range(40) if piece != BOS)
        assert total == pytest.approx(1, abs=1e-12)


@pytest.mark.promise("twins")
def test_estimated_discounts_agree_with_the_twin_too() -> None:
    training, held = _corpus()[:-5], _corpus()[-5:]
    model = train(training, order=4, vocabulary=40, bos=BOS, eos=EOS)
    twin = Twin(training, 4, 40)
    expected = [value for document in held for value in (0.0, *twin.log10_probabilities(document))]
    tokens = stream(held, vocabulary=40, bos=BOS, eos=EOS)
    np.testing.assert_allclose(model.log10_probabilities(tokens), expected, rtol=0, atol=1e-12)


def test_no_context_reaches_into_the_document_before() -> None:
    model = train(_corpus(), order=4, vocabulary=40, bos=BOS, eos=EOS)
    one, two = _corpus()[3], _corpus()[4]
    together = model.log10_probabilities(stream([one, two], vocabulary=40, bos=BOS, eos=EOS))
    alone = [model.log10_probabilities(stream([ids], vocabulary=40, bos=BOS, eos=EOS)) for ids in (one, two)]
    assert together.tolist() == np.concatenate(alone).tolist()


@pytest.mark.promise("twins")
def test_a_vocabulary_of_any_size_at_any_order_packs_into_64_bits() -> None:
    wide = 100_000
    training = [[3, 99_999, 65_536, 99_998, 99_999, 3, 99_999, 65_536], [99_999] * 9]
    model = train(training, order=7, vocabulary=wide, bos=BOS, eos=EOS)
    expected = [0.0, *Twin(training, 7, wide).log10_probabilities(training[0])]
    got = model.log10_probabilities(stream(training[:1], vocabulary=wide, bos=BOS, eos=EOS))
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


def test_training_takes_no_more_memory_for_a_token_than_is_said() -> None:
    documents = list(np.random.default_rng(0).integers(3, 65536, (400, 400)))
    tracemalloc.start()
    train(documents, order=5, vocabulary=65536, bos=BOS, eos=EOS)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 160 * 402 * len(documents) + 65536 * 50


def test_discounts_fall_back_where_counts_cannot_tell_them() -> None:
    fallback = [0.0, *FALLBACK]
    assert discounts(np.array([1, 1, 2])).tolist() == fallback  # no count of 3
    assert discounts(np.array([0, 0])).tolist() == fallback
    assert discounts(np.array([1, 2, 3, 4, 4, 4, 4, 4, 4])).tolist() == fallback  # 3 - 4/3 * 6 is negative
    assert discounts(np.array([1, 1, 2, 3])).tolist() == [0.0, 0.5, 0.5, 3.0]


def test_an_empty_document_is_a_document_and_no_documents_are_refused() -> None:
    model = train([[]], order=3, vocabulary=5, bos=BOS, eos=EOS)
    assert 10 ** model.log10_probabilities([BOS, EOS])[1] > 0.5
    with pytest.raises(ValueError, match="no documents"):
        train([], order=3, vocabulary=5, bos=BOS, eos=EOS)


@pytest.mark.parametrize("ids", [[5], [-1], [BOS], [EOS]])
def test_ids_that_are_no_pieces_of_text_are_refused(ids: list[int]) -> None:
    with pytest.raises(ValueError, match="document 1"):
        train([[3], ids], vocabulary=5, bos=BOS, eos=EOS)


# What lmplz (KenLM at 4cb443e, -o 4) printed and wrote for _corpus().
LMPLZ_DISCOUNTS = {
    1: (0.333333, 1, 1.66667),
    2: (0.423676, 1.28548, 1.74527),
    3: (0.799139, 1.72601, 2.50054),
    4: (0.962468, 1.94447, 3),
}
LMPLZ_LINES = {
    (0,): (-2.7250545, 0),
    (BOS,): (0, -0.63717884),
    (EOS,): (-1.4178144, 0),
    (6,): (-1.3914101, -0.564487),
    (39,): (-2.571571, -0.3729661),
    (5, EOS): (-1.160119, 0),
    (5, 17): (-1.6224153, -0.080361396),
    (16, 39): (-2.0240905, -0.0973776),
    (18, 5, EOS): (-1.0900649, 0),
    (31, 15, 37): (-1.2335141, -0.0166135),
    (8, 14, 5, EOS): (-0.93058544, None),
    (16, 16, 24, 15): (-0.5827154, None),
    (BOS, 31, 15, 37): (-1.0280325, None),
}


@pytest.mark.promise("twins")
def test_discounts_probabilities_and_backoffs_are_those_of_lmplz() -> None:
    model = train(_corpus(), order=4, vocabulary=40, bos=BOS, eos=EOS)
    assert [level.keys.size for level in model.levels] == [40, 835, 2548, 2720]
    twin = Twin(_corpus(), 4, 40)
    for order, expected in LMPLZ_DISCOUNTS.items():
        np.testing.assert_allclose(twin.discounts[order][1:], expected, atol=5e-6)
    for gram, (log10, backoff) in LMPLZ_LINES.items():
        level, node = model.levels[len(gram) - 1], _node(model, gram)
        assert level.log10[node] == pytest.approx(log10, abs=1e-6)
        if backoff is not None:
            assert level.backoff[node] == pytest.approx(backoff, abs=1e-6)


@pytest.mark.promise("twins")
@pytest.mark.skipif(shutil.which("lmplz") is None, reason="lmplz is not on PATH")
def test_the_whole_model_is_that_of_lmplz(tmp_path: Path, proved: Callable[[str], None]) -> None:
    names = _names(40)
    text = "".join(" ".join(names[piece] for piece in document) + "\n" for document in _corpus())
    command = ["lmplz", "-o", "4", "-S", "100M", "-T", str(tmp_path)]
    arpa = tmp_path / "lmplz.arpa"
    arpa.write_bytes(subprocess.run(command, input=text.encode(), capture_output=True, check=True).stdout)
    model = train(_corpus(), order=4, vocabulary=40, bos=BOS, eos=EOS)
    _assert_same(read_arpa(arpa, names), model, 1e-6)
    proved(f"n-gram model: {sum(level.keys.size for level in model.levels):,} n-grams as lmplz writes them")


@pytest.mark.promise("formats")
@settings(deadline=None, max_examples=40)
@given(training=documents_of_pieces, order=orders)
def test_what_is_written_as_arpa_is_read_back(
    training: Documents, order: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = train(training, order=order, vocabulary=VOCABULARY, bos=BOS, eos=EOS)
    pieces = ["<unk>", "<s>", "</s>", "\n", "\t \u2003", "\\n", "\\", "é"]
    arpa = tmp_path_factory.mktemp("arpa") / "model.arpa"
    write_arpa(model, arpa, pieces)
    _assert_same(read_arpa(arpa, pieces), model, 1e-8)


@given(st.lists(st.text(alphabet=st.sampled_from("\\u0a \n\t\x00\x1f\x7f\x85\u2028ab"), max_size=6), unique=True))
@settings(deadline=None, max_examples=100)
def test_every_piece_is_one_word_of_its_own(pieces: list[str]) -> None:
    words = [word(piece) for piece in pieces]
    assert len(set(words)) == len(pieces)
    assert all(written.split() == [written] for written in words if written)


SMALL_ARPA = """\\data\\
ngram 1=4
ngram 2=2

\\1-grams:
0\t<s>\t-0.5
-0.6\t</s>
-0.7\ta\t-0.25
-0.9\t<unk>

\\2-grams:
-0.1\t<s> a
-0.2\ta </s>

\\end\\
"""


@pytest.mark.promise("formats")
def test_an_arpa_file_of_other_tools_is_read_as_they_read_it(tmp_path: Path) -> None:
    arpa = tmp_path / "model.arpa"
    arpa.write_text(SMALL_ARPA)
    model = read_arpa(arpa, ["<unk>", "<s>", "</s>", "a", "not listed"])
    got = model.log10_probabilities([BOS, 3, 3, EOS, BOS, 4, EOS])
    np.testing.assert_allclose(got, [0, -0.1, -0.25 - 0.7, -0.2, 0, -0.5 - 0.9, -0.6])


@pytest.mark.promise("formats")
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("-0.2\ta </s>\n\n\\end\\\n", "", "ends too early"),
        ("\\end\\", "more", "line 15: .*was expected"),
        ("\\data", "data", "line 1: .*was expected"),
        ("ngram 1=4\nngram 2=2", "", "line 4: no counts"),
        ("ngram 1=4\n", "", "do not follow"),
        ("ngram 2=2", "ngram 2=3", "line 15: .*not a probability"),
        ("ngram 2=2", "ngram 2=9999999", "more n-grams"),
        ("a </s>", "a z", "line 13: 'z' is no piece"),
        ("a </s>", "a a a", "line 13: .*not a probability"),
        ("a </s>", "a a 0 0", "line 13: has 5 fields"),
        ("a </s>", "a", "line 13: has 2 fields"),
        ("a </s>", "<s> a", "stands twice"),
        ("-0.2\ta", "nan\ta", "line 13: .*not a probability"),
        ("-0.2\ta", "0.2\ta", "line 13: .*not a probability"),
        ("-0.2\ta", "inf\ta", "line 13: .*not a probability"),
        ("a\t-0.25", "a\tnan", "line 8: .*not a probability"),
        ("a\t-0.25", "a\t-inf", "line 8: .*not a probability"),
    ],
)
def test_an_arpa_file_that_is_not_whole_is_refused_by_line(old: str, new: str, message: str, tmp_path: Path) -> None:
    arpa = tmp_path / "model.arpa"
    arpa.write_text(SMALL_ARPA.replace(old, new))
    with pytest.raises(InputError, match=message) as refusal:
        read_arpa(arpa, ["<unk>", "<s>", "</s>", "a"])
    assert str(arpa) in str(refusal.value)


@pytest.mark.promise("formats")
def test_an_ngram_without_its_beginning_is_refused(tmp_path: Path) -> None:
    arpa = tmp_path / "model.arpa"
    trigrams = "\\3-grams:\n-0.1\ta a </s>\n\n\\end\\"
    arpa.write_text(SMALL_ARPA.replace("ngram 2=2", "ngram 2=2\nngram 3=1").replace("\\end\\", trigrams))
    with pytest.raises(InputError, match="lacks its beginning"):
        read_arpa(arpa, ["<unk>", "<s>", "</s>", "a"])


def test_pieces_of_another_tokenizer_are_refused(tmp_path: Path) -> None:
    model = train([[3]], order=2, vocabulary=5, bos=BOS, eos=EOS)
    with pytest.raises(ValueError, match="not the pieces"):
        write_arpa(model, tmp_path / "model.arpa", _names(6))


def _corpus() -> Documents:
    """200 documents over 40 pieces whose counts tell all discounts, from a linear congruential generator."""
    state, documents = 126, []
    for number in range(200):
        ids = []
        for _ in range(5 + number % 17):
            state = (state * 1103515245 + 12345) % 2**31
            ids.append(3 + (state >> 16) % (3 + (state >> 8) % 35))
        documents.append(ids + ids[: number % 5])
    return documents


def _names(vocabulary: int) -> list[str]:
    return ["<unk>", "<s>", "</s>", *(f"w{piece}" for piece in range(3, vocabulary))]


def _node(model: NgramModel, gram: Gram) -> int:
    node = gram[0]
    for piece, level in zip(gram[1:], model.levels[1:], strict=False):
        node = int(find(level.keys, np.array([node * model.vocabulary + piece]))[0])
    return node


def _assert_same(got: NgramModel, expected: NgramModel, tolerance: float) -> None:
    assert (got.vocabulary, got.bos, got.eos, got.order) == (expected.vocabulary, BOS, EOS, expected.order)
    for one, other in zip(got.levels, expected.levels, strict=True):
        assert one.keys.tolist() == other.keys.tolist()
        np.testing.assert_allclose(one.log10, other.log10, rtol=0, atol=tolerance)
        np.testing.assert_allclose(one.backoff, other.backoff, rtol=0, atol=tolerance)
