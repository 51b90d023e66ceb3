"""The screen of a ward: one page for all beds, one for each, and the two things that people may do from them.

What was published is gathered for FLUSH_MS and sent as one event per channel, made once however many browsers follow.
A page that nobody follows costs nothing.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from html import escape
from http import HTTPStatus
from string import Template
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

from edgeward.bedside.page import bed_html, ward_html
from edgeward.bedside.page.bed_html import Actions
from edgeward.bedside.page.datum import PRIORITIES, claims, words
from edgeward.bedside.page.deed import ACKNOWLEDGE, Deed, read_deed
from edgeward.bedside.page.need import Need, Order, need_of
from edgeward.bedside.page.pieces import Moment
from edgeward.bedside.page.request import Refusal, Request, answer, refuse
from edgeward.bedside.page.screen import Static, json_answer, page_answer
from edgeward.bedside.page.trend import HOURS, Trends
from edgeward.bedside.page.view import View, patch
from edgeward.bedside.page.ward import BEDS_MAX, WardState, reachable
from edgeward.kernel.errors import EdgewardError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from edgeward.bedside.page.screen import News
    from edgeward.bedside.page.stay import Stay
    from edgeward.bedside.page.ward import Bed

Made = TypeVar("Made")
Act = Callable[[str, str, int, str, int], bool | None]
"""``act(action, bed, stay, alert, minutes)``: "acknowledge" one alert of a stay, or "suspend" its alerts for minutes
(0 ends it; ``alert`` is then ""). Called on the server's thread; hands it on and returns at once. False, or an
``EdgewardError`` in words for that person, when it cannot be handed on. What became of it is seen in the messages."""

FLUSH_MS = 250.0
"""How long a published datum may wait for others; short beside the second within which a failure is told."""
SWEEP_MS = 1_000.0
"""How often every bed is looked at anew, because things age without being told of."""
SAID_MAX = 8
"""New alerts that one event speaks of, for people who hear the page."""

_WARD = "/events"
_STYLES = ("base.css", "vitals.css", "ward.css", "bed.css")
_SCRIPTS = ("link.js", "theme.js", "patch.js", "ward.js", "bed.js", "curves.js")


class WardScreen:
    """A ``Screen`` over ``WardState``."""

    def __init__(self, hello: Mapping[str, Any], now_ms: float, act: Act | None, minutes: tuple[int, ...]) -> None:
        self.methods: tuple[str, ...] = ("GET",) if act is None else ("GET", "POST")
        self.failed_acts = 0
        self.unshowable = 0
        self._state = WardState(hello, now_ms)
        self._act = act
        self._actions = None if act is None else Actions(secrets.token_urlsafe(24), minutes)
        self._static = Static("ward.html", *_STYLES, *_SCRIPTS, "icon.svg")
        self._ward_template = Template(self._static.template)
        self._bed = Static("bed.html")
        self._bed_template = Template(self._bed.template)
        self._plain = Template(Static("plain.html").template)
        self._order = Order()
        self._needs: dict[str, Need] = {}
        self._dirty: set[str] = set()
        self._views: dict[str, View] = {}
        self._said: list[tuple[str, str, str]] = []
        self._reload = False
        self._flushed_ms = self._swept_ms = -FLUSH_MS - SWEEP_MS
        self._look_again(now_ms)

    # --- what comes in

    def apply(self, kind: str, data: Mapping[str, Any], now_ms: float) -> None:
        """Take one datum; see ``Screen``."""
        raised = kind == "alert" and self._is_news(data)
        before = [bed.name for bed in self._state.beds]
        bed = self._state.apply(kind, data, now_ms)
        if bed is not None:
            self._dirty.add(bed.name)
        if kind == "hello":
            self._look_again(now_ms)
            if before != [bed.name for bed in self._state.beds]:
                self._reload = True
                self._views.clear()
        if raised and bed is not None and not bed.suspended(now_ms) and len(self._said) < BEDS_MAX:
            self._said.append((bed.name, str(data["priority"]), words(data["text"])))

    def _is_news(self, data: Mapping[str, Any]) -> bool:
        bed = self._state.bed_named(str(data.get("bed")))
        stay = self._state.stay_of(bed) if bed else None
        held = stay.alerts.find(data.get("id")) if stay else None
        return bool(data.get("active")) and not (held is not None and claims(held))

    # --- what goes out

    def news(self, followed: Collection[str], now_ms: float) -> Iterator[News]:
        """One patch for every followed channel with something new."""
        for channel in self._views.keys() - set(followed):
            del self._views[channel]
        if self._reload:
            self._reload = False
            for channel in followed:
                yield channel, "reload", {"t_ms": round(now_ms, 1)}
        if now_ms - self._flushed_ms < FLUSH_MS:
            return
        self._flushed_ms = now_ms
        if now_ms - self._swept_ms >= SWEEP_MS:
            self._look_again(now_ms)
        dirty, self._dirty = self._dirty, set()
        said, self._said = sorted(self._said, key=lambda one: PRIORITIES.index(one[1])), []
        for bed in self._state.beds:
            if bed.name in dirty:
                self._needs[bed.name] = self._need(bed, now_ms)
        for channel, view in self._views.items():
            after = self._view(channel, now_ms, dirty)
            if after is None:
                continue
            found = patch(view, after)
            view.take(after)
            heard = [
                {"priority": priority, "text": f"{bed}: {text}"}
                for bed, priority, text in said
                if channel in (_WARD, self._channel_of(bed))
            ][:SAID_MAX]
            if found or heard:
                yield channel, "patch", {"t_ms": round(now_ms, 1), **found, **({"say": heard} if heard else {})}

    def greeting(self) -> Mapping[str, Any]:
        """The look, which changes with the files and with the beds, and the token of the forms."""
        beds = "\n".join(bed.name for bed in self._state.beds)
        look = hashlib.sha256(f"{self._static.look}{self._bed.look}{beds}".encode()).hexdigest()[:12]
        return {"look": look, **({"token": self._actions.token} if self._actions else {})}

    def joining(self, channel: str, now_ms: float) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """The whole view that the channel's other browsers have, or a new one where there are none."""
        if channel not in self._views:
            fresh = self._view(channel, now_ms, None)
            self._views[channel] = fresh or View()
        yield "patch", {"t_ms": round(now_ms, 1), **patch(View(), self._views[channel])}

    def channel(self, path: str) -> str | None:
        """``/events`` for the ward, ``/beds/<bed>/events`` for a bed."""
        bed, rest = self._bed_of(path)
        return path if path == _WARD else self._channel_of(bed.name) if bed is not None and rest == "events" else None

    def _channel_of(self, name: str) -> str:
        bed = self._state.bed_named(name)
        return "" if bed is None else f"{bed.path}/events"

    def _look_again(self, now_ms: float) -> None:
        self._swept_ms = now_ms
        self._state.forget(now_ms)
        self._dirty.update(bed.name for bed in self._state.beds)
        self._needs = {bed.name: self._need(bed, now_ms) for bed in self._state.beds}
        self._order.place(self._needs, now_ms)

    def _view(self, channel: str, now_ms: float, dirty: Collection[str] | None) -> View | None:
        """The view of a channel, of the dirty beds only; None where nothing of it can have changed."""
        moment = Moment(now_ms)
        if channel == _WARD:
            return self._ward_view(moment, dirty)
        bed, _ = self._bed_of(channel)
        if bed is None or (dirty is not None and bed.name not in dirty):
            return None
        return self._bed_view(bed, moment)

    def _ward_view(self, moment: Moment, dirty: Collection[str] | None) -> View:
        state = self._state
        order = self._order.place(self._needs, moment.now_ms)
        numbers = {bed.name: f"b{bed.index}" for bed in state.beds}
        view = View(order=[numbers[name] for name in order])
        view.html["p-summary"] = ward_html.summary(self._needs)
        view.html["p-mode"] = ward_html.ward_mode(state, moment)
        view.html["p-device"] = ward_html.device(state, moment)
        for bed in state.beds:
            if dirty is None or bed.name in dirty:
                made = self._tile(bed, moment)
                view.html.update(made.pieces)
                view.cells.update(made.cells)
                view.attributes[numbers[bed.name]] = made.attributes
        return view

    def _of(self, bed: Bed, made: Callable[[Stay | None], Made]) -> Made:
        """Something made of what is known of a bed. Should that fail, that bed alone starts anew, not the page."""
        try:
            return made(self._state.stay_of(bed))
        except (TypeError, ValueError, LookupError, AttributeError):
            self.unshowable += 1
            self._state.forget_all_of(bed)
            return made(self._state.stay_of(bed))

    def _need(self, bed: Bed, now_ms: float) -> Need:
        return self._of(bed, lambda stay: need_of(bed, stay, now_ms))

    def _tile(self, bed: Bed, moment: Moment) -> ward_html.Tile:
        return self._of(bed, lambda stay: ward_html.tile(bed, stay, self._needs[bed.name], self._state.tasks, moment))

    def _pieces(self, bed: Bed, moment: Moment) -> dict[str, str]:
        return self._of(bed, lambda stay: bed_html.pieces(bed, stay, self._state.tasks, self._actions, moment))

    def _bed_view(self, bed: Bed, moment: Moment) -> View:
        pieces = self._pieces(bed, moment)
        stay = self._state.stay_of(bed)
        names = bed_html.rows(stay)
        return View(
            {"p-rows": bed_html.rows_html(names, {}), **pieces},
            bed_html.cells(bed, stay, names, moment),
            {"page": {"data-stay": str(bed.stay or ""), "data-until": f"{bed.until_ms:.0f}" if bed.told_ms else ""}},
            shape=names,
        )

    # --- what is asked for

    def is_page(self, path: str) -> bool:
        """The ward's and the beds' pages."""
        bed, rest = self._bed_of(path)
        return path == "/" or (bed is not None and rest == "")

    def answer(self, request: Request, now_ms: float) -> bytes | None:
        """A page, a trend, a static file, or what became of a form."""
        bed, rest = self._bed_of(request.path)
        if bed is not None and rest == "act" and self._act is not None:
            return self._answer_act(request, bed)
        if request.method != "GET":
            return refuse(Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "only GET"))
        if request.path == "/":
            return page_answer(self._ward_page(now_ms))
        if bed is None:
            return self._static.answer(request.path)
        if rest == "":
            return page_answer(
                self._bed_page(bed, request.headers.get("host", ""), now_ms), forms=self._actions is not None
            )
        if rest == "trend.json":
            return self._trend(request, bed, now_ms)
        if rest == "suspend" and self._actions is not None and bed.stay is not None:
            return self._plain_page(bed, "Suspend alerts", bed_html.suspend_form(bed, self._actions))
        return None

    def _bed_of(self, path: str) -> tuple[Bed | None, str]:
        """The bed that a path speaks of, and what of it is wanted."""
        parts = path.split("/")
        if len(parts) not in (3, 4) or parts[:2] != ["", "beds"]:
            return None, ""
        return self._state.bed_named(unquote(parts[2])), parts[3] if len(parts) == 4 else ""

    def _ward_page(self, now_ms: float) -> bytes:
        state, moment = self._state, Moment(now_ms, spoken=True)
        order = self._order.place(self._needs, now_ms)
        beds = {bed.name: bed for bed in state.beds}
        return self._ward_template.substitute(
            ward=escape(str(state.hello.get("ward") or "Ward")),
            simulated="" if state.hello.get("simulated") else " hidden",
            columns=ward_html.columns(len(beds)),
            now=f"{now_ms:.0f}",
            summary=ward_html.summary(self._needs),
            mode=ward_html.ward_mode(state, moment),
            device=ward_html.device(state, moment),
            tiles="".join(ward_html.tile_html(beds[name], self._tile(beds[name], moment)) for name in order),
        ).encode()

    def _bed_page(self, bed: Bed, host: str, now_ms: float) -> bytes:
        state, moment = self._state, Moment(now_ms, spoken=True)
        pieces = self._pieces(bed, moment)
        stay = state.stay_of(bed)
        names = bed_html.rows(stay)
        bundles = " · ".join(
            " ".join(words(task[key]) for key in ("bundle", "version", "hash8") if task.get(key))
            for task in state.tasks
        )
        return self._bed_template.substitute(
            {name.replace("-", "_"): html for name, html in pieces.items()},
            bed=escape(bed.name),
            ward=escape(str(state.hello.get("ward") or "Ward")),
            path=escape(bed.path),
            now=f"{now_ms:.0f}",
            stay="" if bed.stay is None else bed.stay,
            simulated="" if state.hello.get("simulated") or bed.simulated else " hidden",
            ecg=f'<a class="button" href="{escape(reachable(bed.ecg, host))}">ECG</a>' if bed.ecg else "",
            rows=bed_html.rows_html(names, bed_html.cells(bed, stay, names, moment)),
            confirm=bed_html.suspend_form(bed, self._actions) if self._actions else "",
            bundles=escape(bundles) or "none",
        ).encode()

    def _plain_page(
        self, bed: Bed, title: str, body: str, status: HTTPStatus = HTTPStatus.OK, *, forms: bool = True
    ) -> bytes:
        page = self._plain.substitute(title=escape(title), bed=escape(bed.name), path=escape(bed.path), body=body)
        return page_answer(page.encode(), status, forms=forms)

    def _trend(self, request: Request, bed: Bed, now_ms: float) -> bytes:
        hours = request.query.removeprefix("hours=") or str(HOURS[0])
        if hours not in map(str, HOURS):
            return refuse(Refusal(HTTPStatus.BAD_REQUEST, f"hours is one of {', '.join(map(str, HOURS))}"))
        stay = self._state.stay_of(bed)
        trends = stay.trends if stay else Trends()
        told = {"t_ms": round(now_ms, 1), "stay": bed.stay, "limits": bed.limits}
        return json_answer({**told, **trends.window(now_ms, int(hours))})

    # --- what people do

    def _answer_act(self, request: Request, bed: Bed) -> bytes:
        assert self._actions is not None
        deed = read_deed(request, self._actions.token, self._actions.minutes)
        refusal = deed if isinstance(deed, Refusal) else self._do(deed, bed)
        if isinstance(refusal, Refusal) and refusal.status is HTTPStatus.METHOD_NOT_ALLOWED:
            return refuse(refusal)
        if "application/json" in request.headers.get("accept", ""):
            status = refusal.status if refusal else HTTPStatus.OK
            return json_answer({"done": refusal is None, "why": refusal.why if refusal else ""}, status)
        if refusal is None:
            return answer(HTTPStatus.SEE_OTHER, "text/plain; charset=utf-8", b"", f"Location: {bed.path}\r\n")
        return self._plain_page(
            bed, "Not done", f'<p class="told">Not done: {escape(refusal.why)}.</p>', refusal.status
        )

    def _do(self, deed: Deed, bed: Bed) -> Refusal | None:
        """Hand a deed on; a Refusal where it is for another stay, for an alert that is over, or not taken."""
        assert self._act is not None
        stay = self._state.stay_of(bed)
        if stay is None or deed.stay != bed.stay:
            return Refusal(HTTPStatus.CONFLICT, "another patient lies in this bed now; look again")
        alerts = [name for name in deed.alerts if (held := stay.alerts.find(name)) is not None and claims(held)]
        if deed.action == ACKNOWLEDGE and not alerts:
            return Refusal(HTTPStatus.CONFLICT, "this alert is over; look again")
        try:
            done = [self._act(deed.action, bed.name, deed.stay, alert, deed.minutes) for alert in (alerts or [""])]
        except EdgewardError as error:
            return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        except Exception:  # noqa: BLE001  a fault behind the callback must not end the page
            self.failed_acts += 1
            return Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "the device could not take it; go to the monitor")
        if False in done:
            return Refusal(
                HTTPStatus.SERVICE_UNAVAILABLE, "the device cannot take it now; try again or go to the monitor"
            )
        return None
