"""The workshop's verbs: ``train``, ``export``, ``compress``, ``verify``, ``pack``; ``build`` does all, and publishes.

Every verb works in one build folder (default ``build/MODEL``) and takes up what the verb before left there. ``train``
notes its own options in that folder, so that the later verbs split the patients in the same way.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeward.kernel.errors import ConfigError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from edgeward.workshop.hypotension_line import HypotensionLine
    from edgeward.workshop.line import Line, LineOptions
    from edgeward.workshop.sepsis_line import SepsisLine
    from edgeward.workshop.task import TrainOptions

MODEL = "ecg-beat"
_NOTED = "options.json"
_DOWNLOADS = {"ecg-beat": "mitdb"}
_EXIT_CODES = "Exit codes: 0 done, 1 a gate does not hold (and no bundle is made), 2 arguments or data missing."


def register(subparsers: Any) -> None:
    """Add the verbs to the command line."""
    from edgeward.cli.people import key_arguments

    train = _verb(
        subparsers, "train", "train a model, split by patient, tracked with MLflow", "--data ../mitdb", run_train
    )
    _data_arguments(train)
    _train_arguments(train)

    export = _verb(subparsers, "export", "weights → ONNX, checked against torch (1e-5)", "", run_export)
    _out_argument(export)

    compress = _verb(
        subparsers,
        "compress",
        "FP32 → INT8, calibrated on training patients",
        "--method best --prune 0.3",
        run_compress,
    )
    _data_arguments(compress)
    _compress_arguments(compress)

    verify = _verb(subparsers, "verify", "measure every gate → evidence.json", "", run_verify)
    _data_arguments(verify)

    pack = _verb(subparsers, "pack", "models and evidence → one bundle", "--bundle-version 1.0.0", run_pack)
    _out_argument(pack)
    _pack_arguments(pack)

    build = _verb(
        subparsers, "build", "the whole line; unchanged steps are not repeated", "--data ../mitdb --download", run_build
    )
    for add in (_data_arguments, _train_arguments, _compress_arguments, _pack_arguments):
        add(build)
    build.add_argument("--publish", type=Path, metavar="REPO", help="publish the bundle in this signed repository too")
    build.add_argument("--keys", type=Path, metavar="DIR", help="private keys of the repository (outside of it)")
    key_arguments(build)


def run_train(arguments: argparse.Namespace) -> int:
    """The verb ``train``."""
    line = _noting_line(arguments)
    line.train()
    print(line.folder.path("train", "facts.json"))
    return 0


def run_export(arguments: argparse.Namespace) -> int:
    """The verb ``export``."""
    line = _line(arguments, _noted(arguments))
    line.export()
    print(line.folder.root / "export")
    return 0


def run_compress(arguments: argparse.Namespace) -> int:
    """The verb ``compress``."""
    line = _line(arguments, _noted(arguments))
    line.compress()
    print(line.folder.root / "compress")
    return 0


def run_verify(arguments: argparse.Namespace) -> int:
    """The verb ``verify``: exit code 1 when a gate does not hold."""
    line = _line(arguments, _noted(arguments))
    line.verify()
    print(line.folder.path("verify", "evidence.json"))
    return 0


def run_pack(arguments: argparse.Namespace) -> int:
    """The verb ``pack``."""
    print(_line(arguments, _noted(arguments)).pack())
    return 0


def run_build(arguments: argparse.Namespace) -> int:
    """The verb ``build``."""
    if (arguments.publish is None) != (arguments.keys is None):
        raise ConfigError("publish-arguments", "--publish and --keys belong together; give both or none")
    path = _noting_line(arguments).build()
    print(path)
    if arguments.publish is not None:
        from edgeward.cli.publish import publish, publisher_of

        publish(path, publisher_of(arguments, arguments.publish), allow_return=False)
    return 0


# --- arguments


def _verb(
    subparsers: Any, name: str, text: str, example: str, run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}. Needs the extra: pip install 'edgeward[workshop]'.",
        epilog=f"Example: edgeward {name} {MODEL} {example}".rstrip() + f". {_EXIT_CODES}",
    )
    parser.add_argument("model", nargs="?", default=MODEL, help=f"which model (default: {MODEL})")
    parser.set_defaults(run=run)
    return parser


def _out_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, metavar="DIR", help="build folder (default: build/MODEL)")


def _data_arguments(parser: argparse.ArgumentParser) -> None:
    _out_argument(parser)
    parser.add_argument(
        "--data",
        type=Path,
        metavar="PATH",
        help="folder of annotated WFDB records (MIT-BIH); for sepsis-risk (CinC 2019) and hypotension (CinC 2012), a "
        "parquet file",
    )
    parser.add_argument("--extra-data", type=Path, metavar="DIR", help="folder of PTB-XL, for made training strips")


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--download", action="store_true", help="fetch the public database into --data first")
    parser.add_argument("--records", metavar="A,B,…", help="use only these records")
    parser.add_argument("--fold", metavar="k/K", help="hold out the k-th of K groups of patients")
    parser.add_argument("--seed", type=int, help="seed of the training (default: the shipped model's)")
    parser.add_argument("--epochs", type=int, help="epochs (default: the shipped model's)")
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="adopt these weights instead of training; with --fold only if they have never seen that fold",
    )
    parser.add_argument("--decision", type=Path, metavar="FILE", help='JSON, {"log_offsets": […]}, one per class')


def _compress_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--method", default="best", help="calibration: best (default), minmax, percentile-99.99, …")
    parser.add_argument("--prune", type=float, default=0.0, metavar="SHARE", help="take out this share of the channels")
    parser.add_argument(
        "--distil-steps", type=int, default=400, metavar="N", help="batches of training after pruning (default: 400)"
    )


def _pack_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--evaluation",
        type=Path,
        metavar="FILE",
        help="JSON that 'evaluate … --cross-validate K --json' printed for this method, for the card and the bundle",
    )
    parser.add_argument("--bundle-version", default="0.1.0", metavar="X.Y.Z", help="version (default: 0.1.0)")


# --- their meaning


def _line(arguments: argparse.Namespace, train: TrainOptions) -> Line | SepsisLine | HypotensionLine:
    from edgeward.workshop.task import find_task, workshop_missing

    task = find_task(arguments.model)
    try:
        from edgeward.workshop.folder import BuildFolder
        from edgeward.workshop.hypotension_line import HypotensionLine
        from edgeward.workshop.line import Line
        from edgeward.workshop.sepsis_line import SepsisLine
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("edgeward"):
            raise
        raise workshop_missing(error.name) from error
    folder, options, tell = BuildFolder(_out(arguments)), _line_options(arguments, train), _teller()
    if task.name == "sepsis-risk":
        return SepsisLine(folder, options, tell)
    if task.name == "hypotension":
        return HypotensionLine(folder, options, tell)
    return Line(task, folder, options, tell)


def _noting_line(arguments: argparse.Namespace) -> Line | SepsisLine | HypotensionLine:
    """The line of ``train`` and ``build``, its options noted in the build folder for the later verbs.

    They are noted once the recordings are read: options that fail must not replace those of an earlier training.
    """
    options = _train_options(arguments)
    line = _line(arguments, options)
    _ = line.data
    noted = {
        "data": str(options.data.resolve()),
        "extra": str(options.extra.resolve()) if options.extra else None,
        "fold": options.fold,
        "seed": options.seed,
        "epochs": options.epochs,
        "records": options.records,
    }
    try:
        _out(arguments).mkdir(parents=True, exist_ok=True)
        (_out(arguments) / _NOTED).write_text(json.dumps(noted, indent=1, sort_keys=True) + "\n")
    except OSError as error:
        raise ConfigError("build-folder", "the build folder cannot be written; choose another --out") from error
    return line


def _out(arguments: argparse.Namespace) -> Path:
    named: Path | None = arguments.out
    return named or Path("build") / arguments.model


def _line_options(arguments: argparse.Namespace, train: TrainOptions) -> LineOptions:
    from edgeward.workshop.line import LineOptions

    given = vars(arguments)
    chosen: dict[str, Any] = {"train": train}
    names = {"method": "method", "prune": "prune", "distil_steps": "distil_steps", "bundle_version": "version"}
    chosen |= {field: given[name] for name, field in names.items() if name in given}
    chosen["weights"] = given.get("weights")
    if given.get("decision") is not None:
        chosen["decision"] = _json_file(given["decision"])
    if given.get("evaluation") is not None:
        chosen["evaluation"] = _json_file(given["evaluation"])
    return LineOptions(**chosen)


def _train_options(arguments: argparse.Namespace) -> TrainOptions:
    """The options of ``train`` and ``build``."""
    from edgeward.workshop.task import TASKS, TrainOptions

    if arguments.model not in TASKS:
        raise ConfigError("model-unknown", f"there is no model {arguments.model!r}; known: {', '.join(sorted(TASKS))}")
    if arguments.data is None:
        raise ConfigError("data-missing", "name the folder of the recordings with --data")
    if arguments.download:
        if arguments.model not in _DOWNLOADS:
            raise ConfigError("download-unknown", f"the data of {arguments.model} are fetched by hand; see the docs")
        download(_DOWNLOADS[arguments.model], arguments.data)
    return TrainOptions(
        data=arguments.data,
        extra=arguments.extra_data,
        fold=parse_fold(arguments.fold),
        seed=arguments.seed,
        epochs=arguments.epochs,
        records=tuple(arguments.records.split(",")) if arguments.records else None,
    )


def _noted(arguments: argparse.Namespace) -> TrainOptions:
    """What ``train`` noted, with ``--data`` and ``--extra-data`` given anew where the recordings have moved."""
    from edgeward.workshop.task import TrainOptions

    path = _out(arguments) / _NOTED
    if not path.is_file():
        raise ConfigError("step-missing", "the build folder holds no training; run `edgeward train` first")
    noted = _json_file(path)
    try:
        data = getattr(arguments, "data", None) or Path(noted["data"])
        extra = getattr(arguments, "extra_data", None) or (Path(noted["extra"]) if noted["extra"] else None)
        fold, records = noted["fold"], noted["records"]
        return TrainOptions(
            data=data,
            extra=extra,
            fold=(fold[0], fold[1]) if fold else None,
            seed=noted["seed"],
            epochs=noted["epochs"],
            records=tuple(records) if records else None,
        )
    except (KeyError, TypeError, IndexError) as error:
        raise ConfigError(
            "step-damaged", f"{path} is not what train noted there; run `edgeward train` again"
        ) from error


def parse_fold(text: str | None) -> tuple[int, int] | None:
    """``"2/5"`` → (2, 5). ``ConfigError`` (``fold-range``) for anything else."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,3})/(\d{1,3})", text)
    if found is None:
        raise ConfigError("fold-range", "--fold takes k/K, such as 2/5")
    return int(found[1]), int(found[2])


