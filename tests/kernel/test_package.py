"""What is installed: the program, its manual page and completions, and the Debian package of them."""

import pathlib
import re
import shutil
import subprocess

import pytest

import pod as pods

FILES = {
    "bin/sluice",
    "share/man/man8/sluice.8",
    "share/bash-completion/completions/sluice",
    "share/zsh/vendor-completions/_sluice",
    "share/fish/vendor_completions.d/sluice.fish",
    "share/doc/sluice/README.md",
    "share/doc/sluice/CHANGELOG.md",
}


def run(*argv, **options):
    done = subprocess.run(argv, capture_output=True, text=True, timeout=240, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def build():
    folder = pathlib.Path(pods.sluice_binary()).parent
    if not (folder / "cmake_install.cmake").exists():
        pytest.skip(f"{folder} is no build folder, so nothing can be installed from it")
    return folder


@pytest.fixture(scope="module")
def installed(build, tmp_path_factory):
    prefix = tmp_path_factory.mktemp("prefix")
    run("cmake", "--install", str(build), "--prefix", str(prefix))
    return prefix


def options_of(binary):
    return set(re.findall(r"^  --([a-z-]+)", run(str(binary), "--help", env={}), re.M))


def test_install_puts_every_file_in_its_place(installed):
    found = {str(path.relative_to(installed)) for path in installed.rglob("*") if path.is_file()}
    assert found == FILES


def test_the_manual_page_has_every_option_and_command_and_is_sound(installed):
    page = installed / "share/man/man8/sluice.8"
    text = page.read_text().replace("\\-", "-")
    for option in options_of(installed / "bin/sluice") - {"version", "help"}:
        assert f"\\fB--{option}\\fR" in text, option
        assert "SLUICE_" + option.upper().replace("-", "_") in text
    for command in ("apply", "plan", "cleanup", "explain", "verify", "status", "doctor", "manifest"):
        assert f"\\fBsluice {command}\\fR" in text
    if not shutil.which("groff"):
        pytest.skip("needs groff, to read the page as man does")
    formatted = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-z", str(page)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (formatted.returncode, formatted.stderr) == (0, "")


def test_bash_completes_commands_options_and_values(installed):
    script = installed / "share/bash-completion/completions/sluice"

    def completed(*words):
        line = " ".join(f"'{word}'" for word in words)
        program = f"source {script}; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _sluice; echo ${{COMPREPLY[@]}}"
        return run("bash", "--norc", "-c", program).split()

    assert completed("sluice", "ver") == ["verify"]
    assert completed("sluice", "--preset", "i") == ["istio"]
    assert completed("sluice", "--log-level", "") == ["info", "error", "warning", "debug"]
    assert completed("sluice", "apply", "--proxy-port", "1") == []
    assert "--dst" in completed("sluice", "explain", "--d")
    assert "--dst" not in completed("sluice", "apply", "--d")
    commands = ([], ["explain"], ["verify"], ["manifest"])
    every = set().union(*(completed("sluice", *command, "--") for command in commands))
    assert every == {f"--{option}" for option in options_of(installed / "bin/sluice")} | {"--help", "--version"}


def test_the_completions_of_the_other_shells_are_sound(installed):
    options = options_of(installed / "bin/sluice") - {"version"}
    for path, form in (
        ("share/zsh/vendor-completions/_sluice", "--{}["),
        ("share/fish/vendor_completions.d/sluice.fish", "-l {} "),
    ):
        text = (installed / path).read_text()
        for option in options:
            assert form.format(option) in text, (path, option)
        # In both languages, and in bash, a quote that does not end swallows the rest of the file.
        run("bash", "-n", "-c", "\n".join(line for line in text.splitlines() if not line.startswith("#")))


def test_the_debian_package_holds_what_is_installed(build, tmp_path):
    if not shutil.which("cpack") or not shutil.which("dpkg-deb"):
        pytest.skip("needs cpack and dpkg-deb, to make the package")
    run("cpack", "-G", "DEB", "--config", str(build / "CPackConfig.cmake"), "-B", str(tmp_path))
    (package,) = tmp_path.glob("sluice_*.deb")
    listed = run("dpkg-deb", "--contents", str(package))
    files = {line.split()[-1].removeprefix("./usr/") for line in listed.splitlines() if line.startswith("-")}
    assert files == FILES
    assert all(" root/root " in line for line in listed.splitlines())
    unpacked = tmp_path / "unpacked"
    run("dpkg-deb", "--extract", str(package), str(unpacked))
    assert run(str(unpacked / "usr/bin/sluice"), "--version").startswith("sluice ")
