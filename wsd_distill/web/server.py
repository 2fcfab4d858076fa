"""A server of the web page, which can compute boxes with a teacher: POST /boxes with a photo's bytes gives JSON."""

from __future__ import annotations

import functools
import json
import os
import threading
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Protocol

from ..data.image import ImageFile

BOXES = "/boxes"
Boxes = Mapping[str, Sequence[Mapping[str, object]]]  # class -> [{"box": [x0, y0, x1, y1], "score": s}]
MAX_MEGABYTES = 64  # of a photo that is sent
TIMEOUT = 60  # seconds without data from a browser


class BoxFinder(Protocol):
    """Finds boxes with a teacher."""

    def __call__(self, image: bytes) -> Boxes:
        """Return boxes of each class, best first, in pixels of the upright photo.

        Args:
            image: bytes of an image file.

        Returns:
            class -> ``[{"box": [x0, y0, x1, y1], "score": s}]``.
        """


def make_server(
    folder: str | os.PathLike, host: str = "127.0.0.1", port: int = 8000, find_boxes: BoxFinder | None = None
) -> ThreadingHTTPServer:
    """Open a server of a web folder; ``serve_forever`` runs it.

    Args:
        folder: written by :func:`.write_site`.
        port: 0 takes a free one; it is in ``server_address``.
        find_boxes: called for one photo at a time; None: no boxes.

    Raises:
        OSError: the port cannot be opened.
    """
    handler = functools.partial(PageHandler, directory=str(folder), find_boxes=find_boxes, lock=threading.Lock())
    try:
        return ThreadingHTTPServer((host, port), handler)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OSError(f"{host}:{port} cannot be opened ({reason}): give another --port or --host") from error


class RequestError(ValueError):
    """A request that is answered with a status and one sentence."""

    def __init__(self, status: HTTPStatus, text: str):
        self.status = status
        super().__init__(text)


class PageHandler(SimpleHTTPRequestHandler):
    """Answers requests for the files of a folder, and for boxes."""

    timeout = TIMEOUT

    def __init__(self, *args, find_boxes: BoxFinder | None, lock: threading.Lock, directory: str):
        self._find_boxes, self._lock = find_boxes, lock
        super().__init__(*args, directory=directory)

    def do_POST(self) -> None:
        """Answer with the boxes of a photo, or ``{"error": ...}``."""
        try:
            self._answer(HTTPStatus.OK, self._compute_boxes())
        except RequestError as error:
            self._answer(error.status, {"error": str(error)})
        except TimeoutError:
            self.close_connection = True
        except Exception as error:  # a photo never ends the server
            self.log_error("%s: %s", type(error).__name__, error)
            self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": f"the teacher failed ({type(error).__name__})"})

    def end_headers(self) -> None:
        """Let browsers check whether a file has changed, and take its type as sent."""
        self.send_header("Cache-Control", "no-cache")
        self.send_header("X-Content-Type-Options", "nosniff")
        super().end_headers()

    def log_request(self, code="-", size="-") -> None:
        """Print errors only."""

    def _compute_boxes(self) -> Boxes:
        if self.path != BOXES or self._find_boxes is None:
            raise RequestError(HTTPStatus.NOT_FOUND, f"there is no {self.path} here: start wsd serve with --teacher")
        data = self._read_photo()
        try:
            ImageFile(data, "the photo")
        except ValueError as error:
            raise RequestError(HTTPStatus.UNPROCESSABLE_ENTITY, "the photo cannot be read as an image") from error
        with self._lock:
            return self._find_boxes(data)

    def _read_photo(self) -> bytes:
        """Read the body. A page of another origin cannot send the type of an image without asking, which is denied."""
        kind = self.headers.get("Content-Type", "")
        if not kind.startswith("image/"):
            raise RequestError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"the type is {kind!r}: send an image")
        text = self.headers.get("Content-Length", "")
        if not (text.isascii() and text.isdecimal()):
            raise RequestError(HTTPStatus.LENGTH_REQUIRED, "the length of the photo is missing: send Content-Length")
        if int(text) > MAX_MEGABYTES * 1e6:
            limit = f"the photo has {int(text) / 1e6:.0f} MB, more than the limit of {MAX_MEGABYTES}"
            raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{limit}: send a smaller one")
        data = self.rfile.read(int(text))
        if len(data) < int(text):
            raise RequestError(HTTPStatus.BAD_REQUEST, "the photo is incomplete: send it again")
        return data

    def _answer(self, status: HTTPStatus, content: Mapping[str, object]) -> None:
        body = json.dumps(content, ensure_ascii=False, allow_nan=False).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
