"""Packages that not everybody needs: asked for when they are, with the line that installs them."""

import importlib.util

from blueberry.errors import DataError


def require(package: str, extra: str, place: str) -> None:
    """Raises: DataError naming the extra to install, if the package is missing."""
    if importlib.util.find_spec(package) is None:
        raise DataError(
            f"{place}: needs the package {package}, which is not installed; "
            f"pip install 'blueberry-lm[{extra}]', or use another kind of data"
        )
