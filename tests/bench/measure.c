/* Runs some commands in turn, round after round, so that a busy machine disturbs all alike, and prints for each: its
 * least and its median wall time, the median of its difference to the first command in the same round, the median of
 * its processor time, the most memory it had resident, and the bytes it read (rchar of /proc/PID/io). Two rounds
 * before the first counted one warm the caches.
 *
 *   measure ROUNDS COMMAND...        each COMMAND is one argument, its words split at blanks
 *   BEFORE=SHELL  run by sh before each command, not counted        STDIN=FILE  what each command reads from */
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WORDS = 256, WARM = 2 };
extern char **environ;

struct sample {
  double wall, apart, processor;
};
struct command {
  char *words[WORDS];
  struct sample *samples;
  long resident, characters;
};

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static void die(const char *what) {
  perror(what);
  exit(1);
}

static long characters_read(pid_t pid) {
  char path[64];
  long value = -1;
  snprintf(path, sizeof path, "/proc/%d/io", pid);
  FILE *io = fopen(path, "r");
  if (io && fscanf(io, "rchar: %ld", &value) != 1)
    value = -1;
  if (io)
    fclose(io);
  return value;
}

static double milliseconds(struct timeval t) { return t.tv_sec * 1e3 + t.tv_usec / 1e3; }

static struct sample run(struct command *command) {
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  const char *in = getenv("STDIN") ? getenv("STDIN") : "/dev/null";
  posix_spawn_file_actions_addopen(&files, 0, in, O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
  pid_t pid;
  siginfo_t info;
  struct rusage usage;
  int status;
  double start = now();
  if (posix_spawnp(&pid, command->words[0], &files, NULL, command->words, environ))
    die(command->words[0]);
  /* Left as a zombie until its counters are read. */
  waitid(P_PID, pid, &info, WEXITED | WNOWAIT);
  double wall = now() - start;
  long characters = characters_read(pid);
  wait4(pid, &status, 0, &usage);
  if (status) {
    fprintf(stderr, "%s: status %d\n", command->words[0], status);
    exit(1);
  }
  if (usage.ru_maxrss > command->resident)
    command->resident = usage.ru_maxrss;
  if (characters > command->characters)
    command->characters = characters;
  posix_spawn_file_actions_destroy(&files);
  return (struct sample){wall, 0, milliseconds(usage.ru_utime) + milliseconds(usage.ru_stime)};
}

static int by_wall(const void *a, const void *b) {
  double x = ((const struct sample *)a)->wall, y = ((const struct sample *)b)->wall;
  return (x > y) - (x < y);
}
static int by_apart(const void *a, const void *b) {
  double x = ((const struct sample *)a)->apart, y = ((const struct sample *)b)->apart;
  return (x > y) - (x < y);
}

static int by_processor(const void *a, const void *b) {
  double x = ((const struct sample *)a)->processor, y = ((const struct sample *)b)->processor;
  return (x > y) - (x < y);
}

int main(int argc, char **argv) {
  int rounds = argc > 2 ? atoi(argv[1]) : 0, count = argc - 2;
  if (rounds < 1 || count < 1) {
    fprintf(stderr, "usage: measure ROUNDS COMMAND...\n");
    return 2;
  }
  struct command *commands = calloc(count, sizeof *commands);
  for (int c = 0; c < count; c++) {
    int words = 0;
    for (char *word = strtok(argv[c + 2], " "); word && words < WORDS - 1; word = strtok(NULL, " "))
      commands[c].words[words++] = word;
    commands[c].samples = calloc(rounds, sizeof(struct sample));
  }
  for (int r = -WARM; r < rounds; r++) {
    double first = 0;
    for (int c = 0; c < count; c++) {
      if (getenv("BEFORE") && system(getenv("BEFORE")))
        die("BEFORE");
      struct sample sample = run(&commands[c]);
      first = c ? first : sample.wall;
      sample.apart = sample.wall - first;
      if (r >= 0)
        commands[c].samples[r] = sample;
    }
  }
  printf("%10s %10s %12s %10s %9s %12s\n", "least ms", "median ms", "above first", "cpu ms", "max KiB", "bytes read");
  for (int c = 0; c < count; c++) {
    struct sample *samples = commands[c].samples;
    qsort(samples, rounds, sizeof *samples, by_wall);
    double least = samples[0].wall, wall = samples[rounds / 2].wall;
    qsort(samples, rounds, sizeof *samples, by_apart);
    double apart = samples[rounds / 2].apart;
    qsort(samples, rounds, sizeof *samples, by_processor);
    printf("%10.2f %10.2f %12.2f %10.2f %9ld %12ld  ", least, wall, apart, samples[rounds / 2].processor,
           commands[c].resident, commands[c].characters);
    for (int w = 0; commands[c].words[w] && w < 6; w++)
      printf("%s ", commands[c].words[w]);
    printf("\n");
  }
  return 0;
}
