// A multiboot kernel that prints on COM1 what it was told and what it finds. Lines that begin with '#' depend on the loader.
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

extern u32 at_entry[4];

static void outb(u16 port, u8 value) { __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }
static void outl(u16 port, u32 value) { __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port)); }
static u8 inb(u16 port) { u8 value; __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port)); return value; }
static u16 inw(u16 port) { u16 value; __asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port)); return value; }
static u32 inl(u16 port) { u32 value; __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port)); return value; }

static void put(char letter)
{
	while (!(inb(0x3fd) & 0x20))
		;
	outb(0x3f8, letter);
}

static void say(const char *text)
{
	while (*text)
		put(*text++);
}

static void hex(u32 value)
{
	for (int shift = 28; shift >= 0; shift -= 4)
		if (value >> shift || !shift)
			put("0123456789abcdef"[value >> shift & 15]);
	put(' ');
}

static void number(const char *name, u32 value)
{
	say(name);
	put(' ');
	hex(value);
}

static const char *after_first_word(const char *text)
{
	while (*text && *text != ' ')
		text++;
	return *text ? text + 1 : text;
}

static u32 pci(u32 address)
{
	outl(0xcf8, address);
	return inl(0xcfc);
}

static void module(u32 start, u32 end, const char *text)
{
	number("module bytes", end - start);
	number("aligned", !(start & 4095));
	number("begins", *(u32 *)start);
	say(text);
	put('\n');
}

static void memory(u32 lower, u32 upper)
{
	number("memory", lower);
	// What the BIOS keeps for itself at the top is its own affair.
	number("MiB", (upper + 1023) / 1024);
	put('\n');
}

static void map(u64 start, u64 length, u32 kind)
{
	if (start < 0x100000) {
		number("map", start);
		number("to", start + length);
	} else if (start == 0x100000) {
		number("map", start);
		number("to MiB", (start + length + 0xfffff) >> 20);
	} else {
		number("# map", start);
		number("to", start + length);
	}
	number("kind", kind);
	put('\n');
}

static int has_pixels;

static void picture(u64 address, u32 pitch, u32 width, u32 height, u32 depth, u32 kind, const u8 *colours)
{
	// GRUB and QEMU need not tell of text.
	say(kind == 1 ? "picture " : "# picture ");
	hex(address);
	hex(pitch);
	hex(width);
	hex(height);
	hex(depth);
	hex(kind);
	for (int i = 0; kind == 1 && i < 6; i++)
		hex(colours[i]);
	put('\n');
	if (kind == 1) {
		has_pixels = 1;
		volatile u32 *last = (u32 *)(u32)(address + pitch * (height - 1) + (width - 1) * 4);
		*last = 0x00345678;
		number("pixel", *last);
		put('\n');
	}
}

#if VERSION == 1
static void told(const u32 *info)
{
	number("# flags", info[0]);
	put('\n');
	number("flags", info[0] & 0x4d);
	put('\n');
	memory(info[1], info[2]);
	say("command line ");
	say(after_first_word((char *)info[4]));
	put('\n');
	for (u32 i = 0; i < info[5]; i++) {
		u32 *entry = (u32 *)info[6] + 4 * i;
		module(entry[0], entry[1], after_first_word((char *)entry[2]));
	}
	for (u32 at = info[12]; at < info[12] + info[11]; at += *(u32 *)at + 4)
		map(*(u64 *)(at + 4), *(u64 *)(at + 12), *(u32 *)(at + 20));
	say("# loader ");
	say((char *)info[16]);
	put('\n');
	if (info[0] & 1 << 12)
		picture(*(u64 *)(info + 22), info[24], info[25], info[26], info[27] & 0xff, info[27] >> 8 & 0xff, (u8 *)info + 110);
}
#else
static void sections(const u32 *tag)
{
	// Name, type, flags, address, offset, size, link… of 32 bits.
	for (u32 i = 0; i < tag[2] && tag[3] == 40; i++) {
		const u32 *section = tag + 5 + 10 * i;
		if (section[1] != 2)
			continue;
		const u32 *names = tag + 5 + 10 * section[6];
		for (u32 *symbol = (u32 *)section[3]; (u32)symbol < section[3] + section[5]; symbol += 4) {
			const char *name = (char *)names[3] + symbol[0];
			if (name[0] == 'a' && name[1] == 't' && name[2] == '_') {
				number("symbol", symbol[1] == (u32)at_entry);
				say(name);
				put('\n');
			}
		}
	}
}

