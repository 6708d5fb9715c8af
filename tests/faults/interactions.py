"""Files of interactions, users and items that are not what RecBole's reader expects."""
# ruff: noqa: E501  (a row of the table is a line)

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import yaml

from tests.faults.case import Case, check, pairs, rows, settings, train

HEAD = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
BODY = rows().split("\n", 1)[1]
MINIMAL = "".join(f"{u}\t{i}\n" for u, i in pairs())


def inter(text: str | bytes) -> Callable[[Path], object]:
    data = text if isinstance(text, bytes) else text.encode()
    return lambda folder: (folder / "data/d/d.inter").write_bytes(data)


def with_yaml(text: str, **more: object) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        inter(text)(folder)
        (folder / "data/d/d.yaml").write_text(yaml.safe_dump(settings(**more)))

    return make


def replaced(line: int, text: str) -> str:
    lines = rows().split("\n")
    lines[line - 1] = text
    return "\n".join(lines)


def without(path: str) -> Callable[[Path], object]:
    return lambda folder: (folder / path).unlink()


def a_folder(path: str) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        (folder / path).unlink()
        (folder / path).mkdir()

    return make


#: name -> what makes it, and the words that it must be refused with
REFUSED: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "no file": (without("data/d/d.inter"), ("d.inter is not there",)),
    "a folder": (a_folder("data/d/d.inter"), ("d.inter is a folder",)),
    "empty": (inter(""), ("d.inter is empty", "user_id:token")),
    "blank lines alone": (inter("\n\n\n"), ("d.inter is empty",)),
    "header alone": (inter(HEAD + "\n"), ("d.inter has a header and no rows",)),
    "no header": (inter(BODY), ("line 1", "names every column with its type")),
    "header without types": (inter("user_id\titem_id\n" + MINIMAL), ("line 1", "'user_id' is no header", "user_id:token")),
    "one column without a type": (inter("user_id:token\titem_id\trating:float\ttimestamp:float\n" + BODY), ("'item_id' is no header",)),
    "a column of two types": (inter(HEAD.replace("rating:float", "rating:float:float") + "\n" + BODY), ("line 1", "is no header")),
    "a column without a name": (inter(HEAD.replace("rating:", ":") + "\n" + BODY), ("line 1", "is no header")),
    "unknown type": (inter(HEAD.replace("rating:float", "rating:flaot") + "\n" + BODY), ("'flaot'", "Did you mean float", "token_seq")),
    "type int": (inter(HEAD.replace("rating:float", "rating:int") + "\n" + BODY), ("'int'", "Types: token")),
    "commas": (inter((HEAD + "\n" + BODY).replace("\t", ",")), ("line 1", "separated by commas", "field_separator: ','")),
    "semicolons": (inter((HEAD + "\n" + BODY).replace("\t", ";")), ("line 1", "field_separator: ';'")),
    "blanks": (inter((HEAD + "\n" + BODY).replace("\t", " ")), ("line 1", "separated by blanks")),
    "column twice": (inter(HEAD.replace("rating:float", "user_id:token") + "\n" + BODY), ("'user_id' is there twice",)),
    "no item_id": (inter(HEAD.replace("item_id", "itemid") + "\n" + BODY), ("no column 'item_id'", "Did you mean itemid")),
    "no user_id": (inter(HEAD.replace("user_id", "uid") + "\n" + BODY), ("no column 'user_id'", "Its columns: uid")),
    "text in a float column": (inter(replaced(5, "u0\ti6\tgood\t1700000000")), ("line 5", "rating is of type float", "'good'")),
    "a date as time": (inter(replaced(4, "u0\ti4\t3\t2024-01-01")), ("line 4", "timestamp is of type float", "'2024-01-01'")),
    "decimal comma": (inter(replaced(3, "u0\ti2\t3,5\t1700000000")), ("line 3", "'3,5'")),
    "infinite rating": (inter(replaced(6, "u0\ti8\tinf\t1700000000")), ("line 6", "rating is not a finite number", "'inf'")),
    "a rating beyond float64": (inter(replaced(6, "u0\ti8\t1e999\t1700000000")), ("line 6", "'1e999'")),
    "a line with three fields": (inter(replaced(7, "u0\ti10\t3")), ("line 7 has 3 fields", "names 4")),
    "a line with five fields": (inter(replaced(7, "u0\ti10\t3\t1\t1")), ("line 7 has 5 fields", "names 4")),
    "all lines with five fields": (inter(HEAD + "\n" + BODY.replace("\n", "\tx\n")), ("line 2 has 5 fields",)),
    "a line with one field": (inter(replaced(9, "u0")), ("line 9 has 1 fields",)),
    "a line of blanks": (inter(replaced(9, "   ")), ("line 9 has 1 fields",)),
    "last line cut": (inter(rows()[:-14]), ("fields", "names 4")),
    "an empty user": (inter(replaced(3, "\ti2\t3\t1700000000")), ("1 rows have an empty user_id", "rows 2 below")),
    "an empty item": (inter(replaced(3, "u0\t\t3\t1700000000")), ("1 rows have an empty item_id",)),
    "binary": (inter(bytes(range(256)) * 4), ("d.inter",)),
    "bytes 0": (inter(rows().replace("u3\t", "u\0003\t", 1)), ("line 29", "a byte 0")),
    "latin-1": (inter(rows().replace("u0", "Zo\xe9").encode("latin-1")), ("line 2", "byte e9 is no utf-8 text", "latin-1")),
    "UTF-16": (inter(rows().encode("utf-16")), ("UTF-16", "set encoding: utf-16")),
    "UTF-16 big-endian": (inter(b"\xfe\xff" + rows().encode("utf-16-be")), ("UTF-16", "encoding: utf-16")),
    "UTF-32": (inter(rows().encode("utf-32")), ("UTF-32", "encoding: utf-32")),
    "a zip archive": (inter(b"PK\x03\x04" + bytes(50)), ("is a zip archive",)),
    "a gzip archive": (inter(b"\x1f\x8b\x08" + bytes(50)), ("is a gzip archive",)),
    "a parquet file": (inter(b"PAR1" + bytes(50)), ("is a parquet file",)),
    "a quoted field over two lines that no quote closes": (inter(replaced(5, 'u0\t"i\n6\t3\t1700000000')), ("line 5 has 2 fields",)),
    "load_col of a missing column": (with_yaml(rows(), load_col={"inter": ["user_id", "item_id", "ratting"]}), ("no column 'ratting'", "Did you mean rating")),
    "load_col without items": (with_yaml(rows(), load_col={"inter": ["user_id"]}), ("'item_id'", "load_col or unload_col leaves it out")),
    "unload_col of users": (with_yaml(rows(), load_col=None, unload_col={"inter": ["user_id"]}), ("'user_id'", "load_col or unload_col leaves it out")),
    "val_interval of a missing column": (with_yaml(rows(), val_interval={"stars": "[4,inf)"}), ("val_interval names 'stars'", "rating")),
    "val_interval of a token column by an interval": (with_yaml(rows(), val_interval={"user_id": "[4,inf)"}), ("user_id", "list of tokens")),
    "USER_ID_FIELD of a missing column": (with_yaml(rows(), USER_ID_FIELD="user"), ("no column 'user', which USER_ID_FIELD names",)),
    "ITEM_ID_FIELD of a missing column": (with_yaml(rows(), ITEM_ID_FIELD="item"), ("no column 'item', which ITEM_ID_FIELD names",)),
    "a filter that leaves nothing": (with_yaml(rows(), val_interval={"rating": "[9,inf)"}), ("no interaction", "val_interval", "too strict")),
    "a core that leaves nothing": (with_yaml(rows(), user_inter_num_interval="[500,inf)"), ("no interaction", "user_inter_num_interval", "too strict")),
    "order TO without times": (with_yaml(rows(), load_col={"inter": ["user_id", "item_id"]}, eval_args={"order": "TO"}), ("order: TO", "TIME_FIELD", "load_col")),
    "LS and TO without times": (with_yaml(rows(), load_col={"inter": ["user_id", "item_id"]}, eval_args={"order": "TO", "split": {"LS": "valid_and_test"}}), ("order: TO", "TIME_FIELD")),
    "TIME_FIELD of a missing column": (with_yaml(rows(), TIME_FIELD="when", eval_args={"order": "TO"}), ("'when'", "TIME_FIELD")),
    "unknown encoding": (with_yaml(rows(), encoding="utf-99"), ("encoding is 'utf-99'", "latin-1")),
    "another encoding": (with_yaml(rows().replace("u0", "Zo\xe9"), encoding="ascii"), ("line 2", "no ascii text")),
    "a separator of a quote": (with_yaml(rows(), field_separator='"'), ("field_separator",)),
    "one benchmark file": (with_yaml(rows(), benchmark_filename=["train"]), ("benchmark_filename", "[train, valid, test]")),
    "missing benchmark files": (with_yaml(rows(), benchmark_filename=["train", "valid", "test"]), ("d.train.inter is not there", "d.inter")),
    "a user with every item": (inter(rows([f"all\ti{i}\t4\t1700000000" for i in range(20)])), ("1 users have interacted with all 20 items", "'all'", "user_inter_num_interval")),
}  # fmt: skip


