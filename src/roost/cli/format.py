"""How amounts and times are written for people. Pure; called by the commands."""

from __future__ import annotations

from datetime import datetime

_BYTE_UNITS = ("B", "kB", "MB", "GB", "TB")


def in_bytes(count: int) -> str:
    """``98.4 MB``: decimal units, one digit after the point from kB on."""
    value = float(count)
    for unit in _BYTE_UNITS[:-1]:
        if value < 999.95:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} {_BYTE_UNITS[-1]}"


def at(moment: datetime) -> str:
    """``2026-11-24 10:15:07 UTC``, in the zone that the moment has."""
    return moment.strftime("%Y-%m-%d %H:%M:%S %Z").rstrip()


def in_minutes(minutes: int | None) -> str:
    """A timeout in minutes, where 0 and None mean that it is off."""
    return f"{minutes} min" if minutes else "never"


def dollars_a_minute(cents: float) -> str:
    """``$0.0550``: a price per minute, with two digits after the point, or four below a dollar."""
    return f"${cents / 100:.2f}" if cents >= 100 else f"${cents / 100:.4f}"
