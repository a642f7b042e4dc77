"""TOML in and out: recipes and study files."""

import json
import tomllib
from pathlib import Path
from typing import Any


def read_toml(path: Path, error: type[Exception]) -> dict[str, Any]:
    """Parse a TOML file; what goes wrong is raised as `error`, one line."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise error(f"{path}: no such file; give the path of a TOML file") from None
    except IsADirectoryError:
        raise error(f"{path}: is a folder; give the path of a TOML file") from None
    except (OSError, UnicodeDecodeError) as cause:
        raise error(f"{path}: cannot be read ({cause}); it must be readable UTF-8 text") from None
    except tomllib.TOMLDecodeError as cause:
        raise error(f"{path}: not valid TOML ({cause}); mend that line") from None
    except (RecursionError, ValueError):
        raise error(f"{path}: not valid TOML (nested too deeply, or a number too long); mend it") from None


def to_toml(tables: dict[str, Any]) -> str:
    """Nested tables of scalars and flat lists as a TOML file."""
    lines: list[str] = []
    _write_table(tables, "", lines)
    return "\n".join(lines).strip() + "\n"


def _write_table(table: dict[str, Any], prefix: str, lines: list[str]) -> None:
    scalars = {name: value for name, value in table.items() if not isinstance(value, dict)}
    if prefix and scalars:
        lines += ["", f"[{prefix.rstrip('.')}]"]
    lines += [f"{name} = {toml_value(value)}" for name, value in scalars.items()]
    for name, value in table.items():
        if isinstance(value, dict):
            _write_table(value, f"{prefix}{name}.", lines)


def toml_value(value: Any) -> str:
    """A scalar or a flat list as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace(
            "\x7f", "\\u007f"
        )  # a JSON text is a TOML one, but for DEL
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    return repr(value)
