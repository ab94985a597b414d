"""The fast paths of the classifier beside readable twins: addresses, words of text, scores, figures."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote_to_bytes

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from puna.data.quality import hashed_words, linear
from puna.data.quality.addresses import TRACKING, TRACKING_PREFIXES, host_hash, same_page
from puna.data.quality.hashed_words import BYTES, Features, M, N, batches, runs
from puna.data.quality.measured import average_precision, measured, reliability
from puna.data.wiki.references import normal

UNESCAPED = "-._~:/?#[]@!$&'()*+,;="
PIECES = st.sampled_from([
    "http://", "HTTPS://", "www.", "a.de", "bücher.de", "xn--bcher-kva.de", ":80", ":443", ":8080", "/", "//", "x", "X",
    "%41", "%2f", "%2F", "%", "%zz", "%C3%A4", "ä", " ", "|", "?", "&", "&amp;", "=", "utm_source=n", "fbclid=1", "q=1",
    "#f", ".", ",", ")", "(", "''", "user:pw@", "\ud800", "\x00", "http://web.archive.org/web/2020/", "&lt;", "%2E",
])  # fmt: skip


@pytest.mark.parametrize(
    ("address", "same"),
    [
        ("https://www.Example.org:443/A/b/?utm_source=x&q=1&fbclid=2#top", "http://example.org/A/b?q=1"),
        ("http://example.org", "http://example.org"),
        ("http://www.www.example.org/", "http://example.org"),
        ("http://example.org:8080/", "http://example.org:8080"),
        ("http://a.de/%7Euser/%e4%f6/caf%C3%A9", "http://a.de/~user/%E4%F6/caf%C3%A9"),
        ("http://a.de/café/a b|c", "http://a.de/caf%C3%A9/a%20b%7Cc"),
        ("http://a.de/x%2Fy?a=%26&b=%3D", "http://a.de/x%2Fy?a=%26&b=%3D"),
        ("http://bücher.de/", "http://xn--bcher-kva.de"),
        ("http://a.de/?utm_campaign=1&UTM_Medium=2", "http://a.de"),
        ("http://a.de/x?b=2&a=1", "http://a.de/x?b=2&a=1"),
        ("http://a.de/100%", "http://a.de/100%25"),
        ("https://web.archive.org/web/2012/http://www.d.org/p/", "http://d.org/p"),
        ("ftp://a.de/x", ""),
        ("http://localhost/", ""),
        ("http://.../", ""),
        ("http://a.de/" + "ä" * 900, ""),
        ("http://a.de/" + "&amp;" + "amp;" * 400, ""),
        ("", ""),
    ],
)
def test_addresses_of_one_page_have_one_form(address: str, same: str) -> None:
    assert same_page(address) == same
    assert same_page(same) == same


def _slow_page(address: str) -> str:
    """The rule once more, by the standard library and step by step, until nothing changes."""
    for _ in range(9):
        before, address = address, normal(address)
        if not address:
            return ""
        rest = address.split("://", 1)[1]
        place, _, query = rest.partition("?")
        host, *path = place.split("/")
        host, _, port = host.partition(":")
        if not host.isascii():
            try:
                host = host.encode("idna").decode()
            except UnicodeError:
                return ""
        host = re.sub(r"^(www\.)+", "", host)
        if port in ("80", "443"):
            port = ""
        kept = [_escaped(piece) for piece in query.split("&") if piece]
        kept = [piece for piece in kept if not _tracked(piece.split("=")[0].lower())]
        address = "http://" + "/".join([host + (f":{port}" if port else ""), *map(_escaped, path)])
        while address.endswith("/"):
            address = address[:-1]
        address += "?" + "&".join(kept) if kept else ""
        if len(address) > 2000:
            return ""
        if address == before:
            return address
    return ""


def _escaped(text: str) -> str:
    parts = re.split(r"(%[0-9a-fA-F]{2})", text)
    for at, part in enumerate(parts):
        if at % 2:
            byte = unquote_to_bytes(part)
            parts[at] = byte.decode() if re.fullmatch(rb"[\w.~-]", byte) else part.upper()
        else:
            parts[at] = quote(part.encode("utf-8", "surrogatepass"), safe=UNESCAPED)
    return "".join(parts)


def _tracked(name: str) -> bool:
    return name in TRACKING or any(name.startswith(prefix) for prefix in TRACKING_PREFIXES)


@given(st.lists(PIECES, max_size=12).map("".join), st.sampled_from(["", "http://a.de/", "https://www.b.org/?"]))
@settings(deadline=None, max_examples=120)
@example("http:///a.?utm_x=", "")
def test_the_form_of_an_address_is_a_fixed_point_and_that_of_its_twin(text: str, before: str) -> None:
    found = same_page(before + text)
    assert same_page(found) == found
    assert found == _slow_page(before + text)
    assert found.isascii()
    if found:
        assert host_hash(found) == host_hash(found.partition("?")[0])


def _slow_runs(text: str, features: Features) -> list[int]:
    data = text[: features.characters].lower().encode("utf-8", "replace").decode()
    words = re.findall(r"[0-9A-Za-z_\u00c0-\U0010ffff]+", re.sub("[\u2000-\u207f\u3000-\u303f]", " ", data))
    hashes = []
    for word in words:
        places = enumerate(word.encode())
        hashes.append(sum(int(BYTES[byte]) * pow(M, place, 2**64) for place, byte in places) % 2**64)
    found = []
    for n in range(1, features.ngram + 1):
        for start in range(len(words) - n + 1):
            value = hashes[start]
            for word in hashes[start + 1 : start + n]:
                value = (value * N + word) % 2**64
            value = (value + n) % 2**64
            value ^= value >> 32
            value = value * N % 2**64
            found.append((value ^ value >> 32) >> (64 - features.bits))
    return found


TEXTS = st.lists(st.text(st.sampled_from("abAZ09_ \n.,äÄß’“—。漢\u00a0\ud800İ"), max_size=40), max_size=6)


@given(TEXTS, st.integers(1, 3), st.integers(1, 30))
@settings(deadline=None, max_examples=120)
def test_hashed_words_agree_with_their_readable_twin(texts: list[str], ngram: int, characters: int) -> None:
    features = Features(characters, ngram, 12)
    found = runs(texts, features)
    expected = [_slow_runs(text, features) for text in texts]
    assert [found.of(index).tolist() for index in range(len(texts))] == expected
    assert found.lengths().tolist() == list(map(len, expected))


@given(TEXTS, st.integers(1, 3), st.integers(1, 40))
@settings(deadline=None, max_examples=100)
def test_scores_are_those_of_single_texts_whatever_the_batch(texts: list[str], ngram: int, batch: int) -> None:
    features = Features(25, ngram, 10)
    weights = np.random.default_rng(1).integers(-(2**30), 2**30, 1 << 10).astype(np.int32)
    model = linear.Model(features, weights, bias=0.25, slope=0.01, intercept=-0.5)
    expected = []
    for text in texts:
        found = _slow_runs(text, features)
        logit = sum(int(weights[bucket]) for bucket in found) * 2.0**-20 / max(1, len(found)) + 0.25
        expected.append(1 / (1 + np.exp(-(0.01 * logit - 0.5))))
    groups = [model.calibrated(model.logits(runs(group, features))) for group in batches(iter(texts), 25, batch)]
    assert np.allclose(np.concatenate([np.empty(0), *groups]), expected, rtol=1e-12)
    once = model.scores(iter(texts))
    assert once.tolist() == np.concatenate([np.empty(0), *groups]).astype(np.float32).tolist()


@pytest.mark.promise("formats")
def test_a_rule_for_words_belongs_to_the_format() -> None:
    text = "The river’s mouth — wide, “cold” and 12_000 m long; Ärger über Öl。"
    assert runs([text], Features(100, 2, 20)).of(0).tolist()[:8] == [
        677023,
        999221,
        49433,
        780356,
        398688,
        994008,
        657837,
        45679,
    ]
    assert hashed_words.VERSION == 1


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=12))
@settings(deadline=None)
def test_average_precision_agrees_with_its_definition(pairs: list[tuple[int, bool]]) -> None:
    scores = np.array([score / 4 for score, _ in pairs], np.float32)
    cited = np.array([label for _, label in pairs])
    found = average_precision(scores, cited)
    if cited.all() or not cited.any():
        assert found is None
        return
    expected = before = 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        kept = scores >= threshold
        recall = (cited & kept).sum() / cited.sum()
        expected += (recall - before) * (cited & kept).sum() / kept.sum()
        before = recall
    assert found == pytest.approx(expected)


def test_figures_of_scores_are_counted_as_they_say() -> None:
    scores = np.array([0.05, 0.15, 0.15, 0.95, 1.0], np.float32)
    cited = np.array([False, False, True, True, True])
    figures = measured(scores, cited)
    assert (figures["pages"], figures["cited"], figures["base"]) == (5, 3, 0.6)
    rows = reliability(scores, cited)
    assert [row["pages"] for row in rows] == [1, 2, 0, 0, 0, 0, 0, 0, 0, 2]
    assert (rows[1]["cited"], rows[9]["cited"], rows[5]["score"]) == (0.5, 1.0, None)
    table = figures["thresholds"]
    assert table["threshold"][50] == 0.5
    assert (table["precision"][50], table["recall"][50], table["kept"][50]) == (1.0, 2 / 3, 0.4)
    assert figures["brier"] == pytest.approx((0.05**2 + 0.15**2 + 0.85**2 + 0.05**2) / 5, rel=1e-6)
    assert measured(scores[:0], cited[:0])["average_precision"] is None
