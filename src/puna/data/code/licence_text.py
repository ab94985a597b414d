"""Which licence a LICENSE or COPYING file holds, told by its text and not by its name.

A text is brought to its bare words, and what is left after every known licence has been taken out of it is counted: a
text of MIT with one more condition (such as "for Good, not Evil") is not MIT. The three families are recognised by
their whole wording, Apache-2.0 by the digest of its terms; all others by phrases that only they have, since to be named
is enough for them to be refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import xxhash

MAX_TEXT = 256_000  # characters; no licence is longer, and what is longer is read so far
SPARE = 40  # words beside a licence that may stand there when none of them is a BOUND one: its title, names, addresses
BOUND = frozenset(
    {
        "not",
        "no",
        "only",
        "must",
        "may",
        "shall",
        "except",
        "unless",
        "prohibited",
        "forbidden",
        "commercial",
        "consent",
    }
)
NAMED_FILE = re.compile(
    r"(licen[cs]es?|copying|unlicen[cs]e|copyright)([-_.](?!py$|pyi$|js$|ts$|go$|rs$|c$|h$|java$)[\w.+-]*)?",
    re.IGNORECASE,
)

_NOTICE = re.compile(
    r"^\W*(portions\s+)?(copyright(ed)?\b(?!\s+(notice|holder|owner|"
    r"licen[cs]e|law|interest|statement))|\(c\)\s*\d{4}|©).*$|"
    r"^.*\ball rights reserved\W*$",
    re.IGNORECASE | re.MULTILINE,
)
_HOLDERS = r"(?:\S+ ){1,30}?"
_MIT_GRANT = (
    r"permission is hereby granted free of charge to any person obtaining a copy of this software and (?:/or )?"
    r"associated documentation files the software to deal in the software without restriction including without "
    r"limitation the rights to use copy modify merge publish distribute sublicense and or sell copies of the software "
    r"and to permit persons to whom the software is furnished to do so"
)
_MIT_END = (
    r" the software is provided as is without warranty of any kind express or implied including but not limited to the "
    r"warranties of merchantability fitness for a particular purpose and noninfringement in no event shall "
    rf"{_HOLDERS}be liable for any claim damages or other liability whether in an action of contract tort or "
    r"otherwise arising from out of or in connection with the software or the use or other dealings in the software"
)
_BSD_GRANT = (
    r"redistribution and use(?: of this software)? in source and binary forms(?: of the software as well as "
    r"documentation)? with or without modification are permitted provided that the following conditions are met "
)
_BSD_SOURCE = (
    r"(?:1 |a |i )?(?:the )?redistributions of source code must retain the above copyright notice this list "
    r"of conditions "
    r"and the following disclaimer(?: in this position and unchanged)? "
)
_BSD_BINARY = (
    r"(?:2 |b |ii )?(?:the )?redistributions in binary form must reproduce the above copyright notice this list of "
    r"conditions and the following disclaimer in the documentation and or other materials provided with the "
    r"distribution "
)
_BSD_NAMES = (
    rf"(?:3 |c |iii )?(?:neither (?:the )?names? (?:of )?{_HOLDERS}nor the names? of {_HOLDERS}may be used "
    rf"to endorse or promote "
    rf"products derived from this software without specific prior written permission|the names? (?:of )?{_HOLDERS}"
    r"may not be used to endorse or promote products derived from this software without specific prior written "
    r"permission) "
)
_BSD_END = (
    rf"this software is provided by {_HOLDERS}as is and any express or implied warranties including but not limited to "
    r"the implied warranties of merchantability and fitness for a particular purpose are disclaimed in no event shall "
    rf"{_HOLDERS}be liable for any direct indirect incidental special exemplary or consequential damages including but "
    r"not limited to procurement of substitute goods or services loss of use data or profits or business interruption "
    r"however caused and on any theory of liability whether in contract strict liability or tort including "
    r"negligence or "
    r"otherwise arising in any way out of the use of this software even if advised of the possibility of such damage"
)
_FREE = (
    r"permission to use copy modify and (?:or )?distribute this software (?:and its documentation )?for any purpose "
)
_WITHOUT_FEE = r"with or without fee is hereby granted"
_MIT_NOTICE = (
    r"(?: provided that| subject to the following conditions) the above copyright notice (?:s )?(?:including the next "
    r"paragraph )?and this permission notice(?: including the next paragraph)? "
    r"(?:shall be included in|appear in) all copies or substantial portions of the software"
)
# Whole wordings of what may be read, each removed from the text where it stands.
WHOLE = {
    "MIT": re.compile(_MIT_GRANT + _MIT_NOTICE + _MIT_END),
    "MIT-0": re.compile(_MIT_GRANT + _MIT_END),
    "BSD-3-Clause": re.compile(_BSD_GRANT + _BSD_SOURCE + _BSD_BINARY + _BSD_NAMES + _BSD_END),
    "BSD-2-Clause": re.compile(_BSD_GRANT + _BSD_SOURCE + _BSD_BINARY + _BSD_END),
    "BSD-1-Clause": re.compile(_BSD_GRANT + _BSD_SOURCE + _BSD_END),
    "0BSD": re.compile(
        _FREE + _WITHOUT_FEE + r" the software is provided as is and the author disclaims all warranties.{0,600}?"
        r"in connection with the use or performance of this software"
    ),
}
_APACHE = re.compile(
    r"terms and conditions for use reproduction and distribution .*?accepting any such warranty or additional liability"
)
APACHE = "793e2bd1edd6a6ef"  # xxh3-64 of the nine terms as bare words; one in all copies seen
_APPENDIX = re.compile(
    r"end of terms and conditions|appendix how to apply the apache license to your work .*?limitations "
    r"under the license"
)
_APACHE_NOTICE = re.compile(
    r"licensed under the apache license version 2 0 the license you may not use this file except in "
    r"compliance with the "
    r"license you may obtain a copy of the license at https? www apache org licenses license 2 0 unless required by "
    r"applicable law or agreed to in writing software distributed under the license is distributed on an as is basis "
    r"without warranties or conditions of any kind either express or implied see the license for the specific language "
    r"governing permissions and limitations under the license"
)
# Phrases of all others, the more special first.
PHRASES = {
    "AGPL-3.0": r"gnu affero general public license",
    "LGPL": r"gnu (lesser|library) general public license|\blgpl\b",
    "GPL": r"gnu general public license|\bgpl(v\d)?\b",
    "GFDL": r"gnu free documentation license",
    "MPL": r"mozilla public license",
    "EPL": r"eclipse public license",
    "CDDL": r"common development and distribution license",
    "EUPL": r"european union public licen[cs]e",
    "PSF-2.0": r"psf license agreement|python software foundation license",
    "CC0-1.0": r"cc0 1 0 universal|creative commons legal code cc0",
    "CC-BY": r"creative commons (attribution|legal code)",
    "Unlicense": r"free and unencumbered software released into the public domain",
    "BSL-1.0": r"boost software license version 1 0",
    "Zlib": r"the origin of this software must not be misrepresented",
    "BSD-4-Clause": r"all advertising materials mentioning features or use of this software",
    "JSON": r"shall be used for good not evil",
    "Commons-Clause": r"commons clause",
    "BUSL-1.1": r"business source license",
    "SSPL-1.0": r"server side public license",
    "NCSA": r"university of illinois|ncsa open source license",
    "Artistic": r"the artistic license",
    "WTFPL": r"do what the fuck you want to",
    "MIT-CMU": _FREE + r"and without fee is hereby granted",
    "ISC": _FREE + _WITHOUT_FEE,
}
_OTHERS = {name: re.compile(phrase) for name, phrase in PHRASES.items()}


@dataclass(frozen=True)
class Found:
    """What a licence file holds."""

    known: tuple[str, ...] = ()
    """SPDX ids of the whole wordings in it, sorted."""
    others: tuple[str, ...] = ()
    """Licences that what is left of it names, sorted: GPL, ISC, ..."""
    spare: int = 0
    """Words that belong to none of them."""
    bound: bool = False
    """Whether one of these may set a condition of its own."""

    @property
    def is_whole(self) -> bool:
        """Whether the text says nothing beside licences that may be read."""
        return bool(self.known) and not self.others and self.spare <= SPARE and not self.bound

    @property
    def expression(self) -> str:
        """All that it names, which all must be allowed; "" when that is nothing."""
        return " AND ".join([*self.known, *self.others])


@lru_cache(maxsize=256)
def recognised(text: str) -> Found:
    """The licences that a text holds. Many projects share one text, so the last few hundred are remembered."""
    rest = words(text)
    known = set()
    for match in reversed(list(_APACHE.finditer(rest))):
        if xxhash.xxh3_64_hexdigest(match[0].encode()) == APACHE:
            known.add("Apache-2.0")
            rest = rest[: match.start()] + rest[match.end() :]
    if known:
        rest = _APPENDIX.sub(" ", rest)
    for name, pattern in WHOLE.items():
        rest, times = pattern.subn(" ", rest)
        if times:
            known.add(name)
    rest, times = _APACHE_NOTICE.subn(" ", rest)
    if times:
        known.add("Apache-2.0")
    others = [name for name, pattern in _OTHERS.items() if pattern.search(rest)]
    left = rest.split()
    return Found(tuple(sorted(known)), tuple(sorted(others)), len(left), not BOUND.isdisjoint(left))


def words(text: str) -> str:
    """A text as lower-case words with single spaces, without copyright lines, marks and comment signs."""
    text = _NOTICE.sub(" ", text[:MAX_TEXT])
    text = text.lower().replace("licence", "license")
    text = re.sub(r"\(s\)", "s", text)
    return " ".join(re.findall(r"[a-z0-9]+(?:'[a-z]+)?", text))


def copyright_lines(text: str, most: int = 20) -> list[str]:
    """The lines of a text that give notice of copyright, as they stand, without comment signs."""
    found = (
        " ".join(match[0].split()).lstrip(" #/*;%-!<>").rstrip(" */#-") for match in _NOTICE.finditer(text[:MAX_TEXT])
    )
    said = [
        line[:300] for line in found if re.search(r"\w", line) and not re.fullmatch(r"(?i)all rights reserved\W*", line)
    ]
    return list(dict.fromkeys(said))[:most]
