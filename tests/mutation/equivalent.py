"""Changes that change nothing: (source, line before, line after) and why no test can tell."""

EQUIVALENT = {
    ("rules/evaluate.cpp", "Hook hook = Hook::output;", "Hook hook = Hook::prerouting;"): "through() sets it before anybody asks",
}
