"""Tables of runs that were trained elsewhere: files and documents -> cells -> rows."""

from blueberry.tables.reading import read_table, table_of
from blueberry.tables.rows import Row, Table

__all__ = ["Row", "Table", "read_table", "table_of"]
