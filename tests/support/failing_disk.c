// Preloaded into a server: once the file that RUSD_TEST_FAILS_WHEN names exists, the call that RUSD_TEST_FAILING_CALL names
// fails with an I/O error on every segment of the log.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int fails(const char *call, int fd) {
    const char *failing = getenv("RUSD_TEST_FAILING_CALL");
    const char *trigger = getenv("RUSD_TEST_FAILS_WHEN");
    if (!failing || !trigger || strcmp(failing, call) != 0 || access(trigger, F_OK) != 0) {
        return 0;
    }
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) {
        return 0;
    }
    path[length] = '\0';
    return strstr(path, ".raftlog") != NULL;
}

int fdatasync(int fd) {
    if (fails("fdatasync", fd)) {
        errno = EIO;
        return -1;
    }
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    return real(fd);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) {
    if (fails("pwrite", fd)) {
        errno = EIO;
        return -1;
    }
    ssize_t (*real)(int, const void *, size_t, off_t) =
        (ssize_t (*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, "pwrite");
    return real(fd, bytes, count, offset);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off_t offset) {
    return pwrite(fd, bytes, count, offset);
}
