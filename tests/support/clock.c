/* Preloaded into a station (LD_PRELOAD) so that a test sets its wall clock, and what the kernel says of it.

   CLOCK_FILE names a file of two lines: seconds to add to the wall clock, and 1 where it is synced. Monotonic clocks
   stay as they are, as they do when NTP corrects a clock. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

static void read_file(long long *added_s, int *synced) {
    const char *path = getenv("CLOCK_FILE");
    FILE *file = path ? fopen(path, "re") : NULL;
    *added_s = 0;
    *synced = 0;
    if (file) {
        if (fscanf(file, "%lld %d", added_s, synced) != 2) *added_s = 0;
        fclose(file);
    }
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    long done = syscall(SYS_clock_gettime, clock, now);
    if (done == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        long long added_s;
        int synced;
        read_file(&added_s, &synced);
        now->tv_sec += added_s;
    }
    return (int)done;
}

int adjtimex(struct timex *about) {
    long long added_s;
    int synced;
    long state = syscall(SYS_adjtimex, about);
    read_file(&added_s, &synced);
    return state == -1 ? -1 : synced ? TIME_OK : TIME_ERROR;
}
