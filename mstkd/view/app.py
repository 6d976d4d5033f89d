"""The page and what it asks for, as a WSGI application that answers its own browser alone.

A request must be GET or HEAD, name this machine as its host, which a page of a name that was bound
to 127.0.0.1 afterwards does not (DNS rebinding), and know the token, which other users of the
machine do not. Addresses hold numbers of tables and pairs and never a path.
"""

from __future__ import annotations

import hmac
import json
import math
import secrets
import threading
from collections.abc import Iterable
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule
from werkzeug.sansio.utils import host_is_trusted
from werkzeug.wrappers import Request, Response

from mstkd.artifacts.confined import inside
from mstkd.config import AuditSettings
from mstkd.config.data import Suffixes
from mstkd.errors import InputError, printable
from mstkd.evaluation.intervals import Interval
from mstkd.evaluation.measures import ENOUGH
from mstkd.evaluation.scorefiles import read_scores
from mstkd.evaluation.scores import ScoreTable
from mstkd.report.templates import page_html
from mstkd.view.found import Found, score_tables
from mstkd.view.looked import FIRST, Curves, at_threshold, curves, hardest
from mstkd.view.pictures import Folders, Pictures, Pixels, pictures_of, png
from mstkd.view.traced import fusion_of

if TYPE_CHECKING:
    from mstkd.evaluation.shares import TracedImages
    from mstkd.evaluation.traced import Tracer

HOSTS = ("127.0.0.1", "localhost")  # of any port, which a tunnel may change
METHODS = ("GET", "HEAD")
TOKEN_BYTES = 24
OPEN = 4  # tables that are kept in memory
ADDRESSES = Map(
    [
        Rule("/<token>/", endpoint="page"),
        Rule("/<token>/view.js", endpoint="script"),
        Rule("/<token>/tables/<int:table>", endpoint="table"),
        Rule("/<token>/tables/<int:table>/rates", endpoint="rates"),
        Rule("/<token>/tables/<int:table>/pairs/<int:pair>", endpoint="pair"),
        Rule("/<token>/tables/<int:table>/pairs/<int:pair>/<int:side>.png", endpoint="picture"),
    ],
    merge_slashes=False,
)
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'nonce-{nonce}'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",  # or the token would go along
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Absent(Exception):  # noqa: N818, an answer like others
    """There is no such thing to be asked for."""


class Opened:
    """A table as it is looked at."""

    def __init__(self, path: Path, settings: AuditSettings, folders: Folders) -> None:
        self.path = path
        self.table: ScoreTable = read_scores(
            path,
            group=settings.group,
            score=settings.score,
            kind=settings.kind,
            folds=settings.folds,
        )
        self.curves: Curves = curves(self.table, str(path))
        self.pictures: Pictures | InputError
        try:
            self.pictures = pictures_of(path, self.table, folders)
        except InputError as fault:  # told beside the numbers, which are there without them
            self.pictures = fault

    def pixels(self, pair: int, side: int) -> Pixels:
        """The picture of one side of a pair.

        Raises:
            InputError: there is none.
        """
        if isinstance(self.pictures, InputError):
            raise self.pictures
        return self.pictures.pixels(pair, side)