def items(text: str, kind: str = "item", **more: object) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        (folder / f"data/d/d.{kind}").write_text(text)
        columns = {"inter": ["user_id", "item_id"], kind: "*"}
        (folder / "data/d/d.yaml").write_text(yaml.safe_dump(settings(load_col=columns, **more)))

    return make


ITEM_ROWS = "".join(f"i{i}\ta b\t{i}\n" for i in range(20))
ITEM_HEAD = "item_id:token\tgenre:token_seq\tyear:float\n"
OF_ITEMS: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "no header": (items(ITEM_ROWS), ("d.item, line 1", "is no header")),
    "empty": (items(""), ("d.item is empty",)),
    "unknown type": (items(ITEM_HEAD.replace("token_seq", "tokens") + ITEM_ROWS), ("'tokens'", "Did you mean token")),
    "text as a number": (items(ITEM_HEAD + ITEM_ROWS.replace("\t7\n", "\tMCM\n")), ("d.item, line 9", "year", "'MCM'")),
    "a short line": (items(ITEM_HEAD + ITEM_ROWS.replace("\t7\n", "\n")), ("d.item, line 9 has 2 fields",)),
    "an empty id": (items(ITEM_HEAD + ITEM_ROWS.replace("i7\t", "\t")), ("d.item", "empty item_id")),
    "text in a float_seq": (
        items("item_id:token\tvec:float_seq\n" + "".join(f"i{i}\t1 x{i}\n" for i in range(20))),
        ("d.item, line 2", "vec is of type float_seq", "x0"),
    ),
    "nan in a float_seq": (
        items("item_id:token\tvec:float_seq\n" + "".join(f"i{i}\t1 nan\n" for i in range(20))),
        ("d.item, line 2", "vec holds a number that is not finite"),
    ),
    "users without a header": (items("u1\t30\n", kind="user"), ("d.user, line 1", "is no header")),
    "users with text as age": (items("user_id:token\tage:float\nu1\told\n", kind="user"), ("d.user, line 2", "age", "'old'")),
}


def cases() -> list[Case]:
    """All of them, by check and by training."""
    found = []
    for name, (make, words) in REFUSED.items():
        found.append(Case("interactions, check", name, () if name == "a user with every item" else words, make, check()))
        found.append(Case("interactions, training", name, words, make, train()))
    found += [Case("items and users", name, words, make, train()) for name, (make, words) in OF_ITEMS.items()]
    return [case for case in found if case.words]
