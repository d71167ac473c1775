/* Instructions of features that CPUID does not announce are #UD in both rings (SDM 2, each of them). */
#include "lib/rt.h"

CODE(xgetbv, "xor %ecx, %ecx; .byte 0x0f, 0x01, 0xd0");
CODE(xsetbv, "xor %ecx, %ecx; .byte 0x0f, 0x01, 0xd1");
CODE(rdpkru, "xor %ecx, %ecx; .byte 0x0f, 0x01, 0xee");
CODE(wrpkru, "xor %ecx, %ecx; xor %edx, %edx; .byte 0x0f, 0x01, 0xef");
CODE(clac, "clac");
CODE(stac, "stac");
CODE(monitor, "mov %esp, %eax; xor %ecx, %ecx; xor %edx, %edx; .byte 0x0f, 0x01, 0xc8");
CODE(mwait, "xor %eax, %eax; xor %ecx, %ecx; .byte 0x0f, 0x01, 0xc9");
CODE(vmcall, "vmcall");
CODE(vmmcall, "vmmcall");
CODE(rdfsbase, ".byte 0xf3, 0x0f, 0xae, 0xc0");
CODE(wrgsbase, ".byte 0xf3, 0x0f, 0xae, 0xd8");
CODE(rdtscp, "rdtscp");
CODE(rdpid, ".byte 0xf3, 0x0f, 0xc7, 0xf8");
CODE(swapgs, ".byte 0x0f, 0x01, 0xf8");
CODE(rsm, "rsm");
CODE(syscall, ".byte 0x0f, 0x05");
CODE(sysret, ".byte 0x0f, 0x07");
CODE(invpcid, "xor %eax, %eax; invpcid (%esp), %eax");

int main(void)
{
	BOTH(xgetbv);
	BOTH(xsetbv);
	BOTH(rdpkru);
	BOTH(wrpkru);
	BOTH(clac);
	BOTH(stac);
	BOTH(monitor);
	BOTH(mwait);
	BOTH(vmcall);
	BOTH(vmmcall);
	BOTH(rdfsbase);
	BOTH(wrgsbase);
	go0("rdtscp ring 0", rdtscp, 0); /* ring 3: no switch for these two */
	go0("rdpid ring 0", rdpid, 0);
	BOTH(swapgs);
	BOTH(rsm);
	BOTH(syscall);
	BOTH(sysret);
	BOTH(invpcid);
	return 0;
}
