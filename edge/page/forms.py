"""What a browser's form sends, read without a library."""

from __future__ import annotations

from urllib.parse import parse_qsl

from starlette.requests import Request

FIELDS_LIMIT = 64


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a POST (application/x-www-form-urlencoded), the last of each name.

    A form that is not one has no fields. The guard bounds its size.
    """
    try:
        body = (await request.body()).decode("ascii")
        pairs = parse_qsl(body, keep_blank_values=True, max_num_fields=FIELDS_LIMIT)
    except ValueError:
        return {}
    return dict(pairs)
