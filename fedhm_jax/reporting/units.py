"""Numbers as people read them."""

_BYTE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def byte_unit(largest: float) -> tuple[float, str]:
    """The unit in which the largest of some byte counts is at least 1.

    Args:
        largest: bytes.

    Returns:
        Bytes per unit, and the unit's name.

    Example:
        >>> byte_unit(3 * 2**20)
        (1048576.0, 'MiB')
    """
    power = 0
    while power + 1 < len(_BYTE_UNITS) and largest >= 1024.0 ** (power + 1):
        power += 1
    return 1024.0**power, _BYTE_UNITS[power]


def format_bytes(count: float) -> str:
    """A byte count in binary units.

    Args:
        count: bytes.

    Returns:
        The count with its unit.

    Example:
        >>> format_bytes(512), format_bytes(1536), format_bytes(42.6 * 2**20)
        ('512 B', '1.50 KiB', '42.6 MiB')
    """
    size, unit = byte_unit(count)
    return f"{count:.0f} B" if unit == "B" else f"{_three_digits(count / size)} {unit}"


def format_count(count: float) -> str:
    """A count, in thousands with a separator below 100,000 and in millions or more above.

    Args:
        count: the count, for example of parameters or multiply-accumulates.

    Returns:
        The count, with M, G, T or P for 10^6, 10^9, 10^12 or 10^15.

    Example:
        >>> format_count(9_610), format_count(11_173_962), format_count(2.5e9)
        ('9,610', '11.174 M', '2.500 G')
    """
    for power, suffix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if count >= power or (suffix == "M" and count >= 1e5):
            return f"{count / power:.3f} {suffix}"
    return f"{count:,.0f}"


def _three_digits(number: float) -> str:
    decimals = 2 if number < 10 else 1 if number < 100 else 0
    return f"{number:.{decimals}f}"
