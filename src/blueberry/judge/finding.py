"""What every record of a judgement is."""

from pydantic import BaseModel, ConfigDict


class Finding(BaseModel):
    """Frozen; infinities allowed (a diverged run), NaN never."""

    model_config = ConfigDict(frozen=True, extra="forbid")
