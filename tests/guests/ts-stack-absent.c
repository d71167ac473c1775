/* An absent stack segment in the TSS is #SS with its selector when ring 3 traps (SDM 3, 6.12.1). TCG raises #TS. */
#define ABSENT
#include "ts-stack.c"
