/* Preloaded into a process: logs every call that changes the file system, in order, with its data.
 *
 * Between cuts_start(log, device) and cuts_stop(). One record a call that succeeded: see `struct head`; disk.py reads
 * it. Each wrapper makes the real system call and writes its record under one lock, so that the log's order is the order
 * in which the calls took effect. Not wrapped, because nothing under a root is changed by it: writing through mmap (only
 * SQLite's -shm, which the next process rebuilds from the -wal), O_TMPFILE, open_by_handle_at. Whatever is missed makes
 * the replayed tree differ from the real one at the end of a recording, which the recorder refuses.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

struct head {
    uint64_t op, inode, number, first, second; /* sizes in bytes of the two texts that follow */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -1;
static uint64_t device; /* st_dev of the root: calls on other file systems (pipes, /dev, /proc) are not logged */

static void record(char op, uint64_t inode, uint64_t number, const void *first, size_t n1, const void *second, size_t n2)
{
    struct head head = {(uint64_t)op, inode, number, n1, n2};
    struct iovec parts[3] = {{&head, sizeof head}, {(void *)first, n1}, {(void *)second, n2}};
    if (syscall(SYS_writev, log_fd, parts, 3) != (long)(sizeof head + n1 + n2))
        abort();
}

void cuts_start(const char *path, uint64_t root_device)
{
    log_fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log_fd < 0)
        abort();
    device = root_device;
}

void cuts_stop(void)
{
    syscall(SYS_close, log_fd);
    log_fd = -1;
}

void cuts_mark(const char *text)
{
    pthread_mutex_lock(&lock);
    if (log_fd >= 0)
        record('K', 0, 0, text, strlen(text), "", 0);
    pthread_mutex_unlock(&lock);
}

/* Enter: real call under the lock; leave: keep errno. */
#define ENTER pthread_mutex_lock(&lock)
#define LEAVE(result) \
    do { \
        int kept = errno; \
        pthread_mutex_unlock(&lock); \
        errno = kept; \
        return result; \
    } while (0)

static uint64_t inode_of(int fd)
{
    struct stat st;
    if (log_fd < 0 || fd == log_fd || fstat(fd, &st) || st.st_dev != device)
        return 0;
    return S_ISREG(st.st_mode) || S_ISDIR(st.st_mode) ? st.st_ino : 0;
}

static uint64_t inode_at(int dirfd, const char *path, uint64_t *size)
{
    struct stat st;
    if (log_fd < 0 || fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW) || st.st_dev != device)
        return 0;
    if (size)
        *size = (uint64_t)st.st_size;
    return st.st_ino;
}

