// SPDX-License-Identifier: GPL-2.0
/* mapped FILE BYTES: writes what a read-only mapping of the file shows. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

int main(int argc, char **argv)
{
	size_t bytes = argc == 3 ? strtoul(argv[2], 0, 0) : 0;
	int file = bytes ? open(argv[1], O_RDONLY) : -1;
	void *at = file < 0 ? MAP_FAILED : mmap(0, bytes, PROT_READ, MAP_SHARED, file, 0);

	if (at == MAP_FAILED) {
		perror("mapped");
		return 1;
	}
	return fwrite(at, 1, bytes, stdout) == bytes && fflush(stdout) == 0 ? 0 : 1;
}
