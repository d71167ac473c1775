/* What the firmware's tables say: RSDP, RSDT, MADT and FADT of ACPI, the MP table before it; and the way to switch off. */
#include "kernel.h"

struct machine machine;
static u8 *dsdt;

static u32 sum(const u8 *p, u32 n)
{
	u8 a = 0;
	for (; n; n--)
		a += *p++;
	return a;
}

/* The structure on a 16-byte boundary that begins with MARK and whose N bytes sum up to 0. */
static u8 *find(u32 from, u32 to, const char *mark, u32 marks, u32 n)
{
	for (u8 *p = direct(from); p < (u8 *)direct(to); p += 16)
		if (!memcmp(p, mark, marks) && !sum(p, n))
			return p;
	return 0;
}

static u32 u32_at(const u8 *p) { return p[0] | p[1] << 8 | p[2] << 16 | (u32)p[3] << 24; }

static void madt(u8 *table, u32 length)
{
	machine.lapic = u32_at(table + 36);
	for (u8 *e = table + 44; e < table + length; e += e[1]) {
		if (e[0] == 0 && (e[4] & 1))
			machine.cpus++;
		if (e[0] == 1)
			machine.ioapic = u32_at(e + 4);
		if (e[0] == 2 && e[3] == 0)
			machine.timer_pin = u32_at(e + 4);
	}
}

/* \_S5: a package whose first element is the type of sleep: 08 "_S5_" 12 length count, then 0A byte, 00 or 01. */
static void sleep_type(void)
{
	u32 length = u32_at(dsdt + 4);

	for (u8 *p = dsdt + 36; p < dsdt + length - 8; p++) {
		if (memcmp(p, "_S5_\x12", 5))
			continue;
		p += 5;
		p += (*p >> 6) + 2;
		machine.sleep_type = *p == 0x0a ? p[1] : *p;
		return;
	}
}

static void mp_table(void)
{
	u8 *mp = find(0xf0000, 0x100000, "_MP_", 4, 16);

	want("MP pointer", mp != 0, 1);
	if (!mp)
		return;
	u8 *table = direct(u32_at(mp + 4));
	want("its mark", u32_at(table), 0x504d4350);
	want("its sum", sum(table, table[4] | table[5] << 8), 0);
	u8 *e = table + 44;
	for (u32 n = table[34] | table[35] << 8; n; n--) {
		if (e[0] == 0 && (e[3] & 1))
			machine.mp_cpus++;
		e += e[0] == 0 ? 20 : 8;
	}
	want("its APIC", u32_at(table + 36), 0xfee00000);
}

void test_tables(void)
{
	test("tables");
	u8 *rsdp = find(0xe0000, 0x100000, "RSD PTR ", 8, 20);
	want("RSDP", rsdp != 0, 1);
	u8 *rsdt = direct(u32_at(rsdp + 16));
	want("RSDT", sum(rsdt, u32_at(rsdt + 4)), 0);
	for (u8 *entry = rsdt + 36; entry < rsdt + u32_at(rsdt + 4); entry += 4) {
		u8 *table = direct(u32_at(entry));
		u32 length = u32_at(table + 4);
		want("sum", sum(table, length), 0);
		if (!memcmp(table, "APIC", 4))
			madt(table, length);
		if (!memcmp(table, "HPET", 4))
			machine.hpet = 1;
		if (!memcmp(table, "FACP", 4)) {
			machine.pm1a = u32_at(table + 64);
			dsdt = direct(u32_at(table + 40));
		}
	}
	want("DSDT", sum(dsdt, u32_at(dsdt + 4)), 0);
	sleep_type();
	mp_table();
	print("lapic %x ioapic %x cpus %u %u timer pin %u\n", machine.lapic, machine.ioapic, machine.cpus, machine.mp_cpus, machine.timer_pin);
	print("pm1a %x sleep %u hpet %u\n", machine.pm1a, machine.sleep_type, machine.hpet);
	/* Where an HPET would be nothing answers. */
	test("no-hpet");
	want("table", machine.hpet, 0);
	page_map(0xffffa00000000000, 0xfed00000 | PRESENT | WRITE | 0x18);
	want("its place", *(volatile u32 *)0xffffa00000000000 == 0x8086a201, 0);
}

void power_off(void)
{
	outw(machine.pm1a, machine.sleep_type << 10 | 0x2000);
	for (;;)
		asm volatile("cli; hlt");
}
