"""Numbers as text, the same on the report's page and in its pictures."""

TIMES = "\N{MULTIPLICATION SIGN}"


def share(value: float) -> str:
    """Return a share with three decimals; never 0 or 1 for a value that is not."""
    text = f"{value:.3f}"
    if text == "1.000" and value < 1:
        return "> 0.999"
    return "< 0.001" if text == "0.000" and value > 0 else text


def length(value: float) -> str:
    """Return a length in mm with one decimal."""
    return f"{value:.1f}"


def plural(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
