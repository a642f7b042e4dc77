"""`python -m tests.golden [NAME ...]` writes the golden files; `--documents DIR` prints the doctor on the published reports."""

import sys
from pathlib import Path

from tests.golden.files import FOLDER, documents, make, names, needs


def main(words: list[str]) -> None:
    if words[:1] == ["--documents"]:
        print(documents(Path(words[1])), end="")
        return
    for name in names():
        if words and not any(word in name for word in words):
            continue
        if needs(name):
            print(f"{name}: left as it is; it needs {needs(name)}")
            continue
        for file, text in make(name):
            path = FOLDER / file
            path.parent.mkdir(exist_ok=True)
            before = path.read_text(encoding="utf-8") if path.exists() else None
            path.write_text(text, encoding="utf-8")
            if text != before:
                print(f"{file}: {'written' if before is None else 'CHANGED'}")
    if not words:
        wanted = {FOLDER / f"{name}{end}" for name in names() for end in (".json", ".md")}
        for path in [*FOLDER.glob("studies/*"), *FOLDER.glob("tables/*")]:
            if path not in wanted:
                path.unlink()
                print(f"{path.relative_to(FOLDER)}: removed")


if __name__ == "__main__":
    main(sys.argv[1:])
