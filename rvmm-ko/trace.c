// SPDX-License-Identifier: GPL-2.0
/*
 * Makes the tracepoints of trace.h, and for each the function rust_do_trace_NAME that sys/trace.rs calls once it has seen that
 * somebody listens. Nothing else is here: what is traced, and when, is decided in Rust.
 */
#define CREATE_RUST_TRACE_POINTS
#define CREATE_TRACE_POINTS
#include "trace.h"
