"""What the templates that stand inside sentences mean, as text.

A template's meaning is the wiki's own program, which a dump does not run, so templates are dropped, but for the ones
here: their text is part of a sentence that would otherwise lose a quantity, a name, a date or a sign.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from puna.data.wiki.words import names

RAISED = str.maketrans("0123456789+-−–n", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁻ⁿ")
LOWERED = str.maketrans("0123456789+-−–n", "₀₁₂₃₄₅₆₇₈₉₊₋₋₋ₙ")
SIMPLE = re.compile(r"[-+−–n0-9]+")


@dataclass(frozen=True, slots=True)
class Arguments:
    """A template's arguments as clean text: those without a name in order, the others by name."""

    positional: list[str] = field(default_factory=list)
    named: dict[str, str] = field(default_factory=dict)
    language: str = "en"

    def __getitem__(self, index: int) -> str:
        return self.positional[index] if index < len(self.positional) else ""


Rule = Callable[[Arguments], str]


def rule(name: str) -> Rule | None:
    """The rule for a template by its name as written; None where it is to be dropped."""
    name = normal(name)
    known = RULES.get(name)
    if known is None and name.startswith("lang-"):
        return _first
    if known is None and re.fullmatch(r"[ivx]+e siècle", name):
        return _said(f"{name.partition('e ')[0].upper()}e siècle")
    return known


def normal(name: str) -> str:
    """A template's name as it is compared: without namespace and comments, lower case, single spaces."""
    name = re.sub(r"<!--.*?-->", "", name, flags=re.DOTALL)
    name = " ".join(name.replace("_", " ").split()).lower()
    return name.removeprefix(":").removeprefix("template:").strip()


def superscript(text: str) -> str:
    """Digits and signs raised; other text as it is."""
    return text.translate(RAISED) if SIMPLE.fullmatch(text) else text


def subscript(text: str) -> str:
    """Digits and signs lowered, so that 20 to the base 16 is not 2016; other text as it is."""
    return text.translate(LOWERED) if SIMPLE.fullmatch(text) else text


def _first(given: Arguments) -> str:
    return given[0]


def _last(given: Arguments) -> str:
    return next((value for value in reversed(given.positional) if value), "")


def _said(text: str) -> Rule:
    return lambda given: text


def _behind(prefix: str) -> Rule:
    return lambda given: f"{prefix}{given[0]}" if given[0] else ""


UNITS = {
    "sqmi": "sq mi", "sqft": "sq ft", "sqkm": "km²", "cuft": "cu ft", "cumi": "cu mi", "C": "°C", "F": "°F",
    "kph": "km/h", "kn": "knots", "usgal": "US gal", "impgal": "imp gal", "lbs": "lb", "LT": "long tons",
    "ST": "short tons", "MT": "t", "acre": "acres", "/sqmi": "per sq mi", "PD/sqmi": "per sq mi", "/km2": "per km²",
    "PD/km2": "per km²",
}  # fmt: skip
OF_VALUES = {"C": "C", "F": "F", "degC": "°C", "degF": "°F"}  # to val, C is the coulomb and F the farad
LONGEST_NUMBER = 100  # digits; Python refuses to read 4,300, and no quantity has as many as this
SMALLER = {"in", "oz", "ft", "yd", "lb", "lbs", "st", "ch", "rd", "cwt", "d", "s", "c"}  # second unit: 5 ft 11 in
BETWEEN = {
    "-": "–", "–": "–", "to": " to ", "and": " and ", "&": " and ", "or": " or ", "x": " × ", "by": " by ", "*": " × ",
    "×": " × ", "+/-": " ± ", "±": " ± ", "to(-)": "–", "and(-)": " and ", "-_": "–",
}  # fmt: skip


def _convert(given: Arguments) -> str:
    """The quantity as it was measured: 10 km, 5 ft 11 in, 10 to 20 °C. What it is converted to is dropped."""
    values = [value.strip() for value in given.positional]
    text, index = "", 0
    while index < len(values) and (number := values[index]):
        text += _grouped(number) if given.language == "en" else number
        following = values[index + 1] if index + 1 < len(values) else ""
        if following in BETWEEN:
            text += BETWEEN[following]
            index += 2
            continue
        text += f" {_unit(following)}" if following else ""
        index += 2
        more = values[index : index + 2]
        if len(more) < 2 or not re.fullmatch(r"[\d.,/+⁄½¼¾]+", more[0]) or more[1] not in SMALLER:
            break
        text += " "
    return text.replace("−", "-").strip()


