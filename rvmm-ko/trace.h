/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The tracepoints of rvmm, read by docs/tracing.md's readers in /sys/kernel/tracing/events/rvmm. rvmm-ko/sys/trace.rs declares the
 * same prototypes. Texts come from Rust as pointer and length, without a NUL.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM rvmm

#if !defined(RVMM_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define RVMM_TRACE_H

#include <linux/tracepoint.h>
#include <uapi/linux/kvm.h>

#define rvmm_vector(vector) __print_symbolic(vector,					\
	{ 0, "#DE" }, { 1, "#DB" }, { 2, "NMI" }, { 3, "#BP" }, { 4, "#OF" },		\
	{ 5, "#BR" }, { 6, "#UD" }, { 7, "#NM" }, { 8, "#DF" }, { 10, "#TS" },		\
	{ 11, "#NP" }, { 12, "#SS" }, { 13, "#GP" }, { 14, "#PF" }, { 16, "#MF" },	\
	{ 17, "#AC" }, { 18, "#MC" }, { 19, "#XM" })

#define rvmm_exit_reason(reason) __print_symbolic(reason,				\
	{ KVM_EXIT_IO, "IO" }, { KVM_EXIT_MMIO, "MMIO" }, { KVM_EXIT_HLT, "HLT" },	\
	{ KVM_EXIT_IRQ_WINDOW_OPEN, "IRQ_WINDOW_OPEN" }, { KVM_EXIT_INTR, "INTR" },	\
	{ KVM_EXIT_SHUTDOWN, "SHUTDOWN" }, { KVM_EXIT_INTERNAL_ERROR, "INTERNAL_ERROR" })

TRACE_EVENT(rvmm_entry,
	TP_PROTO(const char *mode, u32 mode_len, u64 rip, u64 cr3, bool step),
	TP_ARGS(mode, mode_len, rip, cr3, step),
	TP_STRUCT__entry(
		__string_len(mode, mode, mode_len)
		__field(u64, rip)
		__field(u64, cr3)
		__field(bool, step)
	),
	TP_fast_assign(
		__assign_str(mode);
		__entry->rip = rip;
		__entry->cr3 = cr3;
		__entry->step = step;
	),
	TP_printk("mode %s rip 0x%llx cr3 0x%llx%s", __get_str(mode), __entry->rip, __entry->cr3,
		  __entry->step ? " step" : "")
);

TRACE_EVENT(rvmm_exit,
	TP_PROTO(const char *reason, u32 reason_len, u8 vector, u8 ring, u64 rip, u32 error, u64 cr2),
	TP_ARGS(reason, reason_len, vector, ring, rip, error, cr2),
	TP_STRUCT__entry(
		__string_len(reason, reason, reason_len)
		__field(u64, rip)
		__field(u64, cr2)
		__field(u32, error)
		__field(u8, vector)
		__field(u8, ring)
	),
	TP_fast_assign(
		__assign_str(reason);
		__entry->rip = rip;
		__entry->cr2 = cr2;
		__entry->error = error;
		__entry->vector = vector;
		__entry->ring = ring;
	),
	TP_printk("reason %s vector %s ring %u rip 0x%llx error 0x%x cr2 0x%llx", __get_str(reason),
		  rvmm_vector(__entry->vector), __entry->ring, __entry->rip, __entry->error, __entry->cr2)
);

TRACE_EVENT(rvmm_page_fault,
	TP_PROTO(u64 address, u32 error, const char *outcome, u32 outcome_len, u64 gpa),
	TP_ARGS(address, error, outcome, outcome_len, gpa),
	TP_STRUCT__entry(
		__field(u64, address)
		__field(u64, gpa)
		__field(u32, error)
		__string_len(outcome, outcome, outcome_len)
	),
	TP_fast_assign(
		__entry->address = address;
		__entry->gpa = gpa;
		__entry->error = error;
		__assign_str(outcome);
	),
	TP_printk("address 0x%llx error 0x%x outcome %s gpa 0x%llx", __entry->address, __entry->error,
		  __get_str(outcome), __entry->gpa)
);