static void told(const u32 *info)
{
	number("aligned", !((u32)info & 7));
	put('\n');
	for (const u32 *tag = info + 2; tag[0]; tag += (tag[1] + 7) / 8 * 2) {
		switch (tag[0]) {
		case 1: say("command line "); say((char *)(tag + 2)); put('\n'); break;
		case 2: say("# loader "); say((char *)(tag + 2)); put('\n'); break;
		case 3: module(tag[2], tag[3], (char *)(tag + 4)); break;
		case 4: memory(tag[2], tag[3]); break;
		case 6:
			for (const u8 *at = (u8 *)(tag + 4); at < (u8 *)tag + tag[1]; at += tag[2])
				map(*(u64 *)at, *(u64 *)(at + 8), *(u32 *)(at + 16));
			break;
		case 8: picture(*(u64 *)(tag + 2), tag[4], tag[5], tag[6], tag[7] & 0xff, tag[7] >> 8 & 0xff, (u8 *)(tag + 8)); break;
		case 9: sections(tag); break;
		case 14: say("rsdp "); for (int i = 0; i < 8; i++) put(((char *)(tag + 2))[i]); put('\n'); break;
		default: number("# tag", tag[0]); put('\n');
		}
	}
}
#endif

static void hardware(void)
{
	number("pci", pci(0x80000000));
	hex(pci(0x80000800));
	hex(pci(0x80000900));
	number("master", pci(0x80000904) & 5);
	number("ports", (pci(0x80000920) & 0xfff0) != 0);
	number("display", pci(0x80001008) >> 16);
	put('\n');
	// Sector 0 of the first disk, by PIO.
	outb(0x3f6, 2);
	outb(0x1f6, 0xe0);
	outb(0x1f2, 1);
	outb(0x1f3, 0);
	outb(0x1f4, 0);
	outb(0x1f5, 0);
	outb(0x1f7, 0x20);
	while ((inb(0x1f7) & 0x88) != 8)
		;
	say("disk ");
	for (int i = 0; i < 256; i++) {
		u16 word = inw(0x1f0);
		if (i < 4)
			hex(word);
	}
	put('\n');
	// Mode 3, as the adapter's BIOS has set it; where the cursor is depends on what the BIOS had to say.
	number("misc", inb(0x3cc));
	say("crtc ");
	for (u8 i = 0; i < 0x19; i++)
		if (i != 0xe && i != 0xf) {
			outb(0x3d4, i);
			hex(inb(0x3d5));
		}
	put('\n');
	volatile u16 *text = (u16 *)0xb8000;
	text[24 * 80 + 79] = 0x1f21;
	number("text", text[24 * 80 + 79]);
	put('\n');
	// The BIOS's data: equipment, memory, mode, columns, disks; the vector of INT 10h.
	__asm__("" : "=r"(text) : "0"(0));
	number("bios", text[0x410 / 2]);
	hex(text[0x413 / 2 + 0] & 0xff00);
	hex(((volatile u8 *)text)[0x449]);
	hex(text[0x44a / 2]);
	hex(((volatile u8 *)text)[0x475]);
	hex(text[0x42 / 2]);
	put('\n');
	// The keyboard answers to an echo.
	while (inb(0x64) & 1)
		inb(0x60);
	outb(0x60, 0xee);
	while (!(inb(0x64) & 1))
		;
	number("keyboard", inb(0x60));
	number("masks", inb(0x21));
	hex(inb(0xa1));
	put('\n');
}

u32 kernel(void)
{
	number("magic", at_entry[0]);
	number("eflags", at_entry[2] & 0x20200);
	number("cr0", at_entry[3] & 0x80000001);
	put('\n');
	told((u32 *)at_entry[1]);
	// A video mode has other registers, by whoever set it.
	if (VERSION == 1 && !has_pixels)
		hardware();
	return 0;
}
