/* 1,500 pages of code with sensitive instructions, run three times over: whatever the VMM keeps of them is bounded. */
#include "lib/rt.h"

extern char many_code[], many_code_end[];
asm(".pushsection .guest,\"ax\"\nmany_code: pushf\ncli\nmov %cs, %eax\nsti\npush %ss\npop %ecx\npopf\nmov $0, %edx\nret\nmany_code_end:\n.popsection");

enum { PAGES = 1500 };

int main(void)
{
	u8 *p = (u8 *)0x1000000;
	u32 n = (u32)(many_code_end - many_code), bad = 0;

	pic_init();
	for (u32 i = 0; i < PAGES; i++) {
		u8 *at = p + i * 4096 + i % 4000;

		memcpy(at, many_code, n);
		memcpy(at + n - 5, &i, 4); /* the immediate of mov $0, %edx */
	}
	for (int round = 0; round < 3; round++)
		for (u32 i = 0; i < PAGES; i++) {
			u32 k = round == 1 ? PAGES - 1 - i : i;
			struct try t;

			fresh(&t);
			if (try0(&t, p + k * 4096 + k % 4000) || t.r.edx != k || (t.r.eax & 0xffff) != SEL_KCODE || (t.r.ecx & 0xffff) != SEL_KDATA)
				bad++;
		}
	check("all pages, three times", bad == 0);
	return 0;
}
