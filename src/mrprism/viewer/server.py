"""The page's server: with a key, and this machine's alone unless told otherwise; it reads, and writes decisions where it
is told who decides."""

from __future__ import annotations

import errno
import re
import secrets
import socket
import threading
import webbrowser
from importlib.resources import files
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response

from mrprism import __version__
from mrprism.core.errors import InputError, Terminated
from mrprism.viewer.asked import LARGEST_PNG, Asked, AskedAccept, AskedFlag
from mrprism.viewer.desk import Desk, summary_page
from mrprism.viewer.view import View

ADDRESS = "127.0.0.1"
USUAL_PORT = 8642
EVERYWHERE = ("0.0.0.0", "::")  # all addresses of a machine
THIS_MACHINE = ("127.0.0.1", "localhost", "[::1]")  # names a browser on this machine can call us by
HOST = re.compile(
    r"(.*?)((?::\d{1,5})?)", re.DOTALL
)  # name and port, as the browser knows them: of a tunnel, its own
COOKIE = "mrprism-key-"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' data: blob:; "
    "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",  # images of patients are not left in the browser's cache
}

LARGEST_BODY = LARGEST_PNG + 100_000  # bytes of one request
LARGEST_DROP = 64_000_000  # bytes of an image that is to be outlined
STATIC = {
    "page.html": "text/html",
    "page.css": "text/css",
    "summary.css": "text/css",
    "niivue.js": "text/javascript",
}
SCRIPTS = (  # the page's own, sent as one, in this order; what each uses of the others it finds when it is called
    "ask.js", "cases.js", "stage.js", "measure.js", "panel.js", "planes.js", "solid.js", "weigh.js", "take.js", "page.js",
    "draws.js", "paint.js", "decide.js", "keys.js", "begin.js",
)  # fmt: skip
READS = ("GET", "HEAD", "OPTIONS")

Position = Annotated[int, Query(ge=0)]


