import wsd_distill
from wsd_distill.cli import main


def test_version_help_and_wrong_commands(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"wsd_distill {wsd_distill.__version__}\n"
    assert main(["--help"]) == 0 and "export" in capsys.readouterr().out
    assert main([]) == 2 and main(["exprt"]) == 2
    assert "invalid choice: 'exprt'" in capsys.readouterr().err


def test_an_unknown_option_is_an_error_of_the_subcommand_with_the_nearest(capsys):
    assert main(["check", "x", "--outt", "y"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("usage: wsd check ") and "unrecognized arguments: --outt y (did you mean --out?)" in error
    assert main(["predict", "model", "a.jpg", "--qqq"]) == 2
    assert capsys.readouterr().err.endswith("wsd predict: error: unrecognized arguments: --qqq\n")


def test_user_errors_are_one_line_with_exit_code_2(capsys, tmp_path):
    assert main(["export", str(tmp_path / "none"), "--out", "x"]) == 2
    expected = f"wsd export: error: {tmp_path}/none is not a folder: give the folder of a run or a model folder\n"
    assert capsys.readouterr().err == expected
    assert main(["export", str(tmp_path), "--out", str(tmp_path / "x")]) == 2
    assert "has no config.yaml: give the folder of a complete run" in capsys.readouterr().err


def test_an_interrupted_training_says_how_it_goes_on(monkeypatch, capsys, tmp_path):
    def interrupt(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("wsd_distill.cli.train.run", interrupt)
    assert main(["train", "tags.csv", "--images", str(tmp_path), "--out", str(tmp_path / "pets")]) == 130
    assert capsys.readouterr().err == "wsd train: interrupted: start it again with --resume to go on\n"
