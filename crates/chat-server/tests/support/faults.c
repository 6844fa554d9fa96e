/* Faults of the machine for a real program, on demand: preloaded, it stands before the C library's clocks, flushes
   and positioned writes (which only SQLite uses). What to do stands in a shared file; see faults.rs. Linux only. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

enum { WALL_OFFSET_S, MONOTONIC_OFFSET_S, WORKER_CLOCK_FAILS, FLUSH_ERRNO, WRITE_ERRNO, FAULTS };

static const volatile int64_t none[FAULTS];
static const volatile int64_t *faults = none;

__attribute__((constructor)) static void map_faults(void) {
    const char *path = getenv("DNA_TEST_FAULTS");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *mapped = mmap(NULL, sizeof none, PROT_READ, MAP_SHARED, file, 0);
    if (mapped != MAP_FAILED) faults = mapped;
    close(file);
}

static int is_worker(void) {
    char name[17] = "";
    prctl(PR_GET_NAME, name);
    return strncmp(name, "worker-", 7) == 0;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    if (clock == CLOCK_MONOTONIC && faults[WORKER_CLOCK_FAILS] && is_worker()) {
        errno = EIO;
        return -1;
    }
    int result = (int)syscall(SYS_clock_gettime, clock, time);
    if (result == 0 && clock == CLOCK_REALTIME) time->tv_sec += faults[WALL_OFFSET_S];
    if (result == 0 && clock == CLOCK_MONOTONIC) time->tv_sec += faults[MONOTONIC_OFFSET_S];
    return result;
}

static int flush(long call, int file) {
    if (faults[FLUSH_ERRNO]) {
        errno = (int)faults[FLUSH_ERRNO];
        return -1;
    }
    return (int)syscall(call, file);
}

int fsync(int file) { return flush(SYS_fsync, file); }
int fdatasync(int file) { return flush(SYS_fdatasync, file); }

static ssize_t write_at(int file, const void *bytes, size_t length, off_t at) {
    if (faults[WRITE_ERRNO]) {
        errno = (int)faults[WRITE_ERRNO];
        return -1;
    }
    return syscall(SYS_pwrite64, file, bytes, length, at);
}

ssize_t pwrite(int file, const void *bytes, size_t length, off_t at) { return write_at(file, bytes, length, at); }
ssize_t pwrite64(int file, const void *bytes, size_t length, off64_t at) { return write_at(file, bytes, length, at); }
