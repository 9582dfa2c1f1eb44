"""Whether a text that has the form of a card or phone number can be one.

Card numbers: length and first digits of a known issuer, and the check digit (ISO/IEC 7812). Phone
numbers: named so by the word before them, or valid in the numbering plan of their country, by
Google's libphonenumber (the package `phonenumbers`); without a country code, in a region that the
task names. A number after a word such as order, price or version is none.
"""

import re
from collections.abc import Sequence

_ISSUERS = re.compile(
    r"4(\d{12}|\d{15}|\d{18})"  # Visa
    r"|(5[1-5]\d{2}|222[1-9]|22[3-9]\d|2[3-6]\d{2}|27[01]\d|2720)\d{12}"  # Mastercard
    r"|3[47]\d{13}"  # American Express
    r"|(6011|65\d{2}|64[4-9]\d)\d{12}"  # Discover
    r"|(30[0-5]\d|3[689]\d{2})\d{10}"  # Diners Club
    r"|35(2[89]|[3-8]\d)\d{12}"  # JCB
    r"|62\d{14,17}"  # UnionPay
    r"|(50[1-9]\d|5[6-9]\d{2}|6\d{3})\d{8,15}"  # Maestro
)
_DATE = re.compile(r"\d{1,4}([./-])\d{1,2}\1\d{1,4}")
_PHONE_CUE = re.compile(
    r"""\b(?:tel | telephone | phones? | phoned? | fax | mobile | mob | cell | handy | call(?:s|ed|ing)? | dial | ring
      | whatsapp | sms | hotline | reach(?:ed)? | contact | telefon | anruf(?:en)? | rufnummer
      | my\ (?:number|no|line) | number\ is | (?:from|with|on)\ this\ number
    )\b[^\d?!\n]{0,25}$""",
    re.IGNORECASE | re.VERBOSE,
)
_OTHER_CUE = re.compile(
    r"""(?:\b(?:
        order | ticket | ids? | uid | uuid | serial | batch | lot | scores? | price | prices | parts? | invoice | build
      | version | release | range | coords? | coordinates? | lat | lon | lng | latitude | longitude | gps | isbn | issn
      | epoch | timestamp | total | sum | git | commit | rev | revision | ref | reference | sku | case | bug
      | issue
      | item
      | article | artikel | page | pages | rows? | port | server | host | account | acct | customer
      | tracking | parcel | iban | vat | tax | amount | qty | quantity | (?<!area\ )(?<!dialling\ )code | zip | postcode
      | plz
      | patent
      | doi
      | pmid
      | bestellung | bestellnummer | auftrag | rechnung | kundennummer | seriennummer | charge | digits | key
    )(?:\s*(?:no|nr|number|num|nummer)\b)?[\s.:#=-]{0,3} | (?<![a-z])(?!tel|phone|fax|mobile)[a-z_]\w*= | [#$€£] )$""",
    re.IGNORECASE | re.VERBOSE,
)
_UNIT = re.compile(
    r"\s?(?:[%€$£°]|(?:units?|points?|pts|boxes|pcs|pieces|items?|rows?|eur|usd|gbp|chf"
    r"|kg|km|cm|mm|ms|bytes|[kmg]b|[NESW])\b)",
    re.IGNORECASE,
)


def is_card_number(text: str) -> bool:
    """Whether the digits of `text` have a valid Luhn check digit (ISO/IEC 7812)."""
    digits = [int(c) for c in text if c.isdigit()]
    doubled = (d * 2 - 9 * (d > 4) for d in digits[-2::-2])
    return 13 <= len(digits) <= 19 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def is_card(match: re.Match[str]) -> bool:
    """Whether a match is the number of a known issuer with a valid check digit."""
    digits = "".join(c for c in match[0] if c.isdigit())
    return _ISSUERS.fullmatch(digits) is not None and is_card_number(digits)


def is_phone(match: re.Match[str], regions: Sequence[str]) -> bool:
    """Whether a match is a phone number, by the word before it or by its numbering plan.

    After a word such as order or price it is none, after one such as call it is one: many people
    write numbers of other countries without a code.
    """
    text = match[0]
    if not 8 <= sum(c.isdigit() for c in text) <= 15 or _DATE.fullmatch(text):
        return False
    before = match.string[max(0, match.start() - 60) : match.start()]
    bare = not text.startswith(("+", "("))
    if bare and (_OTHER_CUE.search(before) or _UNIT.match(match.string, match.end())):
        return False
    if _PHONE_CUE.search(before):
        return True
    if text.startswith("+"):
        return _is_valid(text, None, possible=True)
    if text.startswith("00"):
        return _is_valid("+" + text.removeprefix("00"), None)
    return any(_is_valid(text, region) for region in regions)


def _is_valid(text: str, region: str | None, *, possible: bool = False) -> bool:
    """Whether a range of numbers was given out that has it or, if `possible`, its length is right.

    With a plus sign nothing else is meant, and ranges are given out every month.
    """
    import phonenumbers

    check = phonenumbers.is_possible_number if possible else phonenumbers.is_valid_number
    try:
        return bool(check(phonenumbers.parse(text, region)))
    except phonenumbers.NumberParseException:
        return False
