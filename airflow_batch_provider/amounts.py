"""Amounts of money as text, by one rule: one that is not nothing is never shown as nothing."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

_CENTS, _USUAL, _KEPT_DIGITS = 2, 4, 2


def dollars(usd: Decimal | float) -> str:
    """Return US dollars as people write them: `$1,234.50`, `$0.0034`, `$0.000058`.

    Two decimals at least and four at most; of a smaller amount as many as its first two digits need.
    """
    amount = Decimal(str(usd))
    decimals = max(_USUAL, _KEPT_DIGITS - 1 - amount.adjusted()) if amount else _CENTS
    text = f"{abs(amount).quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP):,f}"
    whole, _, fraction = text.partition(".")
    sign = "-" if amount < 0 else ""
    return f"{sign}${whole}.{fraction.rstrip('0').ljust(_CENTS, '0')}"


def digits(number: Decimal | float) -> str:
    """Return a number as it was set, without an exponent: `0.00001`, `3`."""
    text = f"{Decimal(str(number)):f}"
    return text.removesuffix(".0")
