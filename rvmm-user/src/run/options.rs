//! What only rvmm's own engine is told.

use rvmm_abi::{Model, OptionFlags, Options};

use crate::cli::{ModelArg, RunArgs};
use crate::engine::{Engine, Vm};
use crate::error::Error;

/// Tells rvmm's own engine what only it can do; any other must not have been asked for it.
pub fn configure(args: &RunArgs, engine: &Engine, vm: &Vm) -> Result<(), Error> {
    let Some(rvmm) = vm.rvmm() else {
        let asked = [
            (args.verify.is_some(), "--verify"),
            (args.interpret_all, "--interpret-all"),
            (args.tactics.is_some(), "--tactics"),
        ];
        if args.model.is_some() {
            tracing::warn!("--model is ignored: {} has no rings to choose", engine.name());
        }
        return match asked.into_iter().find(|(given, _)| *given) {
            Some((_, option)) => Err(Error::RvmmOnly { option, engine: engine.name() }),
            None => Ok(()),
        };
    };
    let mut options = Options::new(match args.model {
        None | Some(ModelArg::Ring013) => Model::Ring013,
        Some(ModelArg::Ring033) => Model::Ring033,
    });
    let mut flags = OptionFlags::COHERENT_CLIENT;
    if let Some(first) = args.verify {
        flags = flags.with(OptionFlags::VERIFY);
        options.verify_first = first.into();
    }
    if args.interpret_all {
        flags = flags.with(OptionFlags::INTERPRET_ALL);
    }
    if let Some(tactics) = args.tactics {
        flags = flags.with(OptionFlags::TACTICS);
        options.tactics = tactics.bits();
    }
    options.flags = flags.0;
    rvmm.set_options(&options)
}
