/* How the allocator of glibc shares out memory, set before main runs. Other C libraries have no such settings. */

#include <stdlib.h>

#ifdef __GLIBC__
#include <malloc.h>

/* Buffers of a window, a pack or a blob go back to the system when they are freed. */
enum { MAPPED_BYTES_MIN = 256 * 1024, ARENAS_MAX = 2 };

__attribute__((constructor)) static void share_out_memory(void)
{
    mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES_MIN);
    mallopt(M_ARENA_MAX, ARENAS_MAX);
}
#endif
