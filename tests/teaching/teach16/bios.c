/* What the BIOS does for a program: screen, equipment, diskette. */
#include "kernel.h"

static u8 sector[1024], back[1024];
extern u8 boot_drive;

static u32 disk(u16 ax, u16 cx, u16 dx, void *at)
{
	struct registers r = { .eax = ax, .ebx = (u16)(u32)at, .ecx = cx, .edx = dx | boot_drive, .es = SEGMENT };

	interrupt(0x13, &r);
	return (r.flags & 1) << 16 | (r.eax & 0xffff);
}

void test_bios(void)
{
	struct registers r;

	test("bios-screen");
	/* A character at 20, 70 by the BIOS, seen in memory; one written to memory, seen by the BIOS. */
	r = (struct registers){ .eax = 0x0200, .edx = 20 << 8 | 70 };
	interrupt(0x10, &r);
	r = (struct registers){ .eax = 0x0941, .ebx = 0x001e, .ecx = 3 };
	interrupt(0x10, &r);
	want("in memory", far_word(0xb800, (20 * 80 + 72) * 2), 0x1e41);
	far_word_set(0xb800, (20 * 80 + 70) * 2, 0x2f58);
	r = (struct registers){ .eax = 0x0800 };
	interrupt(0x10, &r);
	want("by the BIOS", r.eax & 0xffff, 0x2f58);
	static const char text[] = "teletype";
	for (u32 i = 0; text[i]; i++) {
		r = (struct registers){ .eax = 0x0e00 | text[i], .ebx = 7 };
		interrupt(0x10, &r);
	}
	want("teletype", far_word(0xb800, (20 * 80 + 77) * 2) & 0xff, 'e');
	r = (struct registers){ .eax = 0x0300 };
	interrupt(0x10, &r);
	want("cursor", r.edx & 0xffff, 20 << 8 | 78);
	r = (struct registers){ .eax = 0x0f00 };
	interrupt(0x10, &r);
	want("mode", r.eax & 0xffff, 0x5003);
	/* Lines 18 to 22 up by two. */
	r = (struct registers){ .eax = 0x0602, .ebx = 0x1700, .ecx = 18 << 8, .edx = 22 << 8 | 79 };
	interrupt(0x10, &r);
	want("scrolled", far_word(0xb800, (18 * 80 + 72) * 2), 0x1e6c);
	want("new line", far_word(0xb800, (22 * 80 + 72) * 2), 0x1720);

	test("bios-equipment");
	r = (struct registers){ 0 };
	interrupt(0x11, &r);
	want("diskette, coprocessor", r.eax & 3, 3);
	interrupt(0x12, &r);
	want("memory", r.eax & 0xffff, far_word(0x40, 0x13));
	r = (struct registers){ .eax = 0x8800 };
	interrupt(0x15, &r);
	/* What firmware keeps at the end of memory is its own affair; it is less than a MiB. */
	want("62 MiB above the first", (r.eax & 0xffff) > 62 * 1024, 1);
	/* E820, entry by entry. */
	u32 entries = 0, usable = 0;
	r.ebx = 0;
	do {
		r = (struct registers){ .eax = 0xe820, .ebx = r.ebx, .ecx = 20, .edx = 0x534d4150, .edi = (u32)sector, .es = SEGMENT };
		interrupt(0x15, &r);
		entries++;
		if (*(u32 *)(sector + 16) == 1)
			usable += *(u32 *)(sector + 8);
	} while (!(r.flags & 1) && r.ebx && entries < 32);
	want("map ends", entries < 32, 1);
	want("63 MiB usable", usable >> 20, 63);

	test("bios-diskette");
	want("reset", disk(0, 0, 0, 0) >> 8, 0);
	want("boot sector", disk(0x0201, 0x0001, 0, sector), 1);
	want("its mark", *(u16 *)(sector + 510), 0xaa55);
	want("two over a track's end", disk(0x0202, 0x0012, 0, sector) >> 16, 0);
	want("write", disk(0x0301, 0x2003, 0x0100, memset(sector, 0x5a, 512)), 1);
	want("verify", disk(0x0401, 0x2003, 0x0100, 0) >> 8, 0);
	want("read back", disk(0x0201, 0x2003, 0x0100, back), 1);
	want("as written", memcmp(sector, back, 512), 0);
	want("the sector before", disk(0x0201, 0x2002, 0x0100, back), 1);
	want("is empty", back[0] | back[511], 0);
	print("no such sector: %x\n", disk(0x0201, 0x0033, 0, back));
	print("no such drive: %x\n", disk(0x0201, 0x0001, 0x03, back));
	r = (struct registers){ .eax = 0x0800, .edx = boot_drive, .es = SEGMENT };
	interrupt(0x13, &r);
	print("geometry: %x %x %x\n", r.ecx & 0xffff, r.edx & 0xffff, r.ebx & 0xff);
}