def make_app(view: View, key: str, desk: Desk | None = None, names: tuple[str, ...] = ()) -> FastAPI:
    """The server's answers.

    Cases, structures and raters are asked for by number, so no request can name a file.

    Args:
        key: Asked of every request: once in the address, from then on as a cookie. Other users of a shared
            machine can reach its ports, but do not know it. The cookie carries the port in its name.
        desk: Where decisions are made; None: nothing is ever written.
        names: Of this machine, as others call it, where others may come.
    """
    app = FastAPI(
        title="mrprism view",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
    )

    @app.middleware("http")
    async def guard(request: Request, call_next: Any) -> Response:
        host, port = HOST.fullmatch(request.headers.get("host", "")).groups()  # type: ignore[union-attr]
        cookie = COOKIE + port.removeprefix(
            ":"
        )  # cookies know no ports: that of another viewer comes along with ours
        given = request.query_params.get("key") or request.cookies.get(cookie) or ""
        if host not in (
            *THIS_MACHINE,
            *names,
        ):  # a page elsewhere may have its own name resolved to this machine
            response = _refusal(403, f"this viewer answers to {' and '.join(names or THIS_MACHINE[:2])} only")
        elif not secrets.compare_digest(given.encode(), key.encode()):
            response = _refusal(403, "open the address that mrprism view printed: it ends in a key")
        elif (desk is not None or view.run is not None) and (why := _refused_write(request)) is not None:
            response = _refusal(*why)
        else:
            with view.list.asked():
                response = await call_next(request)
            if request.url.path in ("/", "/summary"):  # pages a person opens
                response.set_cookie(cookie, key, httponly=True, samesite="lax")
        response.headers.update(HEADERS)
        return response

    @app.exception_handler(InputError)
    async def wrong(_: Request, error: InputError) -> Response:
        return _refusal(422, str(error))

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return _refusal(422, f"{first['loc'][-1]}: {first['msg'][:1].lower()}{first['msg'][1:]}")

    for name, kind in STATIC.items():
        _add_static(app, name, kind, (name,))
    _add_static(app, "page.js", "text/javascript", SCRIPTS)

    @app.get("/api/about")
    def about() -> dict[str, Any]:
        """What does not change from case to case: raters and their colours, structures, fusions."""
        return {**view.about(), "desk": None if desk is None else desk.about()}

    @app.get("/api/cases")
    def cases() -> Response:
        """Every case: how far raters differ, what one more would change, what a run doubts, how it stands, flags; and
        `faults`: of each file of flags that cannot be read a sentence."""
        noted = {"flags": {}, "faults": []} if desk is None else desk.flags()
        decided = {} if desk is None else desk.statuses()
        # as it is: thousands of rows would be looked through by pydantic once more
        return JSONResponse({**view.list.rows(), "decided": decided, **noted})

    @app.get("/api/cases/{number}")
    def case(number: int) -> dict[str, Any]:
        """What is known of a case: size, planes, who did what, Dice of every two raters (0 to 1)."""
        return view.case(number)

    @app.get("/api/cases/{number}/profile")
    def profile(number: int, plane: str = "") -> dict[str, Any]:
        """On how many pixels raters differ, slice by slice, and the slice on which they differ most."""
        return view.profile(number, plane)

    @app.get("/api/cases/{number}/image.png")
    def image(
        number: int, low: float, high: float, plane: str = "", slice: Position = 0, channel: Position = 0
    ) -> Response:
        """A slice through a window: `low` becomes black and `high` white."""
        return _png(view.image(number, plane, slice, channel, (low, high)))

    @app.get("/api/cases/{number}/outlines")
    def outlines(number: int, plane: str = "", slice: Position = 0, fusion: str = "") -> dict[str, Any]:
        """SVG paths, in pixels of the slice, of every rater, further readings, the reference and a fusion."""
        return view.outlines(number, plane, slice, fusion)

    @app.get("/api/cases/{number}/votes.png")
    def votes(number: int, structure: Position, plane: str = "", slice: Position = 0) -> Response:
        """The share of raters that marked each pixel, as PNG."""
        return _png(view.votes(number, plane, slice, structure))

    @app.get("/api/cases/{number}/prediction")
    def prediction(number: int, plane: str = "", slice: Position = 0) -> dict[str, Any]:
        """A run's outlines: every recurrence, every rater, and how far each is trusted."""
        return view.answers.prediction(number, plane, slice)

    @app.get("/api/cases/{number}/draw")
    def draw(number: int, draw: Position, plane: str = "", slice: Position = 0) -> dict[str, Any]:
        """The outlines of one of a run's draws."""
        return view.answers.draw(number, plane, slice, draw)

    @app.get("/api/cases/{number}/way")
    def way(number: int, way: Position, at: float, plane: str = "", slice: Position = 0) -> dict[str, Any]:
        """The outlines along one of the main ways in which a run's draws vary: from -2 to 2 standard deviations."""
        return view.answers.way(number, plane, slice, way, at)

    @app.get("/api/cases/{number}/probability.png")
    def probability(
        number: int, structure: Position, step: Position, plane: str = "", slice: Position = 0
    ) -> Response:
        """The probability of a recurrence, as PNG."""
        return _png(view.answers.prediction_map(number, plane, slice, structure, step, None))

    @app.get("/api/cases/{number}/confidence.png")
    def confidence(
        number: int, structure: Position, rater: Position, plane: str = "", slice: Position = 0
    ) -> Response:
        """Where a rater is expected to agree, as PNG."""
        return _png(view.answers.prediction_map(number, plane, slice, structure, 0, rater))

    _add_closer_looks(app, view)
    if desk is not None:
        _add_desk(app, desk)
    return app


def _add_static(app: FastAPI, name: str, kind: str, parts: tuple[str, ...]) -> None:
    folder = files("mrprism.viewer") / "static"
    content = b"\n".join((folder / part).read_bytes() for part in parts)

    async def answer() -> Response:  # not in a thread: there is nothing to wait for
        return Response(content, media_type=kind)

    app.get("/" if name == "page.html" else f"/{name}", include_in_schema=False)(answer)


