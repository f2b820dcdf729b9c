"""The reading of an API key, from real files, variables and programs."""

import sys

import pytest

from mirror.core.secret import (
    CommandSecret,
    CredentialSecret,
    EnvSecret,
    FileSecret,
    LiteralSecret,
    Secret,
)
from mirror.errors import ExitCode, KeyRefusedError
from mirror.secrets import read_password, read_secret, source_of

KEY = "s3cret-key"


def printing(code: str) -> CommandSecret:
    return CommandSecret((sys.executable, "-c", code))


def refused(secret: Secret, **limits: float) -> str:
    with pytest.raises(KeyRefusedError) as caught:
        read_secret(secret, **limits)
    assert caught.value.exit_code is ExitCode.ACCOUNT
    chain, cause = "", caught.value.__cause__
    while cause is not None:
        chain, cause = chain + repr(cause), cause.__cause__
    assert KEY not in str(caught.value) + chain
    return str(caught.value)


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_every_source_gives_the_key_without_its_newline(tmp_path, monkeypatch, ending):
    (tmp_path / "alice").write_text(KEY + ending, newline="")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("MY_KEY", KEY + ending)
    for secret in (
        CredentialSecret("alice"),
        FileSecret(str(tmp_path / "alice")),
        EnvSecret("MY_KEY"),
        printing(f"import sys; sys.stdout.write({KEY + ending!r})"),
        LiteralSecret(KEY),
    ):
        assert read_secret(secret) == KEY


def test_without_systemd_a_credential_says_what_is_missing(monkeypatch):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    message = refused(CredentialSecret("alice"))
    assert "the credential 'alice'" in message
    assert "$CREDENTIALS_DIRECTORY is not set" in message


def test_a_file_that_is_not_there_is_named(tmp_path):
    message = refused(FileSecret(str(tmp_path / "none")))
    assert f"{tmp_path / 'none'}: No such file or directory" in message


def test_a_file_that_cannot_be_read_says_what_belongs_there(tmp_path):
    with pytest.raises(KeyRefusedError) as refused:
        read_secret(FileSecret(str(tmp_path / "key")))
    assert "put it there, where this user can read it" in refused.value.hint


def test_a_variable_that_is_not_set_is_named(monkeypatch):
    monkeypatch.delenv("MY_KEY", raising=False)
    assert "the environment variable MY_KEY" in refused(EnvSecret("MY_KEY"))


@pytest.mark.parametrize(
    "text", ["", "\n", f"{KEY}\nlogin: me\n", f"{KEY} x", f"{KEY}\tx", f"{KEY}é"]
)
def test_what_is_no_single_key_is_refused_and_not_quoted(tmp_path, text):
    (tmp_path / "key").write_text(text, encoding="utf-8")
    refused(FileSecret(str(tmp_path / "key")))


@pytest.mark.parametrize("text", ["", "\n"])
def test_an_empty_file_says_what_belongs_there(tmp_path, text):
    (tmp_path / "key").write_text(text)
    message = refused(FileSecret(str(tmp_path / "key")))
    assert "it is empty or not set" in message
    assert "hint: put the key there, alone on one line" in message


def test_a_password_is_one_line_of_any_characters(tmp_path):
    path = tmp_path / "password"
    path.write_text("grüne Äpfel #1\n")
    assert read_password(FileSecret(str(path))) == "grüne Äpfel #1"
    for text in ("", "\n", "two\nlines", "a\ttab"):
        path.write_text(text)
        with pytest.raises(KeyRefusedError) as refused:
            read_password(FileSecret(str(path)))
        assert "lines" not in str(refused.value)


def test_a_file_of_other_bytes_is_refused_and_not_quoted(tmp_path):
    (tmp_path / "key").write_bytes(KEY.encode() + b"\xff")
    assert "it is not text" in refused(FileSecret(str(tmp_path / "key")))


def test_a_command_that_fails_is_named_without_its_arguments_or_its_output():
    message = refused(printing(f"print('{KEY}'); raise SystemExit(3)"))
    assert f"the command {sys.executable!r}" in message
    assert "exit code 3" in message


def test_a_command_that_does_not_exist_is_named_without_its_arguments(tmp_path):
    message = refused(CommandSecret((str(tmp_path / "none"), KEY)))
    assert "cannot be started" in message


def test_a_command_that_gives_no_answer_is_ended():
    endless = f"print('{KEY}', flush=True)\nimport threading\nthreading.Event().wait()"
    assert "no answer within 0.2 s" in refused(printing(endless), command_limit_s=0.2)


def test_a_command_meets_no_shell():
    echo = CommandSecret((sys.executable, "-c", "import sys; print(sys.argv[1])", "$HOME;id"))
    assert read_secret(echo) == "$HOME;id"


def test_no_secret_shows_itself():
    for secret in (LiteralSecret(KEY), CommandSecret(("pass", KEY))):
        assert KEY not in repr(secret) + source_of(secret)
