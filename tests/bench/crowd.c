/* crowd WORKERS NETNS_FILE PROGRAM [ARGUMENT...]
 *
 * A node that starts many pods: runs the program once in each of the network namespaces that the file names, a path a
 * line, WORKERS of them at a time. Prints a line for each: its wall time in nanoseconds, from fork to wait; and last
 * the wall time of all. Fails when one fails. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"

enum { most_pods = 4096, most_workers = 256 };

static void fail(const char* what) {
  perror(what);
  exit(125);
}

static int pods[most_pods];
static int count;

static void open_pods(const char* path) {
  FILE* file = fopen(path, "re");
  if (file == NULL) {
    fail(path);
  }
  char line[256];
  while (count < most_pods && fgets(line, sizeof line, file) != NULL) {
    line[strcspn(line, "\n")] = 0;
    pods[count] = open(line, O_RDONLY | O_CLOEXEC);
    if (pods[count++] < 0) {
      fail(line);
    }
  }
  fclose(file);
}

static pid_t start(int pod, char** program) {
  pid_t child = fork();
  if (child < 0) {
    fail("fork");
  }
  if (child == 0) {
    if (setns(pod, CLONE_NEWNET) < 0) {
      fail("setns");
    }
    int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (nowhere < 0 || dup2(nowhere, STDOUT_FILENO) < 0) {
      fail("/dev/null");
    }
    execvp(program[0], program);
    fail(program[0]);
  }
  return child;
}

int main(int argc, char** argv) {
  int workers = argc < 4 ? 0 : atoi(argv[1]);
  if (workers < 1 || workers > most_workers) {
    fprintf(stderr, "usage: crowd WORKERS NETNS_FILE PROGRAM [ARGUMENT...], at most %d workers\n", most_workers);
    return 2;
  }
  open_pods(argv[2]);
  pid_t running[most_workers] = {0};
  long long started[most_workers];
  int next = 0;
  int finished = 0;
  const long long begin = now();
  while (finished < count) {
    for (int slot = 0; slot < workers && next < count; ++slot) {
      if (running[slot] == 0) {
        started[slot] = now();
        running[slot] = start(pods[next++], argv + 3);
      }
    }
    int status;
    pid_t child = wait(&status);
    long long end = now();
    if (child < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
      fprintf(stderr, "%s: wait status 0x%x\n", argv[3], (unsigned)status);
      return 124;
    }
    for (int slot = 0; slot < workers; ++slot) {
      if (running[slot] == child) {
        running[slot] = 0;
        printf("%lld\n", end - started[slot]);
      }
    }
    ++finished;
  }
  printf("%lld\n", now() - begin);
  return 0;
}
