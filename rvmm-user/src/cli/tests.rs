use super::parse::*;
use super::*;
use clap::CommandFactory;

#[test]
fn the_command_line_is_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn the_help_lists_every_tactic() {
    let help = tactics_help();
    for (word, _) in TacticSet::WORDS {
        assert!(help.contains(word), "{word}: {help}");
    }
}

#[test]
fn a_tactic_that_would_do_nothing_is_refused() {
    assert!(parse_tactics("jump,reflect").is_err_and(|message| message.contains("syscall")));
    assert_eq!(parse_tactics("reflect,syscall"), Ok(TacticSet::REFLECT | TacticSet::SYSCALL));
}

#[test]
fn sizes() {
    assert_eq!(parse_memory("64"), Ok(64));
    assert_eq!(parse_memory("64M"), Ok(64));
    assert_eq!(parse_memory("1g"), Ok(1024));
    assert_eq!(parse_memory("4G"), Ok(4096));
    assert!(parse_memory("1024G").is_err());
    assert!(parse_memory("").is_err());
    assert!(parse_memory("M").is_err());
    assert!(parse_memory("18446744073709551615G").is_err());
}

#[test]
fn boot_orders() {
    assert_eq!(parse_boot_order("cad"), Ok(BootOrder([2, 1, 3])));
    assert_eq!(parse_boot_order("d"), Ok(BootOrder([3, 0, 0])));
    for text in ["", "x", "aa", "acdn", "A"] {
        assert!(parse_boot_order(text).is_err(), "{text}");
    }
}

#[test]
fn io_ports() {
    assert_eq!((parse_port("0xf4"), parse_port("244"), parse_port("0XFFFF")), (Ok(0xF4), Ok(0xF4), Ok(0xFFFF)));
    for text in ["", "f4", "0x", "0x10000", "65536", "-1"] {
        assert!(parse_port(text).is_err(), "{text}");
    }
}

#[test]
fn debug_consoles() {
    assert_eq!(parse_debug_console("stdio"), Ok(SerialArg::Stdio));
    assert_eq!(parse_debug_console("file:x"), Ok(SerialArg::File("x".into())));
    assert!(parse_debug_console("pty").is_err());
}

#[test]
fn what_firmware_alone_starts_needs_no_kernel() {
    assert!(Cli::try_parse_from(["rvmm", "run", "--bios", "b"]).is_ok());
    assert!(Cli::try_parse_from(["rvmm", "run", "--bios", "b", "--append", "a"]).is_err());
    assert!(Cli::try_parse_from(["rvmm", "run", "--boot-menu", "--initrd", "i"]).is_err());
    assert!(Cli::try_parse_from(["rvmm", "run", "--kernel", "k", "--boot-order", "c"]).is_err());
    assert!(Cli::try_parse_from(["rvmm", "run", "--kernel", "k", "--bios", "b", "--no-reboot"]).is_ok());
    assert!(Cli::try_parse_from(["rvmm", "run", "--kernel", "k", "--debugcon", "stdio"]).is_ok());
}

#[test]
fn verify_takes_an_optional_count() {
    let parse = |words: &[&str]| {
        let words = ["rvmm", "run", "--kernel", "k"].iter().chain(words);
        match Cli::try_parse_from(words).unwrap().command {
            Command::Run(args) => args,
            _ => unreachable!(),
        }
    };
    assert_eq!(parse(&[]).verify, None);
    assert_eq!(parse(&["--verify"]).verify, Some(0));
    assert_eq!(parse(&["--verify=50"]).verify, Some(50));
    assert_eq!(parse(&["--stats"]).stats, Some(StatsFormat::Table));
    assert_eq!(parse(&["--stats=json"]).stats, Some(StatsFormat::Json));
    assert_eq!(parse(&["--engine", "kvm"]).engine, PathBuf::from("/dev/kvm"));
    assert_eq!(parse(&["-m", "1G"]).memory, 1024);
}

#[test]
fn cpus() {
    use cpuid::{Model, Vendor, Wanted};
    assert_eq!(parse_cpu("32"), Ok(Wanted { model: Model::Bits32, vendor: Vendor::Intel }));
    assert_eq!(parse_cpu("pae,vendor=GenuineIntel"), Ok(Wanted { model: Model::Pae, vendor: Vendor::Intel }));
    assert_eq!(parse_cpu("64,vendor=AuthenticAMD"), Ok(Wanted { model: Model::Bits64, vendor: Vendor::Amd }));
    for text in ["", "16", "64,", "64,vendor=", "64,vendor=amd", "32,vendor=AuthenticAMD", "64,+apic"] {
        assert!(parse_cpu(text).is_err(), "{text}");
    }
}

#[test]
fn monitors_and_displays() {
    for text in ["/run/x", "unix:/run/x", "unix:/run/x,server,nowait", "unix:/run/x,server=on,wait=off"] {
        assert_eq!(text.parse(), Ok(MonitorPath("/run/x".into())));
    }
    assert!("unix:".parse::<MonitorPath>().is_err());
    let run = |words: &[&str]| match Cli::try_parse_from(["rvmm", "run"].iter().chain(words)).unwrap().command {
        Command::Run(args) => args,
        _ => unreachable!(),
    };
    assert_eq!(run(&[]).serials(), [SerialArg::Stdio]);
    assert_eq!(run(&["--display", "curses"]).serials(), [SerialArg::None]);
    assert_eq!(run(&["--display", "curses", "--serial", "pty"]).serials(), [SerialArg::Pty]);
    let two = ["--serial", "none", "--serial", "stdio"];
    assert_eq!(run(&two).serials(), [SerialArg::None, SerialArg::Stdio]);
    assert_eq!(run(&[]).debug_exit, 0x501);
}

#[test]
fn serial_ports() {
    for (text, meant) in [
        ("stdio", SerialArg::Stdio),
        ("pty", SerialArg::Pty),
        ("none", SerialArg::None),
        ("null", SerialArg::None),
        ("file=x=y", SerialArg::File("x=y".into())),
        ("file:x:y", SerialArg::File("x:y".into())),
    ] {
        assert_eq!(parse_serial(text), Ok(meant), "{text}");
    }
    for text in ["", "file=", "file", "pty=", "tty"] {
        assert!(parse_serial(text).is_err(), "{text}");
    }
}
