"""Options: mistakes are answered with the nearest right word."""

import importlib

import pytest

from cnnzoo.arguments import Parser, one_of


def parser() -> Parser:
    made = Parser("cnnzoo verb", "What it does.")
    made.add_argument("where", nargs="*")
    made.add_argument("--format", **one_of(["md", "csv"]))
    made.add_mutually_exclusive_group().add_argument("--transpose", action="store_true")
    return made


def test_options_stand_anywhere() -> None:
    found = parser().parse(["a", "--format", "md", "b"])
    assert (found.where, found.format) == (["a", "b"], "md")
    assert parser().options == ["--help", "--format", "--transpose"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--fromat=md"],
            "--fromat: no such option. Did you mean '--format'? It has --help, --format, --transpose.",
        ),
        (["--transpos"], "Did you mean '--transpose'?"),
        (["--format", "cvs"], "cvs: expected one of md, csv. Did you mean 'csv'?"),
        (["--format"], "--format"),
    ],
)
def test_mistakes(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parser().parse(arguments)
    assert end.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert message in err
    assert err.endswith("cnnzoo verb --help has the details.\n")


@pytest.mark.parametrize("verb", ["predict", "export", "figures.run", "figures.surface"])
def test_trusted_packages_are_named_one_by_one(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The run's folder may stand right after a package."""
    module = importlib.import_module(f"cnnzoo.{verb}")
    rest = {"predict": ["image.png"], "export": ["--format=onnx"]}.get(verb, [])
    assert module.main(["--trust", "one", "--trust", "other", "no_such_run", *rest]) == 1
    assert "no_such_run is not the folder of a finished run" in capsys.readouterr().err