/* The path as an absolute one, not normalized. */
static const char *absolute(int dirfd, const char *path, char *room)
{
    char link[64];
    ssize_t n;
    if (path[0] == '/')
        return path;
    snprintf(link, sizeof link, dirfd == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", dirfd);
    n = readlink(link, room, 4096);
    if (n < 0)
        abort();
    snprintf(room + n, (size_t)(8192 - n), "/%s", path);
    return room;
}

static void record_path(char op, uint64_t inode, uint64_t number, int dirfd, const char *path, const char *second)
{
    char room[8192];
    const char *whole = absolute(dirfd, path, room);
    record(op, inode, number, whole, strlen(whole), second, strlen(second));
}

/* --- open ------------------------------------------------------------------------------------------------------- */

static int open_logged(int dirfd, const char *path, int flags, mode_t mode)
{
    int fd;
    uint64_t before = 0, size = 0;
    if (log_fd < 0 || !(flags & (O_CREAT | O_TRUNC)))
        return (int)syscall(SYS_openat, dirfd, path, flags, mode);
    ENTER;
    before = inode_at(dirfd, path, &size);
    fd = (int)syscall(SYS_openat, dirfd, path, flags, mode);
    if (fd >= 0 && inode_of(fd)) {
        struct stat st;
        fstat(fd, &st);
        if (!before)
            record_path('C', st.st_ino, st.st_mode & 07777, dirfd, path, "");
        else if ((flags & O_TRUNC) && size)
            record('Z', st.st_ino, 0, "", 0, "", 0);
    }
    LEAVE(fd);
}

#define OPEN(name, parameters, dirfd) \
    int name parameters \
    { \
        mode_t mode = 0; \
        if (flags & (O_CREAT | O_TMPFILE)) { \
            va_list rest; \
            va_start(rest, flags); \
            mode = va_arg(rest, mode_t); \
            va_end(rest); \
        } \
        return open_logged(dirfd, path, flags, mode); \
    }
OPEN(open, (const char *path, int flags, ...), AT_FDCWD)
OPEN(open64, (const char *path, int flags, ...), AT_FDCWD)
OPEN(openat, (int dirfd, const char *path, int flags, ...), dirfd)
OPEN(openat64, (int dirfd, const char *path, int flags, ...), dirfd)

/* --- data ------------------------------------------------------------------------------------------------------- */

ssize_t write(int fd, const void *data, size_t size)
{
    uint64_t inode;
    ssize_t n;
    if (log_fd < 0)
        return syscall(SYS_write, fd, data, size);
    if (!(inode = inode_of(fd)))
        return syscall(SYS_write, fd, data, size); /* a pipe may wait for its reader: never under the lock */
    ENTER;
    n = syscall(SYS_write, fd, data, size);
    if (n > 0)
        record('W', inode, (uint64_t)(lseek(fd, 0, SEEK_CUR) - n), "", 0, data, (size_t)n);
    LEAVE(n);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    uint64_t inode = inode_of(fd);
    ssize_t n;
    ENTER;
    n = syscall(SYS_pwrite64, fd, data, size, offset);
    if (n > 0 && inode)
        record('W', inode, (uint64_t)offset, "", 0, data, (size_t)n);
    LEAVE(n);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset)
{
    return pwrite(fd, data, size, offset);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    ssize_t total = 0;
    if (!inode_of(fd))
        return syscall(SYS_writev, fd, parts, count);
    for (int i = 0; i < count; i++) {
        ssize_t n = parts[i].iov_len ? write(fd, parts[i].iov_base, parts[i].iov_len) : 0;
        if (n < 0)
            return total ? total : n;
        total += n;
        if ((size_t)n < parts[i].iov_len)
            break;
    }
    return total;
}

/* In the kernel's own copies the data never passes through here: refused as on a file system that has none, so that the
 * caller falls back to read and write. */
ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t size, unsigned flags)
{
    if (!inode_of(out))
        return syscall(SYS_copy_file_range, in, from, out, to, size, flags);
    errno = EOPNOTSUPP;
    return -1;
}

ssize_t sendfile(int out, int in, off_t *offset, size_t size)
{
    if (!inode_of(out))
        return syscall(SYS_sendfile, out, in, offset, size);
    errno = ENOTSOCK;
    return -1;
}

ssize_t sendfile64(int out, int in, off64_t *offset, size_t size)
{
    return sendfile(out, in, offset, size);
}

int ftruncate(int fd, off_t size)
{
    int result;
    uint64_t inode = inode_of(fd);
    ENTER;
    result = (int)syscall(SYS_ftruncate, fd, size);
    if (!result && inode)
        record('Z', inode, (uint64_t)size, "", 0, "", 0);
    LEAVE(result);
}

int ftruncate64(int fd, off64_t size)
{
    return ftruncate(fd, size);
}

static int grown(int result, uint64_t inode, int fd)
{
    struct stat st;
    if (!result && inode && !fstat(fd, &st))
        record('Z', inode, (uint64_t)st.st_size, "", 0, "", 0);
    return result;
}

int fallocate(int fd, int mode, off_t offset, off_t size)
{
    int result;
    uint64_t inode = inode_of(fd);
    ENTER;
    result = grown((int)syscall(SYS_fallocate, fd, mode, offset, size), inode, fd);
    LEAVE(result);
}

int fallocate64(int fd, int mode, off64_t offset, off64_t size)
{
    return fallocate(fd, mode, offset, size);
}

int posix_fallocate(int fd, off_t offset, off_t size)
{
    return fallocate(fd, 0, offset, size) ? errno : 0;
}

