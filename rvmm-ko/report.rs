// SPDX-License-Identifier: GPL-2.0
//! The VM's report: why it stopped, in words, for the client (RVMM_GET_REPORT) and the kernel log.

use core::fmt::Write;
use kernel::prelude::*;
use rvmm_abi::MAX_REPORT;

/// Lines of text, cut off at [`MAX_REPORT`] bytes.
pub(crate) struct Report {
    text: KVec<u8>,
}

impl Report {
    /// An empty report.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { text: KVec::with_capacity(MAX_REPORT, GFP_KERNEL)? })
    }

    /// The text.
    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }

    /// Adds a line, to the log too as long as there is room: a guest cannot flood it.
    pub(crate) fn line(&mut self, line: core::fmt::Arguments<'_>) {
        let before = self.text.len();
        let fits = writeln!(self, "{line}").is_ok();
        if fits && self.text.len() > before {
            pr_info!("{}\n", line);
        }
    }
}

impl Write for Report {
    fn write_str(&mut self, s: &str) -> core::fmt::Result {
        for b in s.bytes() {
            if self.text.len() >= MAX_REPORT || self.text.push_within_capacity(b).is_err() {
                return Err(core::fmt::Error);
            }
        }
        Ok(())
    }
}
