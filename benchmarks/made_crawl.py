"""A crawl and the Wikipedia that cites some of it, made from a seed at any size, for runs that must not need a network.

    python benchmarks/made_crawl.py FOLDER [--size "1 GB"] [--seed 5]

writes FOLDER/pages/*.wet.gz, FOLDER/dumps/*.bz2 and FOLDER/crawl.toml, which `puna data` runs. Words are drawn by a
Zipf law from short real words of English (or German and French) and made ones; what is planted is told by `KINDS`:

    clean     55% of the pages: English of Wikipedia's own law
    cited     10%: the same law with words of a subject, and Wikipedia cites a fifth of them
    noise     20%: half of the words from a law that Wikipedia has not; most of them fall to perplexity
    foreign   15%: German and French

Each page has menus and notices that thousands share, and one in twenty paragraphs stands in many pages.
"""

from __future__ import annotations

import argparse
import bz2
import gzip
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]

from web_run import UNTRAINED  # noqa: E402

KINDS = {"clean": 0.55, "cited": 0.10, "noise": 0.20, "foreign": 0.15}
COMMON = {
    "en": "the of and to in a is was that for it as with his on be at by he had are but from or have an they which one "
    "you were her all she there would their we him been has when who will more no if out so said what up its about "
    "into than them can only other new some could time these two may then do first any my now such like our over man "
    "me even most made after also did many before must through back years where much your way well down should "
    "because each just those people how too little state good very make world still own see men work long get here "
    "between both life being under never day same another know while last might us great old year off come since "
    "against go came right used take three",
    "de": "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an werden aus er "
    "hat dass sie nach wird bei einer um am sind noch wie einem über einen so zum war haben nur oder aber vor zur bis "
    "mehr durch man sein wurde sei hatte kann gegen vom können schon wenn habe seine unter wir",
    "fr": "de la le et les des en un du une que est pour qui dans a par plus pas au sur ne se ce il sont avec ou être "
    "fait leur si aux ses mais comme cette on son aussi nous ces entre ont deux même été sans après peut elle dont "
    "tout encore sous ainsi depuis très",
}
PARTS = {  # beginnings, stems and ends of the made words, which have the letters of their language
    "en": (
        " con pre inter re un dis over under out fore mis trans sub ex in en",
        "duct port form light house tract stand ship pose band wright cept field water spect work ground stone tain "
        "ton ward son ham land ford ley wood ough igh ther each awn ight ound oat ease ook",
        " ing ed s ly ness er ers ful less ment ion ions able y ity ism ist ish al hood",
    ),
    "de": (
        " ver be ge ent zer auf aus ein über unter vor zu an ab",
        "schlag stand gang zug werk land berg burg stein feld wasser haus schrift bild kraft macht recht dienst fall",
        " ung en er heit keit lich isch lein chen schaft tum e es ern ungen",
    ),
    "fr": (
        " dé re pré inter sur sous mé en em trans con par",
        "port form clair maison temps voix champ pierre jour nuit cour pass val mont lieu prise tien vrai beau",
        " ment tion eur euse ité age ance aux elle ette ique isme er é ée és",
    ),
}
MADE = 30_000  # made words of each law
QUANTILES = 1 << 18  # of which a word is drawn
PER_FILE = 100_000_000  # bytes of text in a WET file
RECIPE = """
name = "made-crawl"
seed = 3

[sources.commoncrawl]
inputs = ["pages/*.wet.gz"]
share = 0.9
paragraphs = "{paragraphs}"
min_characters = 300
languages = ["en"]
perplexity_percentiles = [30, 80]
min_reference_score = 0.02

[sources.wikipedia]
inputs = ["dumps/*.bz2"]
languages = ["en"]
share = 0.1

[reference]
min_positives = {positives}

[lm]
pieces = 16_000

[heldout]
share = 0.01
"""


class Page(NamedTuple):
    url: str
    kind: str
    text: str
    cited: bool


class Law:
    """Words and how often each is drawn."""

    def __init__(self, seed: int, language: str, name: str = "") -> None:
        chance = random.Random(f"{seed} {language} {name}")
        parts = [each.split(" ") for each in PARTS.get(language, ())]
        if parts:
            beginnings, stems, ends = parts
            several = [chance.choice(beginnings) + chance.choice(stems) for _ in range(MADE)]
            made = [
                one + (chance.choice(stems) if chance.random() < 0.4 else "") + chance.choice(ends) for one in several
            ]
        else:
            made = ["".join(chance.choices("etaoinshrdlucmfwypvbgk", k=chance.randint(3, 11))) for _ in range(MADE)]
        words = [*("" if name else COMMON.get(language, "")).split(), *made]
        weight = np.cumsum(1.0 / (np.arange(len(words)) + 3.0))
        self.words = np.array(words, object)
        self.drawn = np.searchsorted(weight / weight[-1], (np.arange(QUANTILES) + 0.5) / QUANTILES).astype(np.int32)

    def take(self, generator: np.random.Generator, count: int) -> list[str]:
        return self.words[self.drawn[generator.integers(0, QUANTILES, count)]].tolist()


