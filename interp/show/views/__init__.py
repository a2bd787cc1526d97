"""Views for a browser or a notebook: tokens coloured by what the models expect next."""

from interp.show.views.measure import token_view
from interp.show.views.notebook_bar import progress
from interp.show.views.tokens import SCRIPT, STYLE, TokenView, fragment

__all__ = ["SCRIPT", "STYLE", "TokenView", "fragment", "progress", "token_view"]
