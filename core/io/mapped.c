/* mapped -- see mapped.h. */
#include "core/io/mapped.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static torc_status cannot_read(const char *path, int descriptor, const char *why)
{
    torc_status s = fail(TORC_ERR_IO, "%s: %s", path, why);
    if (descriptor >= 0)
        close(descriptor);
    return s;
}

torc_status mapped_descriptor(const char *path, int *descriptor, size_t *size)
{
    if (!path)
        return fail(TORC_ERR_IO, "expected a path, found NULL");
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* or a pipe would hold us here */
    if (fd < 0 || fstat(fd, &info) != 0)
        return cannot_read(path, fd, strerror(errno));
    if (!S_ISREG(info.st_mode))
        return cannot_read(path, fd,
                           S_ISDIR(info.st_mode) ? "a folder, expected a file"
                                                 : "expected a regular file");
    *descriptor = fd;
    *size = (size_t)info.st_size;
    return TORC_OK;
}

torc_status mapped_open(const char *path, mapped_file *out)
{
    *out = (mapped_file){0};
    int fd = -1;
    size_t size = 0;
    torc_status s = mapped_descriptor(path, &fd, &size);
    if (s != TORC_OK)
        return s;
    const void *bytes = ""; /* nothing cannot be mapped */
    if (size)
        bytes = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (bytes == MAP_FAILED)
        return cannot_read(path, fd, strerror(errno));
    close(fd);
    *out = (mapped_file){bytes, size};
    return TORC_OK;
}

void mapped_close(mapped_file *f)
{
    if (f->size)
        munmap((void *)f->bytes, f->size);
    *f = (mapped_file){0};
}
