// CLI11 without the cost of <iostream>: that header holds a static object which sets up eight streams and their locale
// at every start of the program, and CLI11 needs it only for App::exit(), which sluice never calls. So the header is
// declared to have been included (libstdc++'s guard), and the two streams that CLI11 names are declared as it would.
#pragma once

#ifdef _GLIBCXX_IOSTREAM
#error "<iostream> has been included already"
#endif

// NOLINTNEXTLINE(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp): the guard has that name
#define _GLIBCXX_IOSTREAM 1
#include <istream>
#include <ostream>

namespace std {  // NOLINT(cert-dcl58-cpp): the declarations of <iostream> itself
extern ostream cout;
extern ostream cerr;
}  // namespace std

#include <CLI/CLI.hpp>
