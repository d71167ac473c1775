/* Opcodes that 64-bit mode does not have are #UD in every ring, and so is UD2; instructions that the guest's CPUID does not announce are tried elsewhere
 * (SDM 2, chapter 2 and opcode map). */
#include "../lib64/rt.h"

#define ALL(X) \
	X(push_es, "0x06") X(pop_es, "0x07") X(push_cs, "0x0e") X(push_ss, "0x16") X(pop_ss, "0x17") X(push_ds, "0x1e") X(pop_ds, "0x1f") X(daa, "0x27") \
	X(das, "0x2f") X(aaa, "0x37") X(aas, "0x3f") X(pusha, "0x60") X(popa, "0x61") X(jmp_far, "0xea, 0, 0, 0, 0, 8, 0") X(call_far, "0x9a, 0, 0, 0, 0, 8, 0") \
	X(op82, "0x82, 0xc0, 1") X(ud2, "0x0f, 0x0b") X(lock_nop, "0xf0, 0x90") \
	X(ud1, "0x0f, 0xb9, 0xc0") X(rsm, "0x0f, 0xaa") X(lock_mov, "0xf0, 0x89, 0x03")
#define X(name, bytes) CODE(name, ".byte " bytes);
ALL(X)
#undef X

int main(void)
{
#define X(name, bytes) BOTH(name);
	ALL(X)
	return 0;
}
