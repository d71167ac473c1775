/* The console, COM1 and the text screen at once, and the test suite's counting. */
#pragma once
#include "io.h"

void console_init(uptr screen);
void put(char c);
void print(const char *format, ...); /* %s %c %u %x (32 bits) */
u32 screen_sum(void);
u16 screen_cell(u32 row, u32 column);

/* test: begins the test NAME and ends the one before it. want: one of its expectations. */
void test(const char *name);
void want(const char *what, u32 got, u32 wanted);
/* Ends the last test and prints the counts; returns that of the bad ones. */
u32 tests_sum(void);
/* Ends the run. */
__attribute__((noreturn)) void finish(u32 status);
