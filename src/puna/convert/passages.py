"""The text on which an export is compared with the model that it was made from: prose, code, numbers, other scripts.

It is written here, so that the comparison is the same everywhere and needs no network; all of it was written for this
file. `PASSAGES` are read by the models, `SPELLINGS` only by the tokenizers.
"""

from __future__ import annotations

PASSAGES = (
    "The harbour froze in the third week of January, and for nine days no boat left it. People walked out on the ice "
    "as far as the old lighthouse, sold tea from sledges, and said that their grandparents had done the same.",
    "A proof by induction has two parts. First the statement is shown for the smallest number. Then, assuming it for "
    "some n, it is shown for n + 1. From both together it follows for every number, since each is reached in the end.",
    'def median(values):\n    """The middle of sorted values; the mean of two for an even count."""\n'
    "    ordered = sorted(values)\n    half = len(ordered) // 2\n    if len(ordered) % 2:\n"
    "        return ordered[half]\n    return (ordered[half - 1] + ordered[half]) / 2\n",
    '#include <stdio.h>\n\nint main(void) {\n\tfor (int i = 0; i < 10; i++) {\n\t\tprintf("%d\\n", i * i);\n\t}\n'
    "\treturn 0;\n}\n",
    "In 1905 the line carried 12,480 passengers; by 1913 it was 1,204,771, of whom 38.6% travelled third class. The "
    "fare rose from £0.25 to £0.40, while wages went from 3 to 4 pounds a week.",
    "Question: Which is heavier, a litre of water or a litre of oil?\nAnswer: The water. Oil floats on it, which it "
    "does because the same volume of it weighs less.\n\nQuestion: Why does ice float then?\nAnswer:",
    "Der Zug fuhr über die Brücke, als die Sonne schon hinter den Hügeln stand; niemand außer dem Schaffner sah es. "
    "L'été dernier, nous avons mangé des cerises près de la forêt. ¿Dónde está el niño? Está en el jardín.",
    "В начале весны река поднялась и залила нижние улицы. 春になると、川沿いの桜が一斉に咲き始める。"
    " 从前有一座山，山上有一座庙。 في الصباح الباكر خرج الصياد إلى البحر. Το πλοίο έφυγε νωρίς.",
    '{"name": "lamp", "watts": 9.5, "tags": ["warm", "E27"], "stock": null}\n'
    '{"name": "fuse", "watts": 0, "tags": []}\n',
    "Dear Anna,\n\nthank you for the parcel!  The jam arrived whole, the letter less so:  page two is missing. "
    "Did you mean to come on the 14th or the 24th?\n\nYours,\n  Jonas\n\nP.S. The cat is well. 🐈\n",
)

SPELLINGS = (
    "",
    " ",
    "a",
    "  two spaces   three    four     five",
    "\n\n\n\t\tx = 1\n    \n        y\r\n",
    "0123456789 3.14159 1,000,000 2^63 1e-5 ½ ٣٤٥ 一二三",
    "🙂🙃 👩‍👩‍👧‍👦 🇪🇺 e\u0301 é ﬁ \u00a0\u200b\u2003x",
    "don't DON'T we'll I'M y'all's 's 'S",
    "ไทย हिन्दी עברית 한국어 ქართული አማርኛ",
    "\x00\x01\x7f\x80\ufffd\ufeff",
    "aaaaaaaaaaaaaaaaaaaaaaa ======== -------- ........ ________",
    "https://example.org/a_b?c=d&e=%20f#g <p class='x'>&amp;</p> $x_{i+1}^2$ \\frac{1}{2}",
    "the the the   the\tthe\nthe \n the",
    "a▁b ▁▁ ▁",
)

# Written as control pieces often are; in a text they are text.
CONTROLS = ("<s>a</s>", "<unk> <0x0A>", "<|endoftext|>", "<|im_start|>user\n")
