/* entered FILE PROGRAM [ARGUMENT...]: runs a static program one instruction at a time and appends to FILE the place,
 * counted from the program's beginning, of each instruction that it executes, once each, in the order of their first
 * time: sixteen hexadecimal digits a line, as nm writes them. Ends with the program's exit status. */
#define _GNU_SOURCE
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

enum { largest_program = 64 << 20 };

static void fail(const char* what) {
  perror(what);
  exit(1);
}

static unsigned long beginning_of(pid_t program) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/maps", program);
  FILE* maps = fopen(path, "r");
  unsigned long beginning = 0;
  if (maps == NULL || fscanf(maps, "%lx", &beginning) != 1) fail(path);
  fclose(maps);
  return beginning;
}

static unsigned long place_in(pid_t program) {
  struct user_regs_struct registers;
  struct iovec whole = {&registers, sizeof registers};
  if (ptrace(PTRACE_GETREGSET, program, NT_PRSTATUS, &whole) != 0) fail("PTRACE_GETREGSET");
#if defined(__x86_64__)
  return registers.rip;
#else
  return registers.pc;
#endif
}

int main(int count, char** arguments) {
  if (count < 3) {
    fputs("usage: entered FILE PROGRAM [ARGUMENT...]\n", stderr);
    return 2;
  }
  FILE* file = fopen(arguments[1], "a");
  unsigned char* seen = calloc(1, largest_program);
  if (file == NULL || seen == NULL) fail(arguments[1]);
  const pid_t program = fork();
  if (program < 0) fail("fork");
  if (program == 0) {
    /* Nothing is mapped below the program then. */
    personality(ADDR_NO_RANDOMIZE);
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    execv(arguments[2], arguments + 2);
    fail(arguments[2]);
  }
  int status = 0;
  if (waitpid(program, &status, 0) < 0) fail("waitpid");
  const unsigned long beginning = WIFSTOPPED(status) ? beginning_of(program) : 0;
  while (WIFSTOPPED(status)) {
    const unsigned long place = place_in(program) - beginning;
    if (place < largest_program && !seen[place]) {
      seen[place] = 1;
      fprintf(file, "%016lx\n", place);
    }
    if (ptrace(PTRACE_SINGLESTEP, program, NULL, NULL) != 0 || waitpid(program, &status, 0) < 0)
      fail("PTRACE_SINGLESTEP");
  }
  if (fclose(file) != 0) fail(arguments[1]);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
