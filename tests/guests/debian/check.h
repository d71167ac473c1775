/* SPDX-License-Identifier: GPL-2.0 */
/* What the files of the self-check share. A test returns if all was right; otherwise it says why and ends the process with 1. */
#ifndef CHECK_H
#define CHECK_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <time.h>

#define PAGE 4096u

/* Name of the test that runs, with the size of the program if the kernel has the other one. */
extern const char *test;

/* Of the long tests only one part in so many is done: 'share=N' on the kernel's command line, which hands it on in the environment. */
unsigned share(void);

#define REQUIRE(condition, ...)                                                                                        \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			printf("FAILED %s: ", test);                                                                   \
			printf(__VA_ARGS__);                                                                           \
			printf(" (line %d, errno %d)\n", __LINE__, errno);                                             \
			exit(1);                                                                                       \
		}                                                                                                      \
	} while (0)

/* Runs the statement, which must end in this signal with this code. */
#define PROVOKE(signal, code, statement)                                                                               \
	do {                                                                                                           \
		got_signal = 0;                                                                                        \
		if (sigsetjmp(back, 1) == 0) {                                                                         \
			statement;                                                                                     \
		}                                                                                                      \
		REQUIRE(got_signal == (signal) && got_code == (code), "%s gave signal %d code %d", #statement,         \
			(int)got_signal, (int)got_code);                                                               \
	} while (0)

#include <setjmp.h>
#include <signal.h>

extern sigjmp_buf back;
extern volatile sig_atomic_t got_signal, got_code;
/* Lets PROVOKE see the signal. */
void catch_signal(int signal);

double now(clockid_t clock);
/* fork, whose failure ends the test. */
pid_t fork_child(void);
/* Waits for a child, which must end with 0. */
void child_succeeds(pid_t pid);
/* Whether the kernel is a 64-bit one; a 32-bit program may run on either. */
int kernel_is_64(void);

void vdso(void);
void entries(void);
void bases(void);
void ldt(void);
void mixed(void);
void step(void);
void avx(void);
void kprobes(void);
void ftrace(void);
void ftrace_all(void);
void statics(void);

#endif
