"""Our client as a database of VectorDBBench 2, registered from outside.

`DB` there is a closed enumeration without any hook, and all look-ups go through
three of its methods. `register` adds a member and lets the methods know it; no
file of VectorDBBench changes. Uses private parts of `enum`: tested with CPython
3.11 to 3.13, pinned to the versions of VectorDBBench in bench/vectordbbench.

Import it before VectorDBBench's front end, which lists the databases once.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from vectordb_bench.backend.clients import DB

NAME = "ScannFaiss"


def _restore(name: str) -> DB:
    """Unpickling calls this, so a spawned process imports us, which registers."""
    return DB(name)


def _ours(class_name: str) -> Any:
    return getattr(importlib.import_module("bench.vdbbench.client"), class_name)


def register() -> DB:
    """The member; made by the first call."""
    if NAME in DB.__members__:
        return DB[NAME]
    member = object.__new__(DB)
    member._name_ = member._value_ = NAME
    member.__objclass__ = DB
    member._sort_order_ = len(DB._member_names_)
    DB._member_names_.append(NAME)
    DB._member_map_[NAME] = member
    DB._value2member_map_[NAME] = member
    type.__setattr__(DB, NAME, member)

    def before(original: Callable[..., Any], class_name: str) -> Callable[..., Any]:
        def look_up(self: DB, *args: Any, **kwargs: Any) -> Any:
            return _ours(class_name) if self is member else original(self, *args, **kwargs)

        return look_up

    DB.init_cls = property(before(DB.init_cls.fget, "Client"))
    DB.config_cls = property(before(DB.config_cls.fget, "Config"))
    DB.case_config_cls = before(DB.case_config_cls, "CaseConfig")
    reduce = DB.__reduce_ex__
    DB.__reduce_ex__ = lambda self, protocol: (_restore, (self.value,)) if self is member else reduce(self, protocol)
    return member


register()