def _grouped(number: str) -> str:
    return re.sub(r"(?<![\d.,])\d{5,}(?![\d,])", _in_thousands, number)


def _in_thousands(digits: re.Match[str]) -> str:
    return f"{int(digits[0]):,}" if len(digits[0]) <= LONGEST_NUMBER else digits[0]


def _unit(code: str) -> str:
    return UNITS.get(code) or re.sub(r"(?<=[a-z])[23](?![\d-])", lambda power: superscript(power[0]), code)


MONTHS = [
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
]  # fmt: skip


def _date(given: Arguments) -> str:
    """Year, month and day as the language's readers write them; a date already in words as it is."""
    values = [value.strip() for value in given.positional if value.strip()]
    if len(values) > 1 and not all(value.isdecimal() for value in values[:3]):
        return " ".join(values[:3])
    if len(values) < 2:
        return " ".join(values)
    year, month, day = values[0], int(values[1][:2]), values[2] if len(values) > 2 else ""
    if not 1 <= month <= 12:
        return " ".join(values[:3])
    if given.language != "en":
        return "-".join([year, f"{month:02d}", f"{int(day[:2]):02d}"] if day else [year, f"{month:02d}"])
    if not day:
        return f"{MONTHS[month - 1]} {year}"
    if given.named.get("df", "n")[:1] in "y1":
        return f"{day} {MONTHS[month - 1]} {year}"
    return f"{MONTHS[month - 1]} {day}, {year}"


def _as_of(given: Arguments) -> str:
    if "alt" in given.named:
        return given.named["alt"]
    month = int(given[1]) if re.fullmatch(r"0?[1-9]|1[0-2]", given[1]) else 0
    date = " ".join(part for part in (given[2], MONTHS[month - 1] if month else given[1], given[0]) if part)
    since = "since" if "since" in given.named else "as of"
    return f"{since if given.named.get('lc') else since.capitalize()} {date}"


def _value(given: Arguments) -> str:
    number = given[0] + (f"±{given[1]}" if given[1] else "")
    power = given.named.get("e") or given.named.get("10^")
    number += f"×10{superscript(power)}" if power else ""
    unit = _unit_of_value(given.named.get("u") or given.named.get("ul") or "")
    per = _unit_of_value(given.named.get("up") or given.named.get("upl") or "")
    return f"{number} {unit}".strip() + (f"/{per}" if per else "")


def _unit_of_value(code: str) -> str:
    return OF_VALUES.get(code) or _unit(code)


def _fraction(given: Arguments) -> str:
    values = [value.strip() for value in given.positional if value.strip()]
    if len(values) > 2:
        return f"{values[0]} {values[1]}/{values[2]}"
    return "/".join(values if len(values) == 2 else ["1", *values])


def _ship(given: Arguments) -> str:
    return " ".join(part for part in given.positional[:2] if part)


def _ship_of(prefix: str) -> Rule:
    return lambda given: f"{prefix} {given[0]}"


def _japanese(given: Arguments) -> str:
    inside = ", ".join(part for part in given.positional[1:3] if part)
    return f"{given[0]} ({inside})" if given[0] and inside else given[0] or inside


def _quotation(given: Arguments) -> str:
    said = given.named.get("text") or given.named.get("quote") or given.named.get("1") or given[0]
    return f"\n\n{said.strip()}\n\n" if said.strip() else ""


def _items(given: Arguments) -> str:
    return "\n" + "".join(f"\x05 {item.strip()}\n" for item in given.positional if item.strip())


def _body(given: Arguments) -> str:
    return f"\n{given.named.get('content') or _last(given)}\n"


def _isotope(given: Arguments) -> str:
    return f"{given[0]}-{given[1]}" if given[1] else given[0]


def _years(prefix: str) -> Rule:
    return lambda given: prefix + "–".join(part for part in given.positional[:2] if part)


def _century(given: Arguments) -> str:
    return f"{given[0]}{given[1] or 'e'} siècle" if given.language == "fr" else given[0]


