"""Views for a browser or a notebook: tokens coloured by what the models expect next."""

from interp.views.measure import token_view
from interp.views.progress import progress
from interp.views.tokens import SCRIPT, STYLE, TokenView, fragment

__all__ = ["SCRIPT", "STYLE", "TokenView", "fragment", "progress", "token_view"]
