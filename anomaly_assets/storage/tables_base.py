"""What all table models have in common."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Float, LargeBinary, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP
from sqlalchemy.orm import DeclarativeBase

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import TextClause

_Moment = TIMESTAMP(timezone=True)
_Json = JSONB(none_as_null=True)
#: Server default of a moment.
NOW: Final[TextClause] = text("now()")


def one_of(column: str, values: Iterable[str]) -> str:
    """Return the SQL of a check that `column` holds one of `values` (or NULL)."""
    # A native enum's new value is unusable in the transaction that adds it.
    return f"{column} IN ({', '.join(repr(str(value)) for value in values)})"


class Base(DeclarativeBase):
    """Base of all models."""

    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own protocol
        datetime: _Moment,
        str: Text,
        float: Float(53),
        dict[str, Any]: _Json,
        list[Any]: _Json,
        list[float]: ARRAY(Float(53)),
        list[str]: ARRAY(Text),
        bytes: LargeBinary,
    }