_FAMILIES: list[tuple[str, Rule]] = [
    ("convert|cvt|conv|conversie|unité|unite|unidad|unit", _convert),
    ("lang|langue|rtl-lang|ltr-lang|nativename|native name", lambda given: given[1] or given[0]),
    ("transl|transliteration|translit|script|polytonic|unicode|hebrew|arabic", _last),
    (
        "nowrap|nobr|nobreak|nobold|small|smaller|big|larger|midsize|abbr|tooltip|sic|em|strong|sc|smallcaps|smallcaps2|"
        "allcaps|math|mvar|var|mono|code|tt|kbd|samp|ipa|ill|interlanguage link|vanchor|visible anchor|flag|"
        "flagcountry|flagu|nihongo2|resize|not a typo|keypress|key|comment|число|formatnum|lc|uc|lcfirst|ucfirst|chem2|"
        "angbr ia|as written|ta|szám|fmtn|nts|linktext",
        _first,
    ),
    ("as of", _as_of),
    ("date|start date|end date|start-date|birth date|death date|birth-date|death-date|dts|release date", _date),
    ("birth date and age|death date and age|date de naissance|date de décès|date-|date de naissance-", _date),
    ("circa|c.|ca|ca.", _behind("c. ")),
    ("floruit|fl.", _behind("fl. ")),
    ("reign|r.", _years("r. ")),
    ("val|nombre", _value),
    ("frac|fraction|sfrac|xfrac", _fraction),
    ("chem|chemical formula", lambda given: "".join(map(subscript, given.positional))),
    ("e|exp|10^", lambda given: f"×10{superscript(given[0])}"),
    ("sup|exponent", lambda given: superscript(given[0])),
    ("sub|ind", lambda given: subscript(given[0])),
    ("ship|sclass|sclass-", _ship),
    ("nihongo|nihongo foot|japanese", _japanese),
    ("quote|cquote|bquote|blockquote|quotation|centered pull quote|citation bloc|cita|zitat", _quotation),
    ("unbulleted list|ubl|hlist|bulleted list|ordered list|unordered list|flowlist", _items),
    ("plainlist|flatlist|columns-list|div col|colonnes|multicol|poem", _body),
    ("nuclide|nuclide2", _isotope),
    ("angbr|angle bracket|vr", lambda given: f"⟨{given[0]}⟩"),
    ("railgauge|track gauge", lambda given: re.sub(r"(?<=\d)mm", " mm", given[0])),
    ("music", lambda given: {"flat": "♭", "sharp": "♯", "natural": "♮", "b": "♭", "#": "♯"}.get(given[0], "")),
    ("siècle|s|s-", _century),
    ("séc", _behind("século ")),
    ("segle", _behind("segle ")),
    ("нп3|нп4|нп5|не переведено|не переведено 3|не переведено 5", lambda given: given[1] or given[0]),
    ("p.", _behind("p. ")),
    ('"', lambda given: f"„{given[0]}“"),
    ("literal translation|lit", lambda given: f"lit. '{given[0]}'"),
    ("'|'-|apostrophe", _said("'")),
    ("'s|'s-", _said("'s")),
    ("' \"", _said("' \"")),
    ("\" '", _said("\" '")),
    ("=|equals", _said("=")),
    ("ndash|endash", _said("–")),
    ("mdash|emdash|mdashb", _said("—")),
    ("snd|spaced ndash|spnd|–", _said(" – ")),
    ("nbsp|thinsp|space|spaces|hair space|thin space", _said(" ")),
    ("dot|·|•|middot|bullet", _said(" · ")),
    ("pi", _said("π")),
    ("times", _said("×")),
    ("minus", _said("-")),
    ("euro", _behind("€")),
    ("gbp", _behind("£")),
    ("us$", _behind("US$")),
    ("inr", _behind("₹")),
]  # fmt: skip
RULES: dict[str, Rule] = {name: apply for family, apply in _FAMILIES for name in names(family)}
RULES |= {ship: _ship_of(ship.upper()) for ship in names("uss|hms|hmas|hmcs|rms|ss|ms|mv|ins|sms|hnlms|usat|usns")}

# Remarks of editors about a text: they leave no gap behind that would need mending.
REMARKS = names(
    """citation needed|cn|fact|clarify|when|who|which|where|why|by whom|according to whom|dubious|sfn|sfnp|sfnm|rp|efn
refn|r|ref|ref label|note label|note|efn-ua|efn-lr|page needed|verify source|failed verification|full
better source|update inline|update after|relevance inline|disputed inline|specify|vague|quantify|harv|harvnb
harvtxt|ref harvard|dead link|cite web|cite book|cite journal|cite news|citation|disambiguation needed|dn|anchor
refnest|weasel inline|non-primary source needed|primary source inline|self-published source|attribution needed
needs update|fn|réf. nécessaire|référence nécessaire|cita requerida|senza fonte|brak przypisu|carece de fontes
нет аи|källa behövs"""
)
