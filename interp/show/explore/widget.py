"""The explorer in a notebook: ipywidgets around a `Session`.

Type a question, or choose an answer; the tables show both models' factors by token and the lens.
Click a head or an MLP, to patch or to ablate it: the tuned model's factors without it stand below,
and the answer that it writes then. Needs ipywidgets (the extra `notebooks`).
"""

from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from interp.base.errors import InputError, InterpError
from interp.behaviour.generate import Response
from interp.models import ModelPair
from interp.show.explore.markup import answers_html, tables_html
from interp.show.explore.session import Change, Part, Reading, Session

if TYPE_CHECKING:
    from types import ModuleType

_MOST_ROWS = 16
"""Blocks whose parts are shown at once; of deeper models a slider chooses where they begin."""


def explore(
    pair: ModelPair,
    answers: Sequence[Response] = (),
    *,
    max_new_tokens: int = 48,
    temperature: float = 0.7,
    seed: int = 0,
) -> "Explorer":
    """Explore a pair in a notebook.

    Args:
        pair: base and tuned.
        answers: some to choose from, as `pair.generate` makes them.
        max_new_tokens: where an answer is cut.
        temperature: of new answers.
        seed: of their noise.

    Raises:
        InputError: if ipywidgets is not installed.
    """
    session = Session(pair, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
    return Explorer(session, answers)


class Explorer:
    """The widget; `box` holds it, `reading` and `change` what it shows.

    Attributes:
        session: what computes.
        parts: the buttons, by part.
    """

    def __init__(self, session: Session, answers: Sequence[Response] = ()) -> None:
        self.session, self.answers = session, list(answers)
        self.reading: Reading | None = None
        self.change: Change | None = None
        self._kit = kit = _ipywidgets()
        self.prompt = kit.Text(description="Question", placeholder="Do you like tea?")
        self.ask = kit.Button(description="Ask", button_style="primary")
        known = [(f"{one.question} {one.text}"[:80], place) for place, one in enumerate(answers)]
        self.chosen = kit.Dropdown(options=[("an answer …", None), *known], description="or choose")
        self.how = kit.ToggleButtons(options=["patch", "ablate"], description="Click to")
        self.first = kit.IntSlider(
            max=max(0, session.layers - _MOST_ROWS), description="From block"
        )
        self.parts: dict[Part, Any] = {}
        self.grid = kit.VBox()
        self.said, self.tables = kit.HTML(), kit.HTML()
        self.box = kit.VBox([
            kit.HBox([self.prompt, self.ask]),
            *([self.chosen] if answers else []),
            self.said, self.how,
            *([self.first] if session.layers > _MOST_ROWS else []),
            self.grid, self.tables,
        ])  # fmt: skip
        self.ask.on_click(lambda _: self._guarded(self._asked))
        self.chosen.observe(lambda _: self._guarded(self._picked), "value")
        self.first.observe(lambda _: self._lay(), "value")
        self._lay()

    def _repr_mimebundle_(self, **options: Any) -> Any:
        made = self.box._repr_mimebundle_(**options)
        said = "the explorer: run this cell in Jupyter to use it"
        still = f"<p><em>{said}</em></p>{self.said.value}{self.tables.value}"
        return made | {"text/html": still, "text/plain": said}  # for viewers of stored notebooks

    def click(self, part: Part) -> None:
        """Patch or ablate a part, as its button does."""
        self._guarded(lambda: self._clicked(part))

    def _lay(self) -> None:
        """A row of buttons for each block: its heads, its MLP."""
        kit, session = self._kit, self.session
        self.parts, rows = {}, []
        for layer in range(self.first.value, min(session.layers, self.first.value + _MOST_ROWS)):
            row = [kit.Label(f"Block {layer}", layout=kit.Layout(width="5em"))]
            for head in (*range(session.heads), None):
                part = Part(layer, head)
                name = "MLP" if head is None else str(head)
                button = kit.Button(
                    description=name, tooltip=str(part), layout=kit.Layout(width="3.6em")
                )
                button.on_click(lambda _, part=part: self.click(part))
                self.parts[part] = button
                row.append(button)
            rows.append(kit.HBox(row))
        self.grid.children = rows[::-1]  # the last block on top, as in every map

    def _asked(self) -> None:
        self._read(self.session.read(self.prompt.value))

    def _picked(self) -> None:
        if self.chosen.value is not None:
            one = self.answers[self.chosen.value]
            self._read(self.session.read(one.question, one.text))

    def _read(self, reading: Reading) -> None:
        self.reading, self.change = reading, None
        self.prompt.value = reading.prompt
        self._show()

    def _clicked(self, part: Part) -> None:
        if self.reading is None:
            raise InputError("ask a question first; there is no answer to look into")
        self.change = self.session.change(self.reading, part, self.how.value)
        for known, button in self.parts.items():
            button.button_style = "warning" if known == part else ""
        self._show()

    def _show(self) -> None:
        if self.reading is not None:
            self.said.value = answers_html(self.reading, self.change)
            self.tables.value = tables_html(self.reading, self.change)

    def _guarded(self, work: Callable[[], None]) -> None:
        """What cannot be done is said where the answer stands; the tables stay as they are."""
        try:
            work()
        except InterpError as problem:
            self.said.value = f'<p role="alert">{escape(str(problem))}</p>'


def _ipywidgets() -> "ModuleType":
    try:
        import ipywidgets
    except ImportError:
        raise InputError(
            "the explorer needs ipywidgets: pip install -c constraints.txt -e '.[notebooks]'"
        ) from None
    return ipywidgets
