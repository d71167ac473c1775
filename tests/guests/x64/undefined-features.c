/* Instructions of features that the guest's CPUID does not announce are #UD in the kernel, whatever the host's CPU has; in programs, too, but for those
 * that a host's CPU cannot be told to refuse in ring 3 (SDM 2 and APM 3, each of them). */
#include "../lib64/rt.h"

#define ALL(X) \
	X(clac, "clac") X(stac, "stac") X(monitor, "mov %rsp, %rax; xor %ecx, %ecx; xor %edx, %edx; monitor") X(mwait, "xor %eax, %eax; xor %ecx, %ecx; mwait") \
	X(vmcall, "vmcall") X(vmmcall, "vmmcall") X(vmlaunch, "vmlaunch") X(vmresume, "vmresume") X(vmxoff, "vmxoff") X(vmread, "vmread %rax, %rbx") \
	X(vmptrld, "vmptrld (%rsp)") X(invept, "invept (%rsp), %rax") X(vmrun, "vmrun") X(vmload, "vmload") X(stgi, "stgi") X(clgi, "clgi") X(skinit, "skinit") \
	X(invlpga, "invlpga") X(invpcid, "xor %eax, %eax; invpcid (%rsp), %rax") X(encls, "encls") X(seamcall, ".byte 0x66, 0x0f, 0x01, 0xcf") \
	X(wrussq, ".byte 0x66, 0x48, 0x0f, 0x38, 0xf5, 0x04, 0x24") X(pconfig, ".byte 0x0f, 0x01, 0xc5")
#define KERNEL(X) \
	X(rdtscp, "rdtscp") X(rdpid, "rdpid %rax") \
	X(rdpru, "xor %ecx, %ecx; .byte 0x0f, 0x01, 0xfd") X(monitorx, "mov %rsp, %rax; xor %ecx, %ecx; xor %edx, %edx; .byte 0x0f, 0x01, 0xfa") \
	X(vmfunc, "xor %eax, %eax; vmfunc") X(enclu, "xor %eax, %eax; enclu") X(enqcmd, ".byte 0xf2, 0x0f, 0x38, 0xf8, 0x04, 0x24") \
	X(enqcmds, ".byte 0xf3, 0x0f, 0x38, 0xf8, 0x04, 0x24") X(stui, ".byte 0xf3, 0x0f, 0x01, 0xef") X(senduipi, ".byte 0xf3, 0x0f, 0xc7, 0xf0")
#define X(name, text) CODE(name, text);
ALL(X)
KERNEL(X)
#undef X

int main(void)
{
#define X(name, ...) BOTH(name);
	ALL(X)
#undef X
#define X(name, ...) go0(#name " ring 0", name, 0);
	KERNEL(X)
	return 0;
}
