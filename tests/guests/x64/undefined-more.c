/* INTO, AAM, AAD and SALC, and MOV with segment registers that are not there, are #UD in 64-bit mode (SDM 2, opcode map). */
#include "../lib64/rt.h"

#define ALL(X) X(into, "0xce") X(aam, "0xd4, 10") X(aad, "0xd5, 10") X(salc, "0xd6") X(mov_to_cs, "0x8e, 0xc8") X(mov_from_6, "0x8c, 0xf0")
#define X(name, bytes) CODE(name, ".byte " bytes);
ALL(X)
#undef X

int main(void)
{
#define X(name, bytes) BOTH(name);
	ALL(X)
	return 0;
}
