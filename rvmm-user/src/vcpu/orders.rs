//! What other threads ask of the vCPU's: only it may touch the vCPU, and only outside the guest.

use std::sync::mpsc::SyncSender;
use std::sync::MutexGuard;

use kvm_ioctls::VcpuFd;

use super::{registers, walk};
use crate::machine::ResetLine;
use crate::monitor::controls::Refused;
use crate::outcome::RunEnd;
use crate::shared::{Shared, State};

/// An order, and where its answer goes. Who asked may have given up; an answer that nobody takes is dropped.
pub enum Order {
    /// Reset the machine.
    Reset,
    /// Say that the guest does not run now.
    Report(SyncSender<()>),
    /// The registers, for people.
    Registers(SyncSender<Result<String, Refused>>),
    /// So many bytes at a linear address.
    Read { address: u64, length: usize, answer: SyncSender<Result<Vec<u8>, Refused>> },
}

/// Does what was ordered and waits while the guest is paused. The state is returned locked: nothing was ordered when it was looked at.
pub fn obey<'a>(vcpu: &VcpuFd, shared: &'a Shared) -> Result<MutexGuard<'a, State>, RunEnd> {
    let mut state = shared.lock();
    loop {
        if let Some(end) = state.stopped() {
            return Err(end);
        }
        match state.orders.pop_front() {
            Some(Order::Reset) => return Err(RunEnd::Reset(ResetLine::Button)),
            Some(Order::Report(answer)) => drop(answer.try_send(())),
            Some(Order::Registers(answer)) => drop(answer.try_send(describe(vcpu))),
            Some(Order::Read { address, length, answer }) => {
                drop(answer.try_send(read(vcpu, &state, address, length)));
            }
            None if state.is_paused() => state = shared.wait(state),
            None => return Ok(state),
        }
    }
}

fn refused(what: &str, error: kvm_ioctls::Error) -> Refused {
    Refused(format!("{what} failed: {}", std::io::Error::from_raw_os_error(error.errno())))
}

fn describe(vcpu: &VcpuFd) -> Result<String, Refused> {
    let regs = vcpu.get_regs().map_err(|error| refused("KVM_GET_REGS", error))?;
    let sregs = vcpu.get_sregs().map_err(|error| refused("KVM_GET_SREGS", error))?;
    Ok(registers::describe(&regs, &sregs))
}

fn read(vcpu: &VcpuFd, state: &State, address: u64, length: usize) -> Result<Vec<u8>, Refused> {
    let sregs = vcpu.get_sregs().map_err(|error| refused("KVM_GET_SREGS", error))?;
    let mut data = vec![0; length];
    let mut done = 0;
    while let Some(rest) = data.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let linear = address.wrapping_add(done as u64);
        let in_page = (walk::PAGE - linear % walk::PAGE) as usize;
        let length = in_page.min(rest.len());
        let entry = |gpa: u64, bytes: &mut [u8]| state.machine.look(gpa, bytes).is_ok();
        let physical = walk::physical(&sregs, linear, &entry);
        let page = rest.get_mut(..length).unwrap_or_default();
        if physical.is_none_or(|gpa| state.machine.look(gpa, page).is_err()) {
            return Err(Refused(format!("nothing is mapped at {linear:#x}")));
        }
        done += length;
    }
    Ok(data)
}
