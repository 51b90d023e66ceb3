"""The EC57 tables of many records: per record, gross, average, with intervals; as text and as one JSON object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeward.evaluate.bootstrap import DRAWS, LEVEL, Interval, intervals
from edgeward.evaluate.ec57 import COLUMNS, ROWS, Confusion, Figures
from edgeward.wire.wfdb import patient_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MEASURES = ("qrs", "sveb", "veb")
_FIGURES = ("se", "ppv", "fpr")


@dataclass(frozen=True, slots=True)
class RecordResult:
    """One record's comparison; ``paced`` takes it out of the VEB and SVEB figures; ``withheld`` counts tested beats."""

    record: str
    confusion: Confusion
    paced: bool
    withheld: int = 0


@dataclass(frozen=True, slots=True)
class BeatReport:
    """Results of all records that were scored. All fractions lie between 0 and 1; None is "not defined"."""

    results: tuple[RecordResult, ...]
    seed: int = 57
    draws: int = DRAWS

    def members(self, measure: str) -> tuple[RecordResult, ...]:
        """Records that stand in a measure: all in ``qrs``, those without paced beats in ``sveb`` and ``veb``."""
        return self.results if measure == "qrs" else tuple(r for r in self.results if not r.paced)

    def gross(self, measure: str) -> Figures:
        """Figures of all beats pooled."""
        return figures_of(Confusion.total(r.confusion for r in self.members(measure)), measure)

    def average(self, measure: str) -> Mapping[str, float | None]:
        """Mean of each figure over the records in which it is defined; every record weighs the same."""
        each = [figures_of(r.confusion, measure) for r in self.members(measure)]
        return {figure: _mean([getattr(f, figure) for f in each]) for figure in _FIGURES}

    def interval(self, measure: str) -> Mapping[str, Interval]:
        """95 % bootstrap intervals of the gross figures, drawn by patient."""
        members = self.members(measure)
        patients = [patient_of(r.record) for r in members]
        return intervals([r.confusion for r in members], patients, measure, seed=self.seed, draws=self.draws)

    def to_json(self) -> dict[str, Any]:
        """``qrs``, ``sveb``, ``veb`` (each ``se ppv fpr ci``, ``gross``, ``average``), ``records``, ``paced``."""
        out: dict[str, Any] = {"unit": "fraction", "ci_level": LEVEL, "ci_draws": self.draws}
        for measure in MEASURES:
            gross = self.gross(measure)
            ci = {name: None if pair is None else list(pair) for name, pair in self.interval(measure).items()}
            numbers = _plain(gross)
            out[measure] = {
                **{figure: numbers[figure] for figure in _FIGURES},
                "ci": ci,
                "gross": {**numbers, "ci": ci},
                "average": dict(self.average(measure)),
                "records": len(self.members(measure)),
            }
        unpaced = Confusion.total(r.confusion for r in self.results if not r.paced)
        out["qrs"]["gross_without_paced"] = _plain(unpaced.qrs)
        out["paced"] = [r.record for r in self.results if r.paced]
        out["records"] = [_record_json(r) for r in self.results]
        return out

    def to_text(self) -> str:
        """The tables as aligned plain text, figures in percent."""
        parts = [self._record_table(), "", self._gross_table()]
        if paced := [r.record for r in self.results if r.paced]:
            parts += ["", f"Paced records, in the QRS figures only: {' '.join(paced)}"]
        confusion = Confusion.total(r.confusion for r in self.members("veb"))
        return "\n".join(
            [*parts, "", "Reference (rows) against detected (columns), paced records left out", matrix(confusion)]
        )

    def _record_table(self) -> str:
        head = ["record", "beats", "QRS Se", "QRS +P"]
        for name in ("SVEB", "VEB"):
            head += [name, "Se", "+P", "FPR"]
        rows = [head]
        for r in self.results:
            row = [r.record, str(r.confusion.qrs.beats), percent(r.confusion.qrs.se), percent(r.confusion.qrs.ppv)]
            for measure in ("sveb", "veb"):
                row += ["paced", "", "", ""] if r.paced else _cells(figures_of(r.confusion, measure))
            rows.append(row)
        return align(rows)

    def _gross_table(self) -> str:
        rows = [["", "records", "beats", "Se", "95 %", "+P", "95 %", "FPR", "95 %", "average Se", "+P", "FPR"]]
        for measure in MEASURES:
            gross, ci, mean = self.gross(measure), self.interval(measure), self.average(measure)
            row = [measure.upper(), str(len(self.members(measure))), str(gross.beats)]
            for figure in _FIGURES:
                row += [percent(getattr(gross, figure)), _span(ci[figure])]
            rows.append(row + [percent(mean[figure]) for figure in _FIGURES])
        return align(rows)


def figures_of(confusion: Confusion, measure: str) -> Figures:
    """The figures of one measure (``qrs``, ``sveb``, ``veb``)."""
    pick: dict[str, Callable[[], Figures]] = {
        "qrs": lambda: confusion.qrs,
        "sveb": lambda: confusion.sveb,
        "veb": lambda: confusion.veb,
    }
    return pick[measure]()


def matrix(confusion: Confusion) -> str:
    """The confusion as EC57 prints it; O is an extra detection, o a missed beat."""
    rows = [["", *COLUMNS]]
    for k, name in enumerate(ROWS):
        rows.append([name, *(str(n) for n in confusion.counts[k].tolist())])
    rows[-1][-1] = ""
    return align(rows)


def align(rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned, the first to the left and the others to the right."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def percent(value: float | None) -> str:
    """A fraction in percent with two decimals, "-" where not defined."""
    return "-" if value is None else f"{100.0 * value:.2f}"


def _span(pair: Interval) -> str:
    return "-" if pair is None else f"{100.0 * pair[0]:.2f}–{100.0 * pair[1]:.2f}"


def _cells(figures: Figures) -> list[str]:
    return [str(figures.beats), percent(figures.se), percent(figures.ppv), percent(figures.fpr)]


def _plain(figures: Figures) -> dict[str, float | int | None]:
    return {
        "se": figures.se,
        "ppv": figures.ppv,
        "fpr": figures.fpr,
        "tp": figures.tp,
        "fn": figures.fn,
        "fp": figures.fp,
        "tn": figures.tn,
    }


def _record_json(result: RecordResult) -> dict[str, Any]:
    out: dict[str, Any] = {"record": result.record, "paced": result.paced, "withheld": result.withheld}
    for measure in MEASURES:
        stands = measure == "qrs" or not result.paced
        out[measure] = _plain(figures_of(result.confusion, measure)) if stands else None
    out["confusion"] = result.confusion.counts.tolist()
    return out


def _mean(values: list[float | None]) -> float | None:
    defined = [v for v in values if v is not None]
    return sum(defined) / len(defined) if defined else None