class Pages:
    """Pages without end; the same for the same seed."""

    def __init__(self, seed: int = 5) -> None:
        self.generator = np.random.default_rng(seed)
        self.laws = {language: Law(seed, language) for language in COMMON}
        self.noise, self.subject = Law(seed, "noise"), Law(seed, "en", "subject")
        english = self.laws["en"]
        self.notices = [self._line(english.take(self.generator, 7)) for _ in range(3_000)]
        self.copied = [self._line(english.take(self.generator, 50)) for _ in range(5_000)]

    def __iter__(self) -> Iterator[Page]:
        number = 0
        ends = np.cumsum(list(KINDS.values()))
        while True:
            place = int(np.searchsorted(ends, self.generator.random(), "right"))
            kind = [*KINDS][min(place, len(KINDS) - 1)]
            cited = kind == "cited" and self.generator.random() < 0.2
            yield Page(f"http://www.site{number // 3}.org/{number}", kind, self._text(kind), cited)
            number += 1

    def article(self, words: int) -> str:
        """Text by the law of English, as Wikipedia's is: lines of 60 words."""
        found = self.laws["en"].take(self.generator, words)
        return "\n".join(self._line(found[start : start + 60]) for start in range(0, words, 60))

    def _text(self, kind: str) -> str:
        chance = self.generator
        lines = [self.notices[n] for n in chance.integers(0, len(self.notices), chance.integers(0, 8))]
        sizes = chance.integers(10, 90, chance.integers(4, 24)).tolist()
        words = self._words(kind, sum(sizes))
        start = 0
        for size, again in zip(sizes, chance.random(len(sizes)).tolist(), strict=True):
            own = self._line(words[start : start + size])
            lines.append(self.copied[int(again * 20 * len(self.copied))] if again < 0.05 else own)
            start += size
        lines += [self.notices[n] for n in chance.integers(0, len(self.notices), chance.integers(0, 4))]
        return "\n".join(lines)

    def _words(self, kind: str, count: int) -> list[str]:
        chance = self.generator
        if kind == "foreign":
            return self.laws["de" if chance.random() < 0.5 else "fr"].take(chance, count)
        found = self.laws["en"].take(chance, count)
        other = {"noise": self.noise, "cited": self.subject}.get(kind)
        if other:
            step = 2 if kind == "noise" else 5
            found[::step] = other.take(chance, len(found[::step]))
        return found

    def _line(self, words: list[str]) -> str:
        words[::11] = [word.capitalize() for word in words[::11]]
        words[9::11] = [word + "," for word in words[9::11]]
        return " ".join(words) + "."


def write(folder: Path, size: int, seed: int = 5, paragraphs: str = "drop", positives: int = 50) -> int:
    """The WET files, the dump and the recipe; the number of pages. An article of 20 MB and more of Wikipedia text is
    enough for the models; the addresses of cited pages stand in it."""
    from made_web import record

    (folder / "pages").mkdir(parents=True, exist_ok=True)
    made, pages = Pages(seed), 0
    rest, cited = size, []
    each = iter(made)
    for file in range(-(-size // PER_FILE)):
        text = 0
        with (folder / "pages" / f"CC-MAIN-{file:05d}.warc.wet.gz").open("wb") as out:
            while text < min(rest, PER_FILE):
                page = next(each)
                block = page.text.encode()
                header = record(pages, block, kind="conversion", WARC_Target_URI=page.url, Content_Type="text/plain")
                out.write(gzip.compress(header, 1, mtime=0))
                text += len(block)
                pages += 1
                if page.cited:
                    cited.append(page.url)
        rest -= text
    _write_articles(folder, made, cited, min(20_000_000, max(2_000_000, size // 20)))
    recipe = (RECIPE + UNTRAINED).format(paragraphs=paragraphs, positives=positives)
    (folder / "crawl.toml").write_text(
        recipe.replace('"pages/', f'"{folder.as_posix()}/pages/').replace('"dumps/', f'"{folder.as_posix()}/dumps/')
    )
    return pages


def _write_articles(folder: Path, made: Pages, cited: list[str], size: int) -> None:
    import tiny

    (folder / "dumps").mkdir(parents=True, exist_ok=True)
    words = 400
    count = max(20, size // (6 * words))
    with bz2.open(folder / "dumps" / "enwiki-1-pages-articles.xml.bz2", "wb", 1) as out:
        out.write(tiny.HEAD.encode())
        for number in range(1, count + 1):
            own = cited[number - 1 :: count]
            references = "".join(f" A fact.&lt;ref>[{url} page]&lt;/ref>" for url in own)
            text = made.article(words) + references
            page = tiny.PAGE.format(title=f"Page {number}", ns=0, id=number, redirect="", text=text)
            out.write(page.encode())
        out.write(b"</mediawiki>\n")


def main() -> None:
    from puna.recipe_values import count

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", default="1 GB", help="bytes of text in the pages (1 GB)")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="20 MB of text")
    asked = parser.parse_args()
    size = 20_000_000 if asked.quick else count(asked.size, "bytes")
    pages = write(asked.folder, size, asked.seed)
    print(f"{pages:,} pages of {size / 1e6:,.0f} MB of text: puna data {asked.folder / 'crawl.toml'}")


if __name__ == "__main__":
    main()
