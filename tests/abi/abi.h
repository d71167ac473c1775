/* SPDX-License-Identifier: GPL-2.0 */
/* Common ground of the ABI tests: each check says what it expects and what it saw; a failed one fails the program. */
#ifndef ABI_H
#define ABI_H

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

extern int checks, failures;

/* CALL must return -1 with this errno. */
#define FAILS(err, call) do { \
	errno = 0; \
	long r_ = (call); \
	checks++; \
	if (r_ != -1 || errno != (err)) { \
		failures++; \
		printf("%s:%d: %s: %ld, %s; wanted %s\n", __FILE__, __LINE__, #call, r_, strerrorname_np(errno), strerrorname_np(err)); \
	} \
} while (0)

/* EXPR must have this value. */
#define IS(want, expr) do { \
	errno = 0; \
	long long w_ = (want), r_ = (expr); \
	checks++; \
	if (r_ != w_) { \
		failures++; \
		printf("%s:%d: %s: %lld (%#llx), %s; wanted %lld (%#llx)\n", __FILE__, __LINE__, #expr, r_, r_, \
		       errno ? strerrorname_np(errno) : "no errno", w_, w_); \
	} \
} while (0)

#define TRUE(expr) IS(1, !!(expr))

/* A VM with one page-aligned slot of memory at guest address 0, one vCPU in flat 32-bit protected mode without paging. */
struct vm {
	int dev, vm, vcpu;
	unsigned char *mem;
	struct kvm_run *run;
};

#define MEM_SIZE 0x100000UL

void vm_make(struct vm *v);
void vm_drop(struct vm *v);
void vm_code(struct vm *v, unsigned at, const void *code, unsigned len);
void vm_restart(struct vm *v, const void *code, unsigned len);
int vm_region(struct vm *v, unsigned slot, unsigned flags, unsigned long long gpa, unsigned long long size, const void *hva);
double now(void);

void test_device(void);
void test_memory(void);
void test_state(void);
void test_xstate(void);
void test_long(void);
void test_run(void);
void test_constants(void);
void test_hostile(void);
void test_life(void);

#endif
