/* timer NETNS PROGRAM [ARGUMENT...] [';' PROGRAM [ARGUMENT...]]...
 *
 * Runs the programs one after the other in the network namespace and prints three numbers: the wall time in
 * nanoseconds, from before the first fork to after the last wait; user and system time in microseconds; and the peak
 * memory of the largest of them in KiB (getrusage(2)). Entering the namespace is not in it. Small and static, because
 * what forks is part of what is measured. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"

static void fail(const char* what) {
  perror(what);
  exit(125);
}

static void run(char** program) {
  pid_t child = fork();
  if (child < 0) {
    fail("fork");
  }
  if (child == 0) {
    execvp(program[0], program);
    perror(program[0]);
    _exit(127);
  }
  int status;
  if (waitpid(child, &status, 0) < 0) {
    fail("waitpid");
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    fprintf(stderr, "%s: wait status 0x%x\n", program[0], (unsigned)status);
    exit(124);
  }
}

int main(int argc, char** argv) {
  if (argc < 3) {
    fprintf(stderr, "usage: timer NETNS PROGRAM [ARGUMENT...] [';' PROGRAM...]\n");
    return 2;
  }
  int netns = open(argv[1], O_RDONLY | O_CLOEXEC);
  if (netns < 0 || setns(netns, CLONE_NEWNET) < 0) {
    fail(argv[1]);
  }
  /* The time goes to the caller's pipe; what the programs say, and sluice says a line, goes nowhere. */
  int result = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
  int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
  if (result < 0 || nowhere < 0 || dup2(nowhere, STDOUT_FILENO) < 0) {
    fail("standard output");
  }

  long long before = now();
  for (char** program = argv + 2; *program != NULL;) {
    char** end = program;
    while (*end != NULL && strcmp(*end, ";") != 0) {
      ++end;
    }
    char** next = *end == NULL ? end : end + 1;
    *end = NULL;
    run(program);
    program = next;
  }
  long long nanoseconds = now() - before;
  struct rusage used;
  getrusage(RUSAGE_CHILDREN, &used);
  long long microseconds =
      (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000LL + used.ru_utime.tv_usec + used.ru_stime.tv_usec;
  dprintf(result, "%lld %lld %ld\n", nanoseconds, microseconds, used.ru_maxrss);
  return 0;
}