def download(database: str, folder: Path) -> None:
    """Fetch a PhysioNet database into ``folder`` unless it holds records already.

    The folder appears once it is whole: half a database looks like a small one, and would be trained on. What an
    interrupted download left in ``folder.part`` is gone on with.
    """
    if any(folder.glob("*.atr")):
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError("download-folder", "--download needs a new or empty folder; name another one with --data")
    try:
        import wfdb
    except ModuleNotFoundError as error:
        from edgeward.workshop.task import workshop_missing

        raise workshop_missing(error.name) from error
    print(f"fetching {database} from PhysioNet")
    part = folder.with_name(f"{folder.name}.part")
    try:
        wfdb.dl_database(database, str(part))
    except Exception as error:  # wfdb raises whatever its HTTP client does
        raise ConfigError(
            "download-failed",
            f"{database} could not be fetched from PhysioNet; check the network or name a copy by --data",
        ) from error
    if folder.exists():
        folder.rmdir()
    part.rename(folder)


def _json_file(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError("json-unreadable", f"{path.name} is not readable JSON; correct it") from error
    if not isinstance(values, dict):
        raise ConfigError("json-unreadable", f"{path.name} is not a JSON object; correct it")
    return values


def _teller() -> Callable[[str, str], None]:
    """Tell of progress on stderr, with rich where it is installed."""
    import sys

    try:
        from rich.console import Console
    except ModuleNotFoundError:

        def plain(step: str, text: str) -> None:
            print(f"{step:9} {text}", file=sys.stderr, flush=True)

        return plain
    console = Console(stderr=True, highlight=False)

    def tell(step: str, text: str) -> None:
        style = "red" if text.startswith("FAIL") else "green" if text.startswith("pass") else ""
        console.print(f"[bold]{step:9}[/bold] ", end="")
        console.print(text, style=style, markup=False, soft_wrap=True)

    return tell
