"""The page's server: this machine only, with a key; it reads, and writes decisions where it is told who decides."""

from __future__ import annotations

import re
import secrets
import socket
import threading
import webbrowser
from importlib.resources import files
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response

from mrprism import __version__
from mrprism.core.errors import InputError, Terminated
from mrprism.viewer.desk import LARGEST_PNG, Asked, AskedAccept, Desk, summary_page
from mrprism.viewer.view import View

ADDRESS = "127.0.0.1"
USUAL_PORT = 8642
THIS_MACHINE = ("127.0.0.1", "localhost", "[::1]")  # names a browser on this machine can call us by
HOST = re.compile(
    r"(.*?)((?::\d{1,5})?)", re.DOTALL
)  # name and port, as the browser knows them: of a tunnel, its own
COOKIE = "mrprism-key-"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",  # images of patients are not left in the browser's cache
}

LARGEST_BODY = LARGEST_PNG + 100_000  # bytes of one request
READS = ("GET", "HEAD", "OPTIONS")

Position = Annotated[int, Query(ge=0)]


def make_app(view: View, key: str, desk: Desk | None = None) -> FastAPI:
    """The server's answers.

    Cases, structures and raters are asked for by number, so no request can name a file.

    Args:
        key: Asked of every request: once in the address, from then on as a cookie. Other users of a shared
            machine can reach its ports, but do not know it. The cookie carries the port in its name.
        desk: Where decisions are made; None: nothing is ever written.
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
        if host not in THIS_MACHINE:  # a page elsewhere may have its own name resolved to this machine
            response = _refusal(403, "this viewer answers to 127.0.0.1 and localhost only")
        elif not secrets.compare_digest(given.encode(), key.encode()):
            response = _refusal(403, "open the address that mrprism view printed: it ends in a key")
        elif desk is not None and (why := _refused_write(request)) is not None:
            response = _refusal(*why)
        else:
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

    def static(name: str, kind: str) -> None:
        content = (files("mrprism.viewer") / "static" / name).read_bytes()
        app.get("/" if name == "page.html" else f"/{name}")(lambda: Response(content, media_type=kind))

    static("page.html", "text/html")
    static("page.css", "text/css")
    static("page.js", "text/javascript")
    static("decide.js", "text/javascript")
    static("summary.css", "text/css")

    @app.get("/api/about")
    def about() -> dict[str, Any]:
        return {**view.about(), "desk": None if desk is None else desk.about()}

    @app.get("/api/cases")
    def cases() -> dict[str, Any]:
        return {**view.cases(), "decided": {} if desk is None else desk.statuses()}

    @app.get("/api/cases/{number}")
    def case(number: int) -> dict[str, Any]:
        return view.case(number)

    @app.get("/api/cases/{number}/profile")
    def profile(number: int, plane: str = "") -> dict[str, Any]:
        return view.profile(number, plane)

    @app.get("/api/cases/{number}/image.png")
    def image(
        number: int, low: float, high: float, plane: str = "", slice: Position = 0, channel: Position = 0
    ) -> Response:
        return _png(view.image(number, plane, slice, channel, (low, high)))

    @app.get("/api/cases/{number}/outlines")
    def outlines(number: int, plane: str = "", slice: Position = 0, fusion: str = "") -> dict[str, Any]:
        return view.outlines(number, plane, slice, fusion)

    @app.get("/api/cases/{number}/votes.png")
    def votes(number: int, structure: Position, plane: str = "", slice: Position = 0) -> Response:
        return _png(view.votes(number, plane, slice, structure))

    @app.get("/api/cases/{number}/prediction")
    def prediction(number: int, plane: str = "", slice: Position = 0) -> dict[str, Any]:
        return view.prediction(number, plane, slice)

    @app.get("/api/cases/{number}/probability.png")
    def probability(
        number: int, structure: Position, step: Position, plane: str = "", slice: Position = 0
    ) -> Response:
        return _png(view.prediction_map(number, plane, slice, structure, step, None))

    @app.get("/api/cases/{number}/confidence.png")
    def confidence(
        number: int, structure: Position, rater: Position, plane: str = "", slice: Position = 0
    ) -> Response:
        return _png(view.prediction_map(number, plane, slice, structure, 0, rater))

    if desk is not None:
        _add_desk(app, desk)
    return app


def _add_desk(app: FastAPI, desk: Desk) -> None:
    """What can be decided, and read of decisions."""

    @app.get("/api/cases/{number}/decisions", summary="What was decided about a case, structure by structure")
    def decisions(number: int) -> dict[str, Any]:
        return desk.standing(number)

    @app.get("/api/cases/{number}/decision.png", summary="A slice of what was decided: white inside")
    def decision(number: int, structure: Position, id: str, plane: str = "", slice: Position = 0) -> Response:
        return _png(desk.mask(number, structure, id, plane, slice))

    @app.post(
        "/api/cases/{number}/decisions",
        summary="Begin, paint, settle or note: one save, kept beside the others",
    )
    def decide(number: int, asked: Asked) -> dict[str, Any]:
        return desk.save(number, asked)

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
    if not request.headers.get("content-type", "").startswith("application/json"):
        return 415, "expected application/json"
    length = request.headers.get("content-length", "")
    if not length.isdecimal():
        return 411, "expected the length of what is sent"
    if int(length) > LARGEST_BODY:
        return 413, f"{length} bytes are more than the {LARGEST_BODY} that are taken"
    return None


def serve(view: View, *, port: int | None = None, browser: bool = True, desk: Desk | None = None) -> None:
    """Answer until interrupted.

    The address is printed when a browser can open it.

    Args:
        port: 0: any that is free; None: the usual one, or any that is free.
        browser: Open the page.
        desk: Where decisions are made; None: nothing is written.

    Raises:
        InputError: The port is taken.
    """
    listening = _listen(port)
    key = secrets.token_urlsafe(16)
    address = f"http://{ADDRESS}:{listening.getsockname()[1]}/?key={key}"
    config = uvicorn.Config(make_app(view, key, desk), log_level="error", access_log=False, use_colors=False)
    stop = threading.Event()
    threading.Thread(target=view.measure_all, args=[stop], daemon=True).start()
    saved = "" if desk is None else f"{desk.who} decides; saved in {desk.decisions.folder}\n"
    print(f"{view.title}: {address}\n{saved}Ctrl+C ends it", flush=True)
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


def _listen(port: int | None) -> socket.socket:
    """A socket of this machine's own address, to which one can connect from now on."""
    try:
        return _listen_at(USUAL_PORT if port is None else port)
    except OSError as error:
        if port is None:
            return _listen_at(0)
        why = error.strerror or str(error)
        raise InputError(
            f"port {port} cannot be used: {why[:1].lower()}{why[1:]}; name another by --port"
        ) from None
    except OverflowError:
        raise InputError(f"port {port} does not exist; expected 0 to 65535") from None


def _listen_at(port: int) -> socket.socket:
    listening = socket.socket()
    try:
        # elsewhere it makes a port free at once that was just left; on Windows two could then have the same
        option = "SO_EXCLUSIVEADDRUSE" if hasattr(socket, "SO_EXCLUSIVEADDRUSE") else "SO_REUSEADDR"
        listening.setsockopt(socket.SOL_SOCKET, getattr(socket, option), 1)
        listening.bind((ADDRESS, port))
        listening.listen(128)  # two that are bound to the same port are told apart only here
    except BaseException:
        listening.close()
        raise
    return listening


def _png(content: bytes) -> Response:
    return Response(content, media_type="image/png")


def _refusal(status: int, sentence: str) -> Response:
    return JSONResponse({"error": sentence}, status)
