"""The demo page with its assets, and the interactive reference at `/docs`."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

STATIC_FOLDER = Path(__file__).parent / "static"
_DOCS_FOLDER = Path(__file__).parent / "docs_page"
_SWAGGER_FOLDER = Path(str(files("fastapi_swagger"))) / "resources"

_ONE_YEAR_IMMUTABLE = "public, max-age=31536000, immutable"
_ASK_EACH_TIME = "no-cache"
_ONE_DAY = "public, max-age=86400"

router = APIRouter(include_in_schema=False)


class PageFiles(StaticFiles):
    """The built page. File names under `assets/` hold a hash of the content, so they never go stale."""

    def file_response(self, full_path: Any, *args: Any, **kwargs: Any) -> Response:
        """Adds how long browsers may keep the file."""
        response = super().file_response(full_path, *args, **kwargs)
        in_assets = Path(full_path).parent.name == "assets"
        response.headers["Cache-Control"] = _ONE_YEAR_IMMUTABLE if in_assets else _ASK_EACH_TIME
        return response


def page_files(folder: Path = STATIC_FOLDER) -> PageFiles:
    """To be mounted at `/`, after all routes."""
    return PageFiles(directory=folder, html=True)


@router.get("/docs")
async def reference_page() -> FileResponse:
    """Swagger UI, all of it from here: no other host is asked."""
    return FileResponse(_DOCS_FOLDER / "index.html", headers={"Cache-Control": _ASK_EACH_TIME})


@router.get("/docs/assets/start.js")
async def reference_start() -> FileResponse:
    """Starts Swagger UI."""
    return FileResponse(_DOCS_FOLDER / "start.js", headers={"Cache-Control": _ASK_EACH_TIME})


@router.get("/docs/assets/swagger-ui-bundle.js")
async def swagger_ui_script() -> FileResponse:
    """Swagger UI's code."""
    return _from_swagger_ui("swagger-ui-bundle.js", "text/javascript")


@router.get("/docs/assets/swagger-ui.css")
async def swagger_ui_style() -> FileResponse:
    """Swagger UI's style."""
    return _from_swagger_ui("swagger-ui.css", "text/css")


def _from_swagger_ui(name: str, media_type: str) -> FileResponse:
    # Only the package's files are used: its own way of serving them redirects `/` and sets no policy.
    return FileResponse(_SWAGGER_FOLDER / name, media_type=media_type, headers={"Cache-Control": _ONE_DAY})
