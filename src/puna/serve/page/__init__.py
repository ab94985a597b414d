"""The page at `/`, and the report at `/report`: files of this folder, served as they lie here."""

from __future__ import annotations

from dataclasses import asdict
from importlib import resources
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, JSONResponse, Response

from puna import storage
from puna.serve.guard import COOKIE, REPORT_POLICY
from puna.serve.parts import Parts
from puna.serve.refusals import Refusal

SCRIPTS = ("api", "card", "chat", "page", "settings", "tokens", "write", "writing")
FILES = ("icon.svg", "page.css", "tokens.css", *(f"{name}.js" for name in SCRIPTS))
TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}


def routes(parts: Parts) -> APIRouter:
    folder = resources.files("puna.serve.page")
    html = folder.joinpath("index.html").read_text("utf-8")
    files = {name: (folder.joinpath(name).read_bytes(), TYPES[name.rpartition(".")[2]]) for name in FILES}
    router, served = APIRouter(include_in_schema=False), parts.served

    @router.get("/")
    @router.get("/report")
    async def index() -> HTMLResponse:
        return HTMLResponse(html)

    @router.get("/page/{name}")
    async def file(name: str) -> Response:
        if name not in files:
            raise Refusal(404, f"the page has no file {name!r}")
        data, kind = files[name]
        return Response(data, media_type=kind)

    @router.get("/about")
    async def about() -> JSONResponse:
        """What the page must know of the server."""
        known: dict[str, Any] = {"model": served.name, "context": served.context}
        chats, reports = served.template is not None, served.report() is not None
        return JSONResponse({**known, "chat": chats, "report": reports, "limits": asdict(parts.limits)})

    @router.post("/report/session")
    async def session() -> Response:
        """A cookie by which the frame with the report, which cannot send a key, may load it."""
        reply = Response(status_code=204)
        reply.set_cookie(COOKIE, parts.door.session, path="/report", httponly=True, samesite="strict")
        return reply

    @router.get("/report/document")
    async def report() -> HTMLResponse:
        """The report of the run that the model is of."""
        place = served.report()
        if place is None:
            raise Refusal(404, "this model is of no run with a report; puna report RUN writes one")
        return HTMLResponse(storage.read(place), headers={"Content-Security-Policy": REPORT_POLICY})

    return router
