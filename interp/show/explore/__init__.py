"""A look inside, live: ask, see both models' factors token by token, take a part away, ask again.

`explore(pair)` is the widget for a notebook; `Session` is what it computes, for scripts.
"""

from interp.show.explore.session import Change, Part, Reading, Session
from interp.show.explore.widget import Explorer, explore

__all__ = ["Change", "Explorer", "Part", "Reading", "Session", "explore"]
