"""What pages of other origins may load from here: the element that shows end users their own devices."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import app
from app.api.call import Call, Reply
from app.api.operation import Operation
from app.api.public import cached
from app.errors import NotFound

_FILES: Final = {path.name: path.read_bytes() for path in Path(app.__path__[0], "dashboard", "embed").glob("*.js")}
"""Read once: no path of a request reaches the file system."""


async def file(call: Call) -> Reply:
    body = _FILES.get(call.path["file"])
    if body is None:
        raise NotFound
    return cached(call, body, b"text/javascript; charset=utf-8")


OPERATIONS: Final = (
    Operation(
        method="GET",
        path="/embed/{file}",
        name="getEmbed",
        summary="devices.js: an ES module with the element <hellojohn-devices> for pages of your own",
        handler=file,
        credential="none",
        media_type="text/javascript",
        errors=(NotFound,),
    ),
)
