r"""Numbers as people write them, read exactly: ``number_of`` gives the one number that a text says.

Known are signs, marks of thousands, fractions, mixed numbers, powers and scientific notation; currencies, units and
names around them; LaTeX, Markdown and Unicode. What says two numbers, or one that can be read in two ways, says none:
what parts two numbers is never taken away.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache

LONGEST = 400
"""Characters of a text that can be a number."""
DIGITS = 3000
"""How many digits a power may have."""
MOST_WORDS = 8
"""How many words a unit may have, as in cups of tea."""
APART = "   "
"""Stands for what was taken away; a mark of thousands is one space alone."""

PARTING = "\u2061\u2062\u2063\u2064"
"""Signs that nobody sees and that mean one: apply, times, comma and plus."""
SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻₀₁₂₃₄₅₆₇₈₉", "0123456789+-0123456789")
SIGNS = str.maketrans(dict.fromkeys("−‐‑‒–﹣－", "-") | dict.fromkeys("×·⋅∙∗", "*") | dict.fromkeys("÷∕⁄", "/"))
MONEY = "$¢£¤¥€₦₩₪₫₱₹₺₽₿฿"
LAYOUT = (
    r"displaystyle|textstyle|left|right|[bB]ig+[lr]?|large|Large|bf|it|rm|sf|tt|bfseries|itshape|limits|quad|qquad|\\"
)
FONT = (
    r"text(?:bf|it|rm|sf|tt|sc|up|normal)?|math(?:bf|it|rm|sf|tt|normal)|mbox|hbox|fbox|boxed|boldsymbol|bold|pmb|bm|emph|"
    r"underline|operatorname"
)
FOR_TEX: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), instead)
    for pattern, instead in (
        (r"\{,\}|,\\!", ","),
        (r"\\!", APART),
        (r"\\[,;: ]|~|\\(?:thin|med|thick)space(?![A-Za-z])", " "),
        (r"\\(?:text)?color\s*\{[^{}]*\}", APART),
        (rf"\\(?:{LAYOUT})(?![A-Za-z])", APART),
        (r"\\\$|\\(?:pounds|euro|yen|textdollar|textsterling|texteuro)(?![A-Za-z])", "¤"),
        (r"\\%", "%"),
        (r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))|\\(?:text)?degrees?(?![A-Za-z])", "°"),
        (r"\\(?:times|cdot|ast)(?![A-Za-z])", "*"),
        (r"\\(?:div|over|slash)(?![A-Za-z])", "/"),
        (r"\\(?:thick)?approx(?:eq)?(?![A-Za-z])|\\simeq(?![A-Za-z])|≈|≃|≅", "≈"),
        (r"\\(?:Omega|ohm)(?![A-Za-z])", "Ω"),
        (r"\\mu\s*(?:\\(?:mathrm|text)\s*\{\s*([AFgLlmsV])\s*\}|([AFgLlmsV])(?![A-Za-z]))", r"μ\1\2"),
        (r"\\(?:(?:measured)?angle|triangle|alpha|beta|gamma|theta|lambda|mu|pi|phi|omega|Delta)(?![A-Za-z])", " v "),
        (r"\\(?:overline|overrightarrow|widehat|vec)\s*\{[A-Za-z ]+\}", " v "),
        (r"</?(?:b|strong|i|em|u|code|p|span|mark)\s*>|<br\s*/?>", APART),
        (r"<sup>\s*([+-]?\d+)\s*</sup>", r"^{\1}"),
    )
)
TERM = r"(?:\d{1,3}(?:,\d{3})+|\d{1,300})(?:\.\d{0,300})?|\.\d{1,300}"
FRACTION = re.compile(r"\\(?:[dtcs]?frac|nicefrac)\s*(?:\{([^{}]*)\}|(\d))\s*(?:\{([^{}]*)\}|(\d))")
BRACED = re.compile(rf"(?:(?P<command>\\(?:{FONT})\s*|\^\s*)|(?<![\\_A-Za-z}}]))\{{(?P<inside>[^{{}}]*)\}}")
MARKUP = re.compile(r"[^\x00-\x7f]|[\\{<*~]|\$.*\$", re.DOTALL)
WRAPPERS = (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("(", ")"), ("[", "]"), ("**", "**"),
            ("__", "__"), ("*", "*"), ("_", "_"), ("`", "`"), ('"', '"'), ("'", "'"), ("“", "”"))  # fmt: skip
GROUPS = r"[1-9]\d{0,2}(?:,\d{3})+|[1-9]\d{0,2}(?:[ ]\d{3})+|[1-9]\d{0,2}(?:['’]\d{3})+|[1-9]\d?(?:,\d{2})+,\d{3}"
CONTINENTAL = re.compile(r"(?<![\w.,])[1-9]\d{0,2}(?:\.\d{3}){2,}(?:,\d{1,300})?(?![\w.,]*\d)", re.ASCII)
"""Points as marks of thousands and a comma before decimals; with one point alone it could be read in two ways."""
NUMERAL = re.compile(
    rf"""(?P<whole>{GROUPS}|\d{{1,300}})\s+(?P<above>\d{{1,300}})/(?P<below>\d{{1,300}})
      | (?P<top>[+-]?(?:{TERM}))/(?P<bottom>[+-]?(?:{TERM}))
      | (?P<base>(?:{GROUPS}|\d{{1,300}})(?:\.\d{{0,300}})?|\.\d{{1,300}})
        (?:\^(?P<exponent>[+-]?\d{{1,4}}))?
        (?:(?:\*|\s*[xX]\s*)10\^(?P<ten>[+-]?\d{{1,4}}) | [eE](?P<shift>[+-]?\d{{1,4}}))?""",
    re.VERBOSE | re.ASCII,
)
CURRENCY = re.compile(
    rf"\s*(?:(?:[A-Z]{{1,3}}\s?)?[{MONEY}]|(?:USD|EUR|GBP|JPY|INR|CNY|CHF|AUD|CAD|Rs)(?![A-Za-z])\.?)\s*"
)
LABEL = re.compile(r"\(?[A-J]\)\s*|[A-J]\.\s+")
NAME = re.compile(r"[^\d\\<>=≠≤≥*/^|{}!?\[\]-]*")
NO_NAME = re.compile(r"\b(?:not|never|wrong|incorrect|least|most|than|\w+n['’]t)\b", re.IGNORECASE)
SUBSCRIPT = re.compile(r"_\s*(?:\{[^{}]*\}|\w)|\([\w,\s]{1,20}\)")
SUM = re.compile(r"\s*|[\s(]*\d[\d\s.,()%]*[+*/^-][\d\s.,+*/^()%-]*")
SAYS = re.compile(r"\s(?:is|are|equals|was|were)\s")
UNIT = re.compile(rf"(?:[^\W\d_]|[\s%°‰{MONEY}'’\"]|/(?=\s*[^\W\d_])|(?<=[^\W\d_])[.*-])*")
EXPONENT = re.compile(r"(?<=[^\W\d_])\^\(?[+-]?[1-9]\)?(?!\d)|^\^(?=(?:st|nd|rd|th)\b)")
OF_DAY = re.compile(r"\b([ap])\.\s?m\b")
IN_BRACKETS = re.compile(r"\s\(([^\W\d_]{3}[^()]*)\)")
MULTIPLES = {
    **{"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12},
    **{"quadrillion": 10**15, "lakh": 10**5, "crore": 10**7},
}
SHORT = re.compile(
    r"[mgshlLJNWVACFΩÅ]|[cdkmnμ]m|[mkμ]g|[mcdμ][lL]|[mkμ][WVA]|[kM]Ω|μ[sF]|k[WJB]|[MGT]B|Hz|lb|oz|ft|in|yd|mi|hr|ms"
    r"|[ap]m|st|nd|rd|th|pt|qt|Rs|sq|cu|of|on|at|by"
)
"""Words of one or two letters that may stand in a unit. Others are variables, or multiples as k and M may be."""
LETTERS = re.compile("[A-Za-zͰ-Ͽἀ-῿ϐ-ϖ]+")
"""What variables are made of, and not the units of other scripts."""
NO_UNIT = re.compile(
    rf"(?:{'|'.join(MULTIPLES)})s?|and|but|not|nor|plus|minus|times|than|mod|sqrt|sin|cos|tan|log|exp|theta|squared"
    r"|cubed|factorial|wrong|incorrect|false|hal(?:f|ves)|(?:third|quarter|(?:four|fif|six|seven|eigh|nin|ten|eleven"
    r"|twelf|hundred|thousand|\w*teen|\w*tie|\w*illion)th|dozen)s?|score|gross|tens|zero|double|triple"
    r"|(?:one|two|three|(?:four|six|seven|nine)(?:teen)?|five|fifteen|eight(?:een)?|eleven|twelve|thirteen"
    r"|(?:twen|thir|for|fif|six|seven|eigh|nine)ty)s?|ten|\w*illi(?:on|ard)\w*|mil|mille|tausend|mln|mn|mio|mrd|mld|bn"
    r"|тысяч\w*|тыс|м[иі]л+[иі]\w*|мл(?:н|рд)|[半打割成双雙对對折]",
    re.IGNORECASE,
)
"""Words that make another number of the one before them, or a sum of it."""
KILO = re.compile("[千毫厘](?=[米克瓦卡帕焦赫升])")
TIGHT = re.compile(r"[ \t]*(\*\*|[/^*])[ \t]*")
PLAIN = re.compile(r"-?\d{1,300}(?:\.\d{1,300})?", re.ASCII)
IN_TEXT = re.compile(
    rf"""(?<![\w.:/^√])(?:(?<![\w)])[+-])?
        (?:[1-9]\d{{0,2}}(?:[ ']\d{{3}}(?!\d))+|\d+(?:,\d{{3}}(?!\d))*|(?=\.\d))
        (?:\s+\d+/\d+|(?:[.:/^]\d+|\s*[*x]\s*10\^-?\d+|[eE][+-]?\d+|(?:-\d+){{2}})*)
        (?:\s+(?:{"|".join(MULTIPLES)})s?\b)?(?!\w|[.:/^]\d|,\d{{3}}(?!\d))""",
    re.VERBOSE | re.IGNORECASE,
)
POWER = re.compile(r"\^\s*\{\s*(-?\d+)\s*\}")
INSIDE = re.compile(
    r"(?:\\(?:sqrt|log|ln|lg|exp|sin|cos|tan|[dtc]?frac|d?binom)|_|\^(?=\s*\{))(?:\s*\[[^\[\]]*\])?"
    r"(?:\s*\{[^{}]*\}|\s*-?\d+)*"
)
"""What is part of another number: below a root or a line, in a function or in an index."""


def number_of(text: str) -> Fraction | None:
    """The number that a text says, in whatever currency or unit; none where it says something else, or two.

    A percentage is the number before its sign. An equation says its right side, where the left one is a name or sum.
    """
    text = text.strip()
    if PLAIN.fullmatch(text):
        return Fraction(text)
    return _read(text) if len(text) <= LONGEST and any(map(str.isnumeric, text)) else None


@lru_cache(maxsize=8192)
def _read(text: str) -> Fraction | None:
    """The number of a short text that is more than digits and a point."""
    text = _undressed(TIGHT.sub(_tightened, _in_plain_text(text) if MARKUP.search(text) else text))
    text = CONTINENTAL.sub(lambda found: found[0].replace(".", "").replace(",", "."), text)
    return None if "\n" in text else _quantity(_right_side(LABEL.sub("", text, count=1)))


def is_unit(word: str) -> bool:
    """Whether a word may stand in a unit, behind a number that it does not change."""
    if len(word) <= 2 and LETTERS.fullmatch(word):
        return SHORT.fullmatch(word) is not None
    return NO_UNIT.fullmatch(word) is None and not any(map(str.isnumeric, KILO.sub("", word)))


def numbers_in(text: str) -> Iterator[Fraction]:
    """Every number of a text, each whole: no part of a longer one, of a time or of a word."""
    plain = FRACTION.sub(_slashed, POWER.sub(r"^\1", _in_ascii(text)))
    found = (number_of(numeral) for numeral in IN_TEXT.findall(INSIDE.sub("v", plain)))
    return (number for number in found if number is not None)


def _in_plain_text(text: str) -> str:
    """A text without LaTeX and with ASCII for its digits and signs; what was around a part of it leaves a gap."""
    text, before = _in_ascii(text), ""
    while before != text:
        before, text = text, BRACED.sub(_unbraced, FRACTION.sub(_slashed, text))
    text = re.sub(r"\*\*(.+?)\*\*", rf"{APART}\1{APART}", text)
    return re.sub(r"\$([^$]+)\$", rf"{APART}\1{APART}", text)


def _in_ascii(text: str) -> str:
    """A text with ASCII for its digits and signs, and without the commands of LaTeX that stand for one or for none."""
    text = re.sub("([⁰¹²³⁴⁵⁶⁷⁸⁹]+)[⁄/]([₀₁₂₃₄₅₆₇₈₉]+)", lambda m: f" {m[0].translate(SUPERSCRIPTS)} ", text)
    text = re.sub("[⁺⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+", lambda m: f"^{m[0].translate(SUPERSCRIPTS)}{APART}", text)
    text = "".join(_ascii(character) for character in text).translate(SIGNS)
    for pattern, instead in FOR_TEX:
        text = pattern.sub(instead, text)
    return text


def _tightened(found: re.Match[str]) -> str:
    return "^" if found[1] == "**" else found[1]


def _ascii(character: str) -> str:
    """A character in ASCII, where that is one character, or a unit or a fraction."""
    if character.isascii():
        return character
    if unicodedata.category(character) == "Cf" and character not in PARTING:
        return ""  # nobody sees it
    digit = unicodedata.decimal(character, None)
    if digit is not None:
        return str(digit)
    form = unicodedata.normalize("NFKC", character)
    if "⁄" in form:
        return f" {form} "
    if re.fullmatch("[A-Za-z]+[23]", form):  # a square or a cube
        return f"{form[:-1]}^{form[-1]} "
    return character if any(map(str.isdigit, form)) else form


def _slashed(found: re.Match[str]) -> str:
    """A fraction of two plain numbers, or of two units, with a slash; another stays as it is, and is none."""
    terms = [(found[1] or found[2] or "").strip(), (found[3] or found[4] or "").strip()]
    terms = [re.sub(r"(?<=\d)[, ](?=\d{3}(?!\d))", "", term) for term in terms]
    is_plain = any(
        all(re.fullmatch(kind, term) for term in terms) for kind in (rf"[+-]?\s?(?:{TERM})", r"[A-Za-z]+(?:\s*\^\d)?")
    )
    return f" {'/'.join(terms)} " if is_plain else found[0]


def _unbraced(found: re.Match[str]) -> str:
    command, inside = found["command"] or "", found["inside"]
    return f"^{inside.strip()} " if command.startswith("^") else f"{APART}{inside}{APART}"


def _undressed(text: str) -> str:
    """A text without what stands around all of it, and without its full stop."""
    before = ""
    while before != text:
        before, text = text, text.strip().lstrip("≈").strip()
        if text.endswith((".", ",", ";", ":")) and not text.endswith(".."):
            text = text[:-1]
        for opening, closing in WRAPPERS:
            inside = text[len(opening) : -len(closing)]
            if text.startswith(opening) and text.endswith(closing) and not {*opening, *closing} & {*inside}:
                text = inside
    return text


def _right_side(text: str) -> str:
    """What a text says of a name, or of a sum of numbers; the text itself where it says something of anything else."""
    about, nearly, said = text.rpartition("≈")
    *names, said = (said if nearly else text).split("=")
    if not all(_is_name(name) or SUM.fullmatch(name) for name in names) or not _is_name(about):
        return text
    for parting in (re.compile(":"), SAYS):
        *names, rest = parting.split(said)
        if names and all(name.strip() and _is_name(name) for name in names):
            said = rest
    return _undressed(said)


def _is_name(text: str) -> bool:
    bare = SUBSCRIPT.sub("", text)
    return NAME.fullmatch(bare) is not None and not bare.lstrip().startswith("+") and not NO_NAME.search(bare)


def _quantity(text: str) -> Fraction | None:
    """The value of a sign, a currency, a numeral and a unit."""
    sign, text = _sign(text)
    if money := CURRENCY.match(text):
        other, text = _sign(text[money.end() :])
        if sign and other:
            return None
        sign = sign or other
    found = NUMERAL.match(text)
    value, times = found and _value(found), found and _unit(text[found.end() :])
    if value is None or times is None:
        return None
    return value * times * (-1 if sign == "-" else 1)


def _sign(text: str) -> tuple[str, str]:
    text = re.sub(r"^(?:minus|negative)\s+", "-", text, flags=re.IGNORECASE)
    return (text[0], text[1:].lstrip()) if text[:1] in ("+", "-") and text else ("", text)


def _value(found: re.Match[str]) -> Fraction | None:
    """What a numeral is worth; none where it is too large, divides by zero, or mixes a number with no true fraction."""
    if found["whole"]:
        whole, above, below = (int(re.sub(r"\D", "", found[name])) for name in ("whole", "above", "below"))
        return Fraction(whole * below + above, below) if above < below else None
    if found["top"]:
        top, bottom = (Fraction(found[name].replace(",", "")) for name in ("top", "bottom"))
        return top / bottom if bottom else None
    base = Fraction(re.sub(r"[, '’]", "", found["base"]))
    exponent, tens = int(found["exponent"] or 1), int(found["ten"] or found["shift"] or 0)
    if abs(exponent) * len(found["base"]) + abs(tens) > DIGITS or (not base and exponent <= 0):
        return None
    return Fraction(base**exponent) * Fraction(10) ** tens


def _unit(text: str) -> int | None:
    """What a unit multiplies its number by; none where it is no unit."""
    text = IN_BRACKETS.sub(r" \1", EXPONENT.sub("", OF_DAY.sub(r"\1m", text)))
    if not UNIT.fullmatch(text) or text.startswith(("'", "’", '"')):
        return None
    words = re.findall(r"[^\W\d_]+", text)
    times = MULTIPLES.get(words[0].lower().removesuffix("s")) if words else None
    others = words[1:] if times else words
    each = [word for place, word in enumerate(others) if not place or word not in ("a", "an")]  # as in: miles a day
    return (times or 1) if all(map(is_unit, each)) and len(others) < MOST_WORDS else None
