"""A paper's title as people read it: what LaTeX writes as a command becomes the character that it prints.

Only titles: they stand in lists and in the origin of a document, while a document's text stays LaTeX (paper, section
2.1). Formulas keep their letters and lose their dollars; what only places or sizes text goes, as notes do. A command
that nobody here knows goes too, and its arguments stay. One pass, so that a title of any length takes time in
proportion to it.
"""

from __future__ import annotations

import re
import unicodedata

TOKEN = re.compile(
    r"\\\\\*?(?:\[[^]\n]{0,40}\])?"  # a line's end, and how far it is from the next
    r"|\\(?P<name>[A-Za-z@]+)\*?[ \t\n]*"
    r"|\\(?P<sign>[^A-Za-z@])"
    r"|---?|``|''|[{}$~]|[^\\{}$~`'-]+|.",
    re.DOTALL,
)
ACCENTS = {
    "'": "\u0301", "`": "\u0300", "^": "\u0302", '"': "\u0308", "~": "\u0303", "=": "\u0304", ".": "\u0307",
    "c": "\u0327", "v": "\u030c", "u": "\u0306", "H": "\u030b", "k": "\u0328", "r": "\u030a", "b": "\u0331",
    "d": "\u0323",
}  # fmt: skip
_NAMED = """
ss ß o ø O Ø l ł L Ł ae æ AE Æ oe œ OE Œ aa å AA Å i ı j ȷ dh ð DH Ð th þ TH Þ S § P ¶ pounds £ copyright ©
textendash – textemdash — textquoteright ’ textquoteleft ‘ textregistered ® texttrademark ™
textdegree ° LaTeX LaTeX TeX TeX
alpha α beta β gamma γ delta δ epsilon ϵ varepsilon ε zeta ζ eta η theta θ vartheta ϑ iota ι kappa κ lambda λ mu μ
nu ν xi ξ pi π varpi ϖ rho ρ varrho ϱ sigma σ varsigma ς tau τ upsilon υ phi ϕ varphi φ chi χ psi ψ omega ω
Gamma Γ Delta Δ Theta Θ Lambda Λ Xi Ξ Pi Π Sigma Σ Upsilon Υ Phi Φ Psi Ψ Omega Ω
infty ∞ times × to → rightarrow → leftarrow ← leftrightarrow ↔ Rightarrow ⇒ mapsto ↦ ell ℓ hbar ℏ leq ≤ le ≤ geq ≥
ge ≥ neq ≠ ne ≠ sim ∼ simeq ≃ approx ≈ equiv ≡ pm ± mp ∓ cdot · ldots … dots … cdots ⋯ sqrt √ otimes ⊗ oplus ⊕ wedge ∧
vee ∨ in ∈ subset ⊂ subseteq ⊆ cup ∪ cap ∩ partial ∂ nabla ∇ sum ∑ prod ∏ int ∫ forall ∀ exists ∃ star ⋆ ast ∗
circ ∘ bullet • dagger † prime ′ ll ≪ gg ≫ perp ⊥ parallel ∥ propto ∝ langle ⟨ rangle ⟩ aleph ℵ Re ℜ Im ℑ
"""
NAMED = dict(zip(_NAMED.split()[::2], _NAMED.split()[1::2], strict=True))
DOTLESS = {"i": "i", "j": "j"}  # what an accent stands on in their place
SPACES = frozenset(("newline", "linebreak", "break", "quad", "qquad", "space", "par", "enspace", "thinspace", "and"))
WITH_ARGUMENT = frozenset(
    ("thanks", "footnote", "footnotemark", "footnotetext", "tnoteref", "fnref", "corref", "label", "cite", "citep",
     "citet", "ref", "href", "vspace", "hspace", "vskip", "raisebox", "rule", "color", "textcolor", "fontsize",
     "fontseries", "fontshape", "fontfamily", "fontencoding", "thispagestyle", "includegraphics")
)  # fmt: skip
"""Commands that take what stands in the braces behind them with them: a note, a colour, a length."""
FRACTIONS = frozenset(("frac", "tfrac", "dfrac", "nicefrac", "sfrac"))
STYLE = re.compile(
    r"math[a-z]+|text[a-z]*|[bdi]?bold[a-z]*|bm|operatorname|left|right|[Bb]igg?[lr]?|rm|bf|it|tt|sf|sl|sc|em|cal"
    r"|[mh]box|ensuremath|displaystyle|limits|nolimits"
)
"""In a formula: commands that print nothing. Any other of an unknown name is an operator, which prints its name."""
SIGNS = {**dict.fromkeys(",;: \n\t", " "), **dict.fromkeys("/!-()[]", "")}
PLAIN = {"{": "", "}": "", "~": " ", "---": "—", "--": "–", "``": "“", "''": "”"}


def readable(title: str) -> str:
    """`title` without LaTeX, its white space as single spaces, in Unicode's composed form (NFC).

    >>> readable(r"\\textbf{Poincar\\'e} maps~of $\\alpha^2$ \\\\ and more\\thanks{To all.}")
    'Poincaré maps of α^2 and more'
    """
    tokens = list(TOKEN.finditer(title))
    closing = _closing(tokens)
    slashes: set[int] = set()
    out: list[str] = []
    accent, formula, at = "", False, 0
    while at < len(tokens):
        token, text = tokens[at], tokens[at][0]
        name = token["name"] or ""
        at += 1
        if name in ACCENTS or (token["sign"] or "") in ACCENTS:
            accent = ACCENTS[name or token["sign"]]
            continue
        if text == "$" or token["sign"] in ("(", ")"):
            formula = not formula
            continue
        if name in FRACTIONS and at in closing:
            slashes.add(closing[at])
        elif (name == "texorpdfstring" and at in closing) or (name in WITH_ARGUMENT and at in closing):
            at = closing[at] + 1
        found = _printed(token, formula, bool(accent))
        if text == "}" and at - 1 in slashes:
            found = "/"
        if accent and found:
            found, accent = found[0] + accent + found[1:], ""
        out.append(found)
    return unicodedata.normalize("NFC", " ".join("".join(out).split()))


def _printed(token: re.Match[str], formula: bool, accented: bool) -> str:
    text, name, sign = token[0], token["name"], token["sign"]
    if name:
        if accented and name in DOTLESS:
            return DOTLESS[name]
        if name in NAMED:
            return NAMED[name] + (" " if formula and text[-1].isspace() else "")
        if name in SPACES:
            return " "
        return f"{name} " if formula and not STYLE.fullmatch(name) and name not in WITH_ARGUMENT | FRACTIONS else ""
    if sign:
        return SIGNS.get(sign, str(sign))
    return " " if text.startswith("\\\\") else "" if text == "\\" else PLAIN.get(text, text)


def _closing(tokens: list[re.Match[str]]) -> dict[int, int]:
    """The number of the token that closes each `{`, by the number of that."""
    opened: list[int] = []
    found = {}
    for number, token in enumerate(tokens):
        if token[0] == "{":
            opened.append(number)
        elif token[0] == "}" and opened:
            found[opened.pop()] = number
    return found