class View:
    """The application over the tables of a folder.

    Args:
        folder: of results, below which score tables lie.
        settings: how CSVs are read.
        images: a folder of the pictures that tables name.
        more: endings of further formats of these.

    Raises:
        InputError: a folder that is not there, or none of whose files is a table of scores.
    """

    def __init__(
        self,
        folder: Path,
        settings: AuditSettings,
        images: Path | None = None,
        more: Suffixes = None,
    ) -> None:
        if images is not None and not images.is_dir():
            raise InputError(images, found="no such folder", expected="a folder of images")
        self.token = secrets.token_urlsafe(TOKEN_BYTES)
        images = None if images is None else images.resolve()
        self._folders = Folders(folder.resolve(), images, more)
        self._title = f"Results in {printable(str(folder))}"
        self._tables: list[Found] = score_tables(self._folders.results, settings)
        # One thing at a time: readers of HDF5 and networks share the machine, not the moment.
        self._turn = threading.Lock()

        @lru_cache(maxsize=OPEN)
        def opened(path: Path, changed: tuple[int, int]) -> Opened:
            return Opened(path, settings, self._folders)

        @lru_cache(maxsize=1)
        def tracer(adaptor: Path, cache: Path, teachers: tuple[Path, ...], changed: int) -> Tracer:
            from mstkd.evaluation.traced import Fusion, Tracer  # with torch, on the first click

            return Tracer(Fusion(adaptor, cache, list(teachers)), device="cpu")

        self._opened, self._tracer = opened, tracer

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        response = self._answer(environ)
        response.headers.extend(HEADERS)
        response.headers.setdefault("Content-Security-Policy", POLICY.format(nonce="none"))
        return response(environ, start_response)

    def _answer(self, environ: dict[str, Any]) -> Response:
        if environ["REQUEST_METHOD"] not in METHODS:
            allowed = {"Allow": ", ".join(METHODS)}
            return Response("GET and HEAD alone are answered\n", 405, allowed)
        if not host_is_trusted(environ.get("HTTP_HOST"), HOSTS):
            return Response("another host than this machine\n", 403)
        request = Request(environ, populate_request=False)
        try:
            asked, given = _asked(request.path)
            if not hmac.compare_digest(str(given.pop("token")).encode(), self.token.encode()):
                raise Absent
            with self._turn:
                answered: Response = getattr(self, f"_{asked}")(request, **given)
            return answered
        except Absent:
            return Response("no such page\n", 404)
        except (InputError, OSError) as fault:
            return _json({"fault": printable(str(fault))}, 422)
        except MemoryError as fault:  # Python's own has no words
            return _json({"fault": f"too little memory ({str(fault) or 'it is used up'})"}, 422)

    # ------------------------------------------------------------ what is asked for

    def _page(self, request: Request) -> Response:
        nonce = secrets.token_urlsafe(TOKEN_BYTES)
        text = page_html(
            "view.html",
            room="mstkd.view",
            title=self._title,
            tables=[printable(one.name) for one in self._tables],
            nonce=nonce,
        )
        policy = {"Content-Security-Policy": POLICY.format(nonce=nonce)}
        return Response(text, headers=policy, mimetype="text/html")

    def _script(self, request: Request) -> Response:
        text = resources.files("mstkd.view").joinpath("view.js").read_text(encoding="utf-8")
        return Response(text, mimetype="text/javascript")

    def _table(self, request: Request, table: int) -> Response:
        one = self._open(table)
        of, read = one.curves, one.table
        counts = [(read.group1 == g) & read.within for g in range(len(read.groups))]
        return _json(
            {
                "thresholds": of.thresholds.tolist(),
                "fmr": [*of.rates.fmr.T.tolist(), of.together.fmr.tolist()],
                "fnmr": [*of.rates.fnmr.T.tolist(), of.together.fnmr.tolist()],
                "marks": [{"fmr": fmr, "place": place} for fmr, place in of.marks.items()],
                "first": of.marks[FIRST],
                "enough": ENOUGH,
                "across": int((~read.within).sum()),
                "groups": [
                    {
                        "name": printable(name),
                        "genuine": int((rows & read.same).sum()),
                        "impostor": int((rows & ~read.same).sum()),
                        "hardest": {
                            kind: [_pair(read, row) for row in hardest(read, g, genuine=genuine)]
                            for kind, genuine in (("impostor", False), ("genuine", True))
                        },
                    }
                    for g, (name, rows) in enumerate(zip(read.groups, counts, strict=True))
                ],
                "pictureless": str(one.pictures) if isinstance(one.pictures, InputError) else None,
            }
        )

    def _rates(self, request: Request, table: int) -> Response:
        threshold = request.args.get("threshold", math.nan, type=float)
        if not math.isfinite(threshold):
            raise Absent
        found = at_threshold(self._open(table).table, threshold)
        return _json({"fmr": _rows(found.fmr), "fnmr": _rows(found.fnmr)})

    def _pair(self, request: Request, table: int, pair: int) -> Response:
        one = self._open(table)
        _within(pair, len(one.table))
        fusion = fusion_of(one.path, self._folders.results)
        faces = [one.pixels(pair, side) for side in (0, 1)]
        changed = fusion.adaptor.stat().st_mtime_ns
        tracer = self._tracer(fusion.adaptor, fusion.cache, tuple(fusion.teachers), changed)
        size = tracer.image_size
        for face in faces:
            if face.shape[:2] != (size, size):
                found, expected = f"{face.shape[1]} x {face.shape[0]} pixels", f"{size} x {size}"
                raise InputError(one.path, found=found, expected=expected)
        return _json(_shares(tracer.traced(np.stack(faces), ["first", "second"])))

    def _picture(self, request: Request, table: int, pair: int, side: int) -> Response:
        one = self._open(table)
        _within(pair, len(one.table))
        _within(side, 2)
        return Response(png(one.pixels(pair, side)), mimetype="image/png")

    def _open(self, number: int) -> Opened:
        _within(number, len(self._tables))
        path = inside(self._tables[number].path, self._folders.results)
        state = path.stat()
        return self._opened(path, (state.st_mtime_ns, state.st_size))


def _asked(path: str) -> tuple[str, dict[str, Any]]:
    """Which method answers, and the parts of the address."""
    try:
        endpoint, given = ADDRESSES.bind("localhost").match(path, method="GET")
    except (HTTPException, ValueError):  # a number of thousands of digits is such an error
        raise Absent from None
    return str(endpoint), dict(given)


def _within(number: int, count: int) -> None:
    if number >= count:
        raise Absent


def _pair(table: ScoreTable, row: int) -> dict[str, Any]:
    """What a pair is called and scored."""
    people = (table.identities[int(code[row])] for code in (table.identity1, table.identity2))
    images: list[str] = []
    if table.image1 is not None and table.image2 is not None:
        images = [printable(table.images[int(code[row])]) for code in (table.image1, table.image2)]
    return {
        "row": row,
        "similarity": float(table.similarity[row]),
        "people": list(map(printable, people)),
        "images": images,
    }


def _rows(found: Interval) -> list[list[float]]:
    return [list(one) for one in zip(*(part.tolist() for part in found), strict=True)]


def _shares(told: TracedImages) -> dict[str, Any]:
    """Whose the fused similarity of two faces is, a row a teacher."""
    assert told.pair is not None, "two faces"
    whole, *faces = [told.pair, *told.images]
    return {
        "adaptor": printable(told.adaptor),
        "similarity": told.pair.similarity,
        "absent": told.absent,
        "teachers": [
            {
                "name": printable(name),
                "part": share,
                "shapley": None if whole.shapley is None else whole.shapley[name],
                "faces": [face.projection[name] for face in faces],
            }
            for name, share in told.pair.projection.items()
        ],
    }


def _json(told: dict[str, Any], status: int = 200) -> Response:
    text = json.dumps(told, allow_nan=False)
    return Response(text, status, mimetype="application/json")
