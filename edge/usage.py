"""The layout of every command's help, on the device and on the workstation."""

from __future__ import annotations

from typing import Any

# No rich markup: `--help` must answer at once.
GROUP: dict[str, Any] = {
    "no_args_is_help": True,
    "rich_markup_mode": None,
    "context_settings": {"help_option_names": ["-h", "--help"], "max_content_width": 100},
}


def example(*commands: str) -> str:
    """The end of a command's help: example commands to copy."""
    head = "Examples:" if len(commands) > 1 else "Example:"
    return "\b\n" + "\n".join([head, *(f"  {one}" for one in commands)])