def _add_closer_looks(app: FastAPI, view: View) -> None:
    """What is asked for when somebody points, weighs raters, turns a volume, or drops an image."""

    @app.get("/api/cases/{number}/value")
    def value(
        number: int, row: Position, column: Position, plane: str = "", slice: Position = 0
    ) -> dict[str, Any]:
        """The image's values at a pixel, how many raters marked it, and where it is in the patient."""
        return view.value(number, plane, slice, row, column)

    @app.get("/api/cases/{number}/patterns")
    def patterns(number: int, structure: Position, plane: str = "", slice: Position = 0) -> Response:
        """Who marked each pixel, as numbers: see mrprism.viewer.weigh."""
        return _bytes(view.patterns(number, plane, slice, structure))

    @app.get("/api/cases/{number}/under")
    def under(number: int, weights: str, plane: str = "", slice: Position = 0) -> dict[str, Any]:
        """Outlines a run would draw if raters counted so: weights from 0 to 1 with commas between them."""
        try:
            numbers = [float(weight) for weight in weights.split(",")]
        except ValueError:
            raise InputError("expected weights as numbers with commas between them") from None
        return {"structures": view.answers.under(number, plane, slice, numbers)}

    @app.get("/api/cases/{number}/surface.mz3")
    def surface(number: int, structure: Position, of: str) -> Response:
        """A structure of a volume as a surface, of `rater0`, `rater1`, ..., `reference` or a fusion."""
        return _bytes(view.surface(number, structure, of))

    @app.get("/api/cases/{number}/image.nii")
    def image_file(number: int, channel: Position = 0) -> Response:
        """One channel of a volume as NIfTI, with the file's own values where it keeps them."""
        return _bytes(view.image_file(number, channel))

    @app.get("/api/cases/{number}/mask.nii")
    def mask_file(number: int, structure: Position, of: str) -> Response:
        """A mask of a volume as NIfTI, of `rater0`, `rater1`, ..., `reference` or a fusion."""
        return _bytes(view.mask_file(number, structure, of))

    if view.run is not None:

        @app.post("/api/outline", openapi_extra=_FILE)
        async def outline(request: Request, name: str) -> dict[str, Any]:
            """What the run predicts for an image that is sent: the bytes of a PNG, JPEG, TIFF, ... file."""
            content = await request.body()
            return await run_in_threadpool(view.answers.outline_of, name[:200], content)


_FILE = {
    "requestBody": {
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    }
}


def _add_desk(app: FastAPI, desk: Desk) -> None:
    """What can be decided, and read of decisions."""

    @app.get("/api/cases/{number}/decisions", summary="What was decided about a case, structure by structure")
    def decisions(number: int) -> dict[str, Any]:
        return desk.standing(number)

    @app.get("/api/cases/{number}/decision.png", summary="A slice of what was decided: white inside")
    def decision(number: int, structure: Position, id: str, plane: str = "", slice: Position = 0) -> Response:
        return _png(desk.mask(number, structure, id, plane, slice))

    @app.get("/api/cases/{number}/decision.nii", summary="The whole of what was decided of a volume")
    def decision_file(number: int, structure: Position, id: str) -> Response:
        return _bytes(desk.mask_file(number, structure, id))

    @app.post(
        "/api/cases/{number}/decisions",
        summary="Begin, paint, settle or note: one save, kept beside the others",
    )
    def decide(number: int, asked: Asked) -> dict[str, Any]:
        return desk.save(number, asked)

    @app.post("/api/cases/{number}/flag", summary="Flag a case, or note something of it")
    def flag(number: int, asked: AskedFlag) -> dict[str, Any]:
        desk.flag(number, asked)
        return {"flag": asked.flag, "note": asked.note}

    @app.post("/api/accept", summary="Settle what nobody began and all raters agree on")
    def accept(asked: AskedAccept) -> dict[str, Any]:
        return desk.accept(asked.above, asked.dry)

    @app.get("/api/summary", summary="How many are settled, by whom, and how far raters are from it")
    def summary() -> dict[str, Any]:
        return desk.summary()

    @app.get("/summary", summary="The summary as a page that prints")
    def page() -> Response:
        return Response(summary_page(desk), media_type="text/html")


def _refused_write(request: Request) -> tuple[int, str] | None:
    """Why a request that writes is refused: another site's page asks for it, or it is too large."""
    if request.method in READS:
        return None
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    own = (f"http://{request.headers.get('host')}", f"https://{request.headers.get('host')}")
    if (origin is not None and origin not in own) or site not in (None, "same-origin", "none"):
        return 403, "another site's page may not write here"
    drop = request.url.path == "/api/outline"
    kind = "application/octet-stream" if drop else "application/json"  # no form of another page sends these
    if not request.headers.get("content-type", "").startswith(kind):
        return 415, f"expected {kind}"
    length = request.headers.get("content-length", "")
    if not length.isdecimal():
        return 411, "expected the length of what is sent"
    most = LARGEST_DROP if drop else LARGEST_BODY
    if int(length) > most:
        return 413, f"{length} bytes are more than the {most} that are taken"
    return None


