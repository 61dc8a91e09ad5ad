"""Changes that change nothing: (source, line before, line after) and why no test can tell."""

EQUIVALENT = {
    ("rules/evaluate.cpp", "Hook hook = Hook::output;", "Hook hook = Hook::prerouting;"): "through() sets it before anybody asks",
    ("rules/compile.cpp", "bool other_family_left_ = true; ///< in the chain being built",
     "bool other_family_left_ = false; ///< in the chain being built"): "begin() sets it for each chain",
    ("rules/compile.cpp", "return false;", "return true;"): "behind a switch that names every value",
}  # fmt: skip
