"""How long an example takes on a shared machine, or with a first import in it, says nothing: no deadlines."""

from hypothesis import settings

settings.register_profile("selfloop", deadline=None)
settings.load_profile("selfloop")
