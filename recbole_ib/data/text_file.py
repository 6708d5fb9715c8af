"""Text files that others wrote: their encoding, and what is no text at all."""

from __future__ import annotations

from pathlib import Path

from recbole_ib.errors import DataError, nearest

UTF8 = ("utf-8", "utf8", "utf-8-sig")
#: how files begin that are no UTF-8
FOREIGN_MARKS = {b"\xff\xfe\x00\x00": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
#: and those that are no text
OTHER_KINDS = {b"PK\x03\x04": "a zip archive", b"\x1f\x8b": "a gzip archive", b"PAR1": "a parquet file"}


def read_text(path: Path, encoding: str) -> bytes:
    """Return a file's text in UTF-8, without a byte-order mark, its lines ended by newlines alone.

    Raises:
        DataError: no file, one that cannot be read, is empty, or holds no text of this encoding.
    """
    raw = _bytes(path)
    for mark, kind in OTHER_KINDS.items():
        if raw.startswith(mark):
            raise DataError(f"{path} is {kind}, not a text file with a header and a line per row")
    raw = _decoded(path, raw, encoding).removeprefix(b"\xef\xbb\xbf")
    if b"\0" in raw:
        line = raw.count(b"\n", 0, raw.index(b"\0")) + 1
        raise DataError(
            f"{path}, line {line}: a byte 0, which no text has; the file is damaged or of another kind"
        )
    if b"\r" in raw:
        raw = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if not raw.strip():
        raise DataError(f"{path} is empty; its first line names the columns, such as user_id:token")
    return raw


def _bytes(path: Path) -> bytes:
    if not path.is_file():
        near = nearest(path.name, [p.name for p in path.parent.iterdir()]) if path.parent.is_dir() else ""
        what = "is a folder, not a file" if path.is_dir() else "is not there"
        raise DataError(f"{path} {what}.{near}")
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


def _decoded(path: Path, raw: bytes, encoding: str) -> bytes:
    unicode = encoding.lower().replace("_", "-") in UTF8
    for mark, name in FOREIGN_MARKS.items():
        if unicode and raw.startswith(mark):
            raise DataError(
                f"{path} is {name.upper()} text by its first bytes; save it as UTF-8, or set encoding: {name}"
            )
    try:
        if unicode:
            raw.decode()
            return raw
        return raw.decode(encoding).encode()
    except LookupError:
        raise DataError(
            f"encoding is {encoding!r}, which Python does not know; utf-8, latin-1 and utf-16 are common"
        ) from None
    except UnicodeError as error:
        start = error.start if isinstance(error, UnicodeDecodeError) else 0
        line = raw.count(b"\n", 0, start) + 1
        raise DataError(
            f"{path}, line {line}: byte {raw[start : start + 1].hex()} is no {encoding} text; save the file "
            "as UTF-8, or set encoding to what it is written in (such as latin-1)"
        ) from None
