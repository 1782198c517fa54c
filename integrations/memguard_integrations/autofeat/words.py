"""A finished run as people read it, and as one JSON document. Pure."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from memguard.report import JobReport
from memguard.units import format_bytes, format_duration, format_share
from memguard_integrations.autofeat.forecasts import episodes_said
from memguard_integrations.autofeat.records import Formula, Scores, Task
from memguard_integrations.autofeat.table_run import TableRun

__all__ = ["SCHEMA", "describe", "for_command_line", "to_document"]

SCHEMA: Final = "memguard.autofeat/1"

# Formulas shown; the rest is counted, and all are in the document and the output.
_SHOWN: Final = 12
# By this much AutoFeat's own model must fall behind before it is worth a word.
_WORSE: Final = 0.01
# Below this share of the strongest effect a formula plays no part in AutoFeat's own model.
_NO_EFFECT: Final = 1e-6


def describe(run: TableRun, report_path: str) -> Iterator[str]:
    """Yield the lines that tell what came out."""
    request, result = run.request, run.result
    rows = f"{result.model.rows:,} of {run.survey.usable_rows:,} usable rows"
    yield f"AutoFeat on {request.data}: {request.target} from {len(result.model.plan.names)} columns, {rows}"
    yield ""
    yield from _formula_lines(result.model.formulas, run)
    yield ""
    yield from _score_lines(run)
    yield ""
    width = max(len(name) for name, _ in _facts(run, report_path))
    yield from (f"{name:<{width}}  {value}" for name, value in _facts(run, report_path))


def _formula_lines(formulas: Sequence[Formula], run: TableRun) -> Iterator[str]:
    task, target = run.request.settings.task, run.request.target
    unit = target if task is Task.REGRESSION else f"the log-odds of {target}"
    yield f"effect      formula (effect: change of {unit} for one standard deviation of the column)"
    strongest = max((abs(formula.effect) for formula in formulas), default=0.0)
    in_use = [formula for formula in formulas if abs(formula.effect) > strongest * _NO_EFFECT]
    for formula in in_use[:_SHOWN]:
        yield f"{formula.effect:<+10.4g}  {formula.formula}{'' if formula.engineered else '  (original)'}"
    rest = len(formulas) - len(in_use[:_SHOWN])
    if rest:
        yield f"            and {rest} more that were selected; all are in the output"


def _score_lines(run: TableRun) -> Iterator[str]:
    fitted, held_out = run.result.fitted, run.result.held_out
    measure = "R2" if run.request.settings.task is Task.REGRESSION else "accuracy"
    engineered = len(run.result.model.attributes["new_feat_cols_"])
    heads = [f"{fitted.rows:,} rows fitted on", f"{held_out.rows:,} other rows"]
    if held_out.rows == 0:
        heads = heads[:1]
    yield f"{measure:<44}{''.join(f'{head:>24}' for head in heads)}"
    lines = (
        ("AutoFeat's own model", "autofeat"),
        (f"linear model, with {engineered} engineered columns", "engineered"),
        ("linear model, without them", "plain"),
    )
    for name, kind in lines:
        shown = [_score(scores, kind) for scores in (fitted, held_out)[: len(heads)]]
        yield f"{name:<44}{''.join(f'{each:>24}' for each in shown)}"
    if held_out.rows == 0:
        yield "no row was held out: on rows it has not seen the model may do worse"
    last = held_out if held_out.rows else fitted
    if last.autofeat is not None and last.engineered is not None and last.engineered - last.autofeat > _WORSE:
        yield "AutoFeat's own model takes columns as they are, however far apart in size; the linear ones scale them."


def _score(scores: Scores, kind: str) -> str:
    value: float | None = getattr(scores, kind)
    return "-" if value is None else f"{value:.4f}"


def _facts(run: TableRun, report_path: str) -> list[tuple[str, str]]:
    report, result, request = run.report, run.result, run.request
    engineered = len(result.model.attributes["new_feat_cols_"])
    plain = len(result.columns) - engineered - 1
    next_step = (
        f"memguard report {report_path}" if report_path else f"pandas.read_parquet({request.output!r})"
    )
    return [
        (
            "output",
            f"{request.output}: {result.rows:,} rows x {len(result.columns)} columns "
            f"({plain} original, {engineered} engineered, {request.target})",
        ),
        ("forecast", _forecast_said(run)),
        *([("past jobs", said)] if (said := _past_said(run)) else []),
        *([("left out", "; ".join(result.model.left_out))] if result.model.left_out else []),
        (
            "memory",
            f"peak {format_bytes(report.peak_bytes)}, {format_share(report.utilisation)} of the budget of "
            f"{format_bytes(report.budget.limit_bytes)}; estimated {format_bytes(run.estimate.expected_bytes)}, "
            f"at most {format_bytes(run.estimate.high_bytes)}",
        ),
        ("time", format_duration(run.duration_s)),
        ("next", next_step),
    ]


def _forecast_said(run: TableRun) -> str:
    if not run.estimate.phases:
        return "none by parts"
    parts = ", ".join(
        f"{each['name']} {format_bytes(each['peak_bytes'])} ({format_bytes(each['expected_bytes'])})"
        for each in _phases(run)
        if each["expected_bytes"] is not None
    )
    return f"plan {run.estimate.plan}; peak (forecast) of {parts}"


def _past_said(run: TableRun) -> str:
    """Tell what was reserved by past jobs, which of them, and what the next one like it gets."""
    sizing = run.report.sizing
    if sizing is None or sizing.predicted_bytes is None:
        return ""
    named = episodes_said(sizing)
    reserved = min(sizing.predicted_bytes, run.report.budget.limit_bytes)
    said = f"reserved {format_bytes(reserved)}" + (f" by {named}" if named else ", there were none like it")
    return (
        said
        if sizing.next_bytes is None
        else f"{said}; the next one like it gets {format_bytes(sizing.next_bytes)}"
    )


def _sizing_document(run: TableRun) -> dict[str, Any] | None:
    sizing = run.report.sizing
    if sizing is None or sizing.predicted_bytes is None:
        return None
    return {
        "predicted_bytes": sizing.predicted_bytes,
        "expected_bytes": sizing.expected_bytes,
        "low_bytes": sizing.low_bytes,
        "high_bytes": sizing.high_bytes,
        "miss_rate": sizing.miss_rate,
        "promised": sizing.promised,
        "observations": sizing.observations,
        "basis": sizing.basis,
        "reasons": sizing.reasons,
        "episodes": [dataclasses.asdict(each) for each in sizing.episodes],
        "next_bytes": sizing.next_bytes,
    }


def _phases(run: TableRun) -> list[dict[str, Any]]:
    return [
        {
            "name": phase.name,
            "expected_bytes": run.estimate.phases.get(phase.name),
            "peak_bytes": phase.peak_bytes,
            "duration_s": round(phase.duration_s, 3),
        }
        for phase in run.report.phases
    ]


def to_document(run: TableRun, report_path: str) -> dict[str, Any]:
    """Return the document ``memguard.autofeat/1``; bytes are bytes, ``_s`` are seconds."""
    result, request, report = run.result, run.request, run.report
    document = {
        "schema": SCHEMA,
        "data": request.data,
        "target": request.target,
        "task": request.settings.task.value,
        "output": request.output,
        "settings": _settings(run),
        "rows": {
            "table": run.survey.facts.rows,
            "usable": run.survey.usable_rows,
            "fitted": result.model.rows,
            "written": result.rows,
        },
        "columns": {
            "plain": [dataclasses.asdict(column) for column in result.model.plan.columns],
            "engineered": result.model.attributes["new_feat_cols_"],
            "written": result.columns,
        },
        "formulas": [dataclasses.asdict(formula) for formula in result.model.formulas],
        "scores": {
            "measure": "r2" if request.settings.task is Task.REGRESSION else "accuracy",
            "fitted": dataclasses.asdict(result.fitted),
            "held_out": dataclasses.asdict(result.held_out),
        },
        "estimate": {
            "low_bytes": run.estimate.low_bytes,
            "expected_bytes": run.estimate.expected_bytes,
            "high_bytes": run.estimate.high_bytes,
            "reasons": run.estimate.reasons,
            "inputs": dict(run.estimate.inputs),
            "plan": run.estimate.plan,
        },
        "forecast": _sizing_document(run),
        "phases": _phases(run),
        "left_out": result.model.left_out,
        "memory": {
            "peak_bytes": report.peak_bytes,
            "budget_bytes": report.budget.limit_bytes,
            "utilisation": round(report.utilisation, 4),
            "survey_peak_bytes": run.survey_report.peak_bytes,
        },
        "duration_s": round(run.duration_s, 3),
        "warnings": [*run.survey.warnings, *result.warnings, *(each.text for each in report.warnings)],
        "report": report_path or None,
    }
    return dict(json.loads(json.dumps(document)))


def _settings(run: TableRun) -> dict[str, Any]:
    settings = run.request.settings
    return {
        "steps": settings.steps,
        "selection_runs": settings.selection_runs,
        "transformations": settings.transformations,
        "jobs": settings.jobs,
        "seed": settings.seed,
        "missing": settings.missing.value,
        "engine": settings.engine.value,
        "light": settings.light.value,
    }


def for_command_line(report: JobReport) -> JobReport:
    """Write the report's advice as flags: it is a function's report, but a command is what the reader ran."""
    advice = tuple(_as_flags(each) for each in report.recommendations)
    death = report.death
    if death is not None:
        death = dataclasses.replace(death, what_next=tuple(_as_flags(each) for each in death.what_next))
    return dataclasses.replace(report, recommendations=advice, death=death)


def _as_flags(advice: str) -> str:
    if advice.startswith("work on fewer rows"):
        return "or hold less at once: fewer rows (--fit-rows), fewer --columns or fewer --steps"
    return re.sub(r'(memory|timeout)="([^"]+)"', r"--\1 \2", advice)