TRACE_EVENT(rvmm_interpret,
	TP_PROTO(u64 rip, u8 cpl, const char *cause, u32 cause_len),
	TP_ARGS(rip, cpl, cause, cause_len),
	TP_STRUCT__entry(
		__field(u64, rip)
		__string_len(cause, cause, cause_len)
		__field(u8, cpl)
	),
	TP_fast_assign(
		__entry->rip = rip;
		__assign_str(cause);
		__entry->cpl = cpl;
	),
	TP_printk("rip 0x%llx cpl %u cause %s", __entry->rip, __entry->cpl, __get_str(cause))
);

TRACE_EVENT(rvmm_inject,
	TP_PROTO(const char *kind, u32 kind_len, u8 vector, bool has_error, u32 error, u64 payload),
	TP_ARGS(kind, kind_len, vector, has_error, error, payload),
	TP_STRUCT__entry(
		__string_len(kind, kind, kind_len)
		__field(u64, payload)
		__field(u32, error)
		__field(u8, vector)
		__field(bool, has_error)
	),
	TP_fast_assign(
		__assign_str(kind);
		__entry->payload = payload;
		__entry->error = error;
		__entry->vector = vector;
		__entry->has_error = has_error;
	),
	TP_printk("kind %s vector %s has_error %u error 0x%x payload 0x%llx", __get_str(kind),
		  rvmm_vector(__entry->vector), __entry->has_error, __entry->error, __entry->payload)
);

TRACE_EVENT(rvmm_scan,
	TP_PROTO(u64 address, u64 instructions, u64 sites),
	TP_ARGS(address, instructions, sites),
	TP_STRUCT__entry(
		__field(u64, address)
		__field(u64, instructions)
		__field(u64, sites)
	),
	TP_fast_assign(
		__entry->address = address;
		__entry->instructions = instructions;
		__entry->sites = sites;
	),
	TP_printk("address 0x%llx instructions %llu sites %llu", __entry->address, __entry->instructions, __entry->sites)
);

TRACE_EVENT(rvmm_patch,
	TP_PROTO(u64 site, const char *tactic, u32 tactic_len, const char *reason, u32 reason_len, u64 block, u32 len),
	TP_ARGS(site, tactic, tactic_len, reason, reason_len, block, len),
	TP_STRUCT__entry(
		__field(u64, site)
		__field(u64, block)
		__string_len(tactic, tactic, tactic_len)
		__string_len(reason, reason, reason_len)
		__field(u32, len)
	),
	TP_fast_assign(
		__entry->site = site;
		__entry->block = block;
		__assign_str(tactic);
		__assign_str(reason);
		__entry->len = len;
	),
	TP_printk("site 0x%llx tactic %s reason %s block 0x%llx len %u", __entry->site, __get_str(tactic),
		  __get_str(reason), __entry->block, __entry->len)
);

TRACE_EVENT(rvmm_pio,
	TP_PROTO(bool write, u16 port, u8 size, u32 value),
	TP_ARGS(write, port, size, value),
	TP_STRUCT__entry(
		__field(u32, value)
		__field(u16, port)
		__field(u8, size)
		__field(bool, write)
	),
	TP_fast_assign(
		__entry->value = value;
		__entry->port = port;
		__entry->size = size;
		__entry->write = write;
	),
	TP_printk("pio_%s at 0x%x size %u val 0x%x", __entry->write ? "write" : "read", __entry->port, __entry->size,
		  __entry->value)
);

TRACE_EVENT(rvmm_mmio,
	TP_PROTO(bool write, u64 gpa, u8 len, u64 value),
	TP_ARGS(write, gpa, len, value),
	TP_STRUCT__entry(
		__field(u64, gpa)
		__field(u64, value)
		__field(u8, len)
		__field(bool, write)
	),
	TP_fast_assign(
		__entry->gpa = gpa;
		__entry->value = value;
		__entry->len = len;
		__entry->write = write;
	),
	TP_printk("mmio %s len %u gpa 0x%llx val 0x%llx", __entry->write ? "write" : "read", __entry->len, __entry->gpa,
		  __entry->value)
);

TRACE_EVENT(rvmm_userspace_exit,
	TP_PROTO(u32 reason),
	TP_ARGS(reason),
	TP_STRUCT__entry(
		__field(u32, reason)
	),
	TP_fast_assign(
		__entry->reason = reason;
	),
	TP_printk("reason %s", rvmm_exit_reason(__entry->reason))
);

#endif

/* Found through the include path that Kbuild gives trace.c. */
#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
