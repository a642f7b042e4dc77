"""Vega, Vega-Lite and vega-embed as one script that needs no network."""

import contextlib
import os
from functools import cache
from importlib.metadata import version
from pathlib import Path

from blueberry.files import write_whole


@cache
def vega_script() -> str:
    """The script, safe inside a script element. About 0.9 million characters.

    Putting it together takes 2 s, so it is kept in the user's cache folder, by version. Where that cannot be
    read or written it is put together again.
    """
    kept = _cache_folder() / f"vega-{version('vl-convert-python')}.js"
    with contextlib.suppress(OSError):
        return kept.read_text(encoding="utf-8")
    import vl_convert

    # In a script element only "</script" and "<!--" would end or change it.
    bundle = vl_convert.javascript_bundle()  # pyright: ignore[reportCallIssue]
    script = bundle.replace("</script", "<\\/script").replace("<!--", "<\\!--")
    with contextlib.suppress(OSError):
        write_whole(kept, script.encode())
    return script


def _cache_folder() -> Path:
    given = os.environ.get("XDG_CACHE_HOME")
    return (Path(given) if given else Path.home() / ".cache") / "blueberry"
