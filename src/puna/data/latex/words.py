"""Names of LaTeX that decide what is done with a command or an environment."""

from __future__ import annotations

# Environments whose text TeX does not read as commands: a % in them is a %, and no macro is expanded.
VERBATIM = {
    *("verbatim", "verbatim*", "Verbatim", "Verbatim*", "BVerbatim", "LVerbatim", "SaveVerbatim", "lstlisting"),
    *("lstlisting*", "minted", "alltt", "listing*", "filecontents", "filecontents*", "pycode", "Sinput", "Soutput"),
    *("CodeInput", "CodeOutput", "Code", "tcblisting", "pyverbatim", "VerbatimOut", "boxedverbatim"),
}
VERBATIM_COMMANDS = {"verb", "lstinline", "mintinline", "url", "path", "nolinkurl", "href"}
DELIMITED = {"verb", "lstinline", "mintinline", "url", "path", "nolinkurl"}  # that may be written \verb|...|
COMMENT = {"comment"}

# TeX's conditionals; a command that only begins with "if", such as \iff or \ifthenelse, is none.
CONDITIONALS = {
    *("if", "ifcat", "ifx", "ifnum", "ifdim", "ifodd", "ifvmode", "ifhmode", "ifmmode", "ifinner", "ifvoid", "ifhbox"),
    *("ifvbox", "ifeof", "iftrue", "iffalse", "ifcase", "ifdefined", "ifcsname", "iffontchar", "ifpdf", "ifxetex"),
    *("ifluatex", "ifincsname", "ifpdftex", "ifabsnum", "ifabsdim", "ifprimitive"),
}

INPUTS = ("input", "include", "subfile", "import", "subimport", "includefrom", "inputfrom", "subincludefrom")
PACKAGES = ("usepackage", "RequirePackage", "documentclass", "documentstyle", "LoadClass", "LoadClassWithOptions")
NEW = ("newcommand", "renewcommand", "providecommand", "DeclareRobustCommand")
DEF = ("def", "gdef", "edef", "xdef")
OPERATOR = "DeclareMathOperator"
ENVIRONMENT = ("newenvironment", "renewenvironment")
DEFINING = (*NEW, *DEF, *ENVIRONMENT, OPERATOR, "let")
PREFIXES = ("long", "global", "protected", "outer")

HEADINGS = ("part", "chapter", "section")
# What a paper is cut by, and what reads text otherwise: a macro of the paper's that takes one of these names is left.
STRUCTURE = {
    *(*INPUTS, *PACKAGES, *DEFINING, *PREFIXES, *HEADINGS, *VERBATIM_COMMANDS, *CONDITIONALS, "begin", "end"),
    *("subsection", "subsubsection", "paragraph", "subparagraph", "appendix", "bibliography", "bibliographystyle"),
    *("printbibliography", "printbibheading", "bibitem", "endinput", "else", "fi", "or", "par", "item", "title"),
    *("label", "caption", "footnote", "maketitle", "document", "enddocument"),
}
STRUCTURE_ENVIRONMENTS = {
    *(*VERBATIM, *COMMENT, "document", "thebibliography", "appendix", "appendices", "abstract", "references"),
}
# A macro that holds one of these is a program: written out it would be no more readable than its name.
PROGRAMMING = {
    *(
        *CONDITIONALS,
        "else",
        "fi",
        "or",
        "csname",
        "endcsname",
        "expandafter",
        "noexpand",
        "futurelet",
        "afterassignment",
    ),
    *("catcode", "lccode", "uccode", "aftergroup", "loop", "repeat", "advance", "multiply", "divide", "newif"),
    *("setcounter", "addtocounter", "newcount", "newdimen", "newbox", "setbox", "read", "write", "openin", "openout"),
    *("ifthenelse", "whiledo", "begingroup", "endgroup", "everypar", "hrule", "vrule", "halign", "valign", "output"),
}

BIBLIOGRAPHY = ("bibliography", "bibliographystyle", "printbibliography", "printbibheading", "nobibliography")
BIBLIOGRAPHIES = {
    "thebibliography",
    "references",
    "REFERENCES",
    "biblist",
    "bibdiv",
    "mcitethebibliography",
    "refcontext",
}
BIBLIOGRAPHY_TITLES = {
    *(
        "references",
        "reference",
        "bibliography",
        "literature",
        "literature cited",
        "references and notes",
        "references cited",
    ),
    *("works cited", "notes and references", "selected references", "selected bibliography"),
}
APPENDICES = {"appendix", "appendices", "subappendices"}
