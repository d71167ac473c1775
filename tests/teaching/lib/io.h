/* Types, ports and strings of all teaching systems. */
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned long uptr;

static inline u8 inb(u16 port) { u8 v; asm volatile("inb %1, %0" : "=a"(v) : "Nd"(port)); return v; }
static inline u16 inw(u16 port) { u16 v; asm volatile("inw %1, %0" : "=a"(v) : "Nd"(port)); return v; }
static inline u32 inl(u16 port) { u32 v; asm volatile("inl %1, %0" : "=a"(v) : "Nd"(port)); return v; }
static inline void outb(u16 port, u8 v) { asm volatile("outb %0, %1" : : "a"(v), "Nd"(port)); }
static inline void outw(u16 port, u16 v) { asm volatile("outw %0, %1" : : "a"(v), "Nd"(port)); }
static inline void outl(u16 port, u32 v) { asm volatile("outl %0, %1" : : "a"(v), "Nd"(port)); }
static inline void insw(u16 port, void *to, uptr n) { asm volatile("cld; rep insw" : "+D"(to), "+c"(n) : "d"(port) : "memory"); }
static inline void insl(u16 port, void *to, uptr n) { asm volatile("cld; rep insl" : "+D"(to), "+c"(n) : "d"(port) : "memory"); }
static inline void outsw(u16 port, const void *from, uptr n) { asm volatile("cld; rep outsw" : "+S"(from), "+c"(n) : "d"(port) : "memory"); }

static inline void *memset(void *to, int c, uptr n)
{
	void *d = to;
	asm volatile("cld; rep stosb" : "+D"(d), "+c"(n) : "a"(c) : "memory");
	return to;
}
static inline void *memcpy(void *to, const void *from, uptr n)
{
	void *d = to;
	asm volatile("cld; rep movsb" : "+D"(d), "+S"(from), "+c"(n) : : "memory");
	return to;
}
static inline int memcmp(const void *a, const void *b, uptr n)
{
	const u8 *x = a, *y = b;
	for (; n; n--, x++, y++)
		if (*x != *y)
			return *x - *y;
	return 0;
}