int posix_fallocate64(int fd, off64_t offset, off64_t size)
{
    return posix_fallocate(fd, offset, size);
}

static int synced(long number, int fd)
{
    int result;
    uint64_t inode = inode_of(fd);
    ENTER;
    result = (int)syscall(number, fd);
    if (!result && inode)
        record('F', inode, 0, "", 0, "", 0);
    LEAVE(result);
}

int fsync(int fd)
{
    return synced(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    return synced(SYS_fdatasync, fd);
}

/* --- modes ------------------------------------------------------------------------------------------------------ */

int fchmod(int fd, mode_t mode)
{
    int result;
    uint64_t inode = inode_of(fd);
    ENTER;
    result = (int)syscall(SYS_fchmod, fd, mode);
    if (!result && inode)
        record('H', inode, mode & 07777, "", 0, "", 0);
    LEAVE(result);
}

int fchmodat(int dirfd, const char *path, mode_t mode, int flags)
{
    int result;
    struct stat st;
    ENTER;
    result = (int)syscall(SYS_fchmodat, dirfd, path, mode, flags);
    if (!result && log_fd >= 0 && !fstatat(dirfd, path, &st, 0) && st.st_dev == device)
        record('H', st.st_ino, mode & 07777, "", 0, "", 0);
    LEAVE(result);
}

int chmod(const char *path, mode_t mode)
{
    return fchmodat(AT_FDCWD, path, mode, 0);
}

/* --- names ------------------------------------------------------------------------------------------------------ */

int mkdirat(int dirfd, const char *path, mode_t mode)
{
    int result;
    struct stat st;
    ENTER;
    result = (int)syscall(SYS_mkdirat, dirfd, path, mode);
    if (!result && log_fd >= 0 && !fstatat(dirfd, path, &st, 0) && st.st_dev == device)
        record_path('M', st.st_ino, st.st_mode & 07777, dirfd, path, "");
    LEAVE(result);
}

int mkdir(const char *path, mode_t mode)
{
    return mkdirat(AT_FDCWD, path, mode);
}

int symlinkat(const char *target, int dirfd, const char *path)
{
    int result;
    uint64_t inode;
    ENTER;
    result = (int)syscall(SYS_symlinkat, target, dirfd, path);
    if (!result && (inode = inode_at(dirfd, path, NULL)))
        record_path('S', inode, 0, dirfd, path, target);
    LEAVE(result);
}

int symlink(const char *target, const char *path)
{
    return symlinkat(target, AT_FDCWD, path);
}

int renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
    int result;
    char room[8192];
    ENTER;
    result = (int)syscall(SYS_renameat2, from_fd, from, to_fd, to, flags);
    if (!result && log_fd >= 0)
        record_path('R', 0, flags, from_fd, from, absolute(to_fd, to, room));
    LEAVE(result);
}

int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
    return renameat2(from_fd, from, to_fd, to, 0);
}

int rename(const char *from, const char *to)
{
    return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int linkat(int from_fd, const char *from, int to_fd, const char *to, int flags)
{
    int result;
    char room[8192];
    ENTER;
    result = (int)syscall(SYS_linkat, from_fd, from, to_fd, to, flags);
    if (!result && log_fd >= 0)
        record_path('L', 0, 0, from_fd, from, absolute(to_fd, to, room));
    LEAVE(result);
}

int link(const char *from, const char *to)
{
    return linkat(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int unlinkat(int dirfd, const char *path, int flags)
{
    int result;
    char room[8192];
    const char *whole = "";
    ENTER;
    if (log_fd >= 0)
        whole = absolute(dirfd, path, room); /* before: a removed working directory has no name */
    result = (int)syscall(SYS_unlinkat, dirfd, path, flags);
    if (!result && log_fd >= 0)
        record('U', 0, 0, whole, strlen(whole), "", 0);
    LEAVE(result);
}

int unlink(const char *path)
{
    return unlinkat(AT_FDCWD, path, 0);
}

int remove(const char *path)
{
    struct stat st;
    return unlinkat(AT_FDCWD, path, !lstat(path, &st) && S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0);
}

int rmdir(const char *path)
{
    return unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}