def serve(
    view: View,
    *,
    port: int | None = None,
    browser: bool = True,
    desk: Desk | None = None,
    host: str | None = None,
) -> None:
    """Answer until interrupted.

    The address is printed when a browser can open it.

    Args:
        port: 0: any that is free; None: the usual one, or any that is free.
        browser: Open the page.
        desk: Where decisions are made; None: nothing is written.
        host: An address of this machine at which others may come, too; None: nobody but who works on this machine.

    Raises:
        InputError: The port is taken, or this machine has no such address.
    """
    listening = _listen(port, host or ADDRESS)
    key = secrets.token_urlsafe(16)
    names = () if host is None else _names(host)
    address = f"http://{names[0] if names else ADDRESS}:{listening.getsockname()[1]}/?key={key}"
    config = uvicorn.Config(
        make_app(view, key, desk, names), log_level="error", access_log=False, use_colors=False
    )
    stop = threading.Event()
    threading.Thread(target=view.list.measure, args=[stop], daemon=True).start()
    saved = "" if desk is None else f"{desk.who} decides; saved in {desk.decisions.folder}\n"
    open_ = "" if host is None else _warning(host, desk)
    print(f"{view.title}: {address}\n{open_}{saved}Ctrl+C ends it", flush=True)
    if browser:
        threading.Timer(0.3, webbrowser.open, [address]).start()
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except Terminated:
        raise
    except KeyboardInterrupt:  # how it is meant to end
        pass
    finally:
        stop.set()
        listening.close()


def _names(host: str) -> tuple[str, ...]:
    """What others can call this machine: the address it listens at, or all it has."""
    bracketed = f"[{host}]" if ":" in host else host
    if host not in EVERYWHERE:
        return (bracketed.lower(),)
    name = socket.gethostname()
    try:
        own = [str(entry[4][0]) for entry in socket.getaddrinfo(name, None)]
    except OSError:
        own = []
    found = [name, socket.getfqdn(), *(f"[{address}]" if ":" in address else address for address in own)]
    return tuple(dict.fromkeys(one.lower() for one in found))


def _warning(host: str, desk: Desk | None) -> str:
    who = "everybody who reaches this machine" if host in EVERYWHERE else f"everybody who reaches {host}"
    does = "see these images" if desk is None else f"see these images and decide as {desk.who}"
    return (
        f"WARNING: {who} and has this address with its key can {does}; nothing is encrypted on the way.\n"
        "Give it to nobody else, and use it in a network you trust; ssh -L needs no --host.\n"
    )


def _listen(port: int | None, host: str = ADDRESS) -> socket.socket:
    """A socket of an address of this machine, to which one can connect from now on."""
    try:
        return _listen_at(USUAL_PORT if port is None else port, host)
    except socket.gaierror:
        raise InputError(
            f"'{host}' is no address of this machine; expected one, or 0.0.0.0 for all it has"
        ) from None
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise InputError(
                f"'{host}' is no address of this machine; expected one, or 0.0.0.0 for all it has"
            ) from None
        if port is None:
            return _listen_at(0, host)
        why = error.strerror or str(error)
        raise InputError(
            f"port {port} cannot be used: {why[:1].lower()}{why[1:]}; name another by --port"
        ) from None
    except OverflowError:
        raise InputError(f"port {port} does not exist; expected 0 to 65535") from None


def _listen_at(port: int, host: str = ADDRESS) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio lets small answers go at once only where the protocol is named; else each waits for 40 ms
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        # elsewhere it makes a port free at once that was just left; on Windows two could then have the same
        option = "SO_EXCLUSIVEADDRUSE" if hasattr(socket, "SO_EXCLUSIVEADDRUSE") else "SO_REUSEADDR"
        listening.setsockopt(socket.SOL_SOCKET, getattr(socket, option), 1)
        listening.bind((host, port))
        listening.listen(128)  # two that are bound to the same port are told apart only here
    except BaseException:
        listening.close()
        raise
    return listening


def _bytes(content: bytes) -> Response:
    return Response(content, media_type="application/octet-stream")


def _png(content: bytes) -> Response:
    return Response(content, media_type="image/png")


def _refusal(status: int, sentence: str) -> Response:
    return JSONResponse({"error": sentence}, status)
