//! Images as users have them, good and bad.

use std::fs;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::RwLock;

use super::testing::{filled, scratch, Scratch};
use super::*;

fn image(name: &str, content: &[u8]) -> Scratch {
    let path = scratch(name);
    fs::write(&path, content).unwrap();
    path
}

fn hard_disk(path: &Path, options: &str) -> Result<Box<dyn Disk>, OpenError> {
    let options: DiskOptions = format!("{}{options}", path.display()).parse().unwrap();
    open(&options, SECTOR)
}

fn sector(disk: &mut dyn Disk, lba: u64) -> Vec<u8> {
    let mut data = vec![0xAA; disk.sector_size() as usize];
    disk.read(lba, &mut data).unwrap();
    data
}

fn reason(result: Result<Box<dyn Disk>, OpenError>) -> Reason {
    match result {
        Ok(_) => panic!("it was opened"),
        Err(error) => error.reason,
    }
}

#[test]
fn what_was_written_is_read_and_durable() {
    let path = image("raw", &filled(1, 8));
    let mut disk = hard_disk(&path, "").unwrap();
    assert_eq!(disk.medium(), Medium { sectors: 8, read_only: false });
    disk.write(3, &filled(2, 2)).unwrap();
    disk.flush().unwrap();
    assert_eq!(sector(disk.as_mut(), 4), filled(2, 1));
    let expected = [filled(1, 3), filled(2, 2), filled(1, 3)].concat();
    assert_eq!(fs::read(&path).unwrap(), expected);
}

#[test]
fn sectors_that_are_not_there_are_refused() {
    let path = image("raw", &filled(1, 8));
    let mut disk = hard_disk(&path, "").unwrap();
    let mut data = filled(0, 2);
    for lba in [7, 8, u64::MAX, u64::MAX / 512] {
        assert!(matches!(disk.read(lba, &mut data), Err(DiskError::OutOfRange)));
        assert!(matches!(disk.write(lba, &data), Err(DiskError::OutOfRange)));
    }
    assert!(matches!(disk.read(0, &mut data[..511]), Err(DiskError::OutOfRange)));
}

#[test]
fn a_truncated_image_ends_in_zeros_and_may_grow_to_its_sector() {
    let path = image("truncated", &[7; 700]);
    let mut disk = hard_disk(&path, "").unwrap();
    assert_eq!(disk.sectors(), 2);
    let last = sector(disk.as_mut(), 1);
    assert_eq!((&last[..188], &last[188..]), (&[7; 188][..], &[0; 324][..]));
    disk.write(1, &filled(9, 1)).unwrap();
    assert_eq!(sector(disk.as_mut(), 1), filled(9, 1));
    assert_eq!(fs::metadata(&path).unwrap().len(), 1024);
}

#[test]
fn an_image_that_shrinks_has_bad_sectors() {
    let path = image("shrunk", &filled(1, 8));
    let mut disk = hard_disk(&path, "").unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1024).unwrap();
    let mut data = filled(0, 1);
    assert!(matches!(disk.read(5, &mut data), Err(DiskError::Read(_))));
    disk.read(1, &mut data).unwrap();
}

#[test]
fn a_read_only_image_stays_as_it_is() {
    let path = image("readonly", &filled(1, 8));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    let mut disk = hard_disk(&path, ",readonly=on").unwrap();
    assert!(disk.is_read_only());
    assert!(matches!(disk.write(0, &filled(2, 1)), Err(DiskError::ReadOnly)));
    disk.flush().unwrap();
    assert_eq!(fs::read(&path).unwrap(), filled(1, 8));
}

#[test]
fn a_snapshot_takes_writes_and_leaves_the_image() {
    let path = image("snapshot", &filled(1, 700));
    let mut disk = hard_disk(&path, ",snapshot=on").unwrap();
    disk.write(126, &filled(2, 4)).unwrap();
    disk.write(128, &filled(3, 128)).unwrap();
    disk.write(699, &filled(4, 1)).unwrap();
    disk.flush().unwrap();
    let mut all = filled(0, 700);
    disk.read(0, &mut all).unwrap();
    let expected = [filled(1, 126), filled(2, 2), filled(3, 128), filled(1, 443), filled(4, 1)].concat();
    assert!(all == expected);
    close(disk);
    assert_eq!(fs::read(&path).unwrap(), filled(1, 700));
}

#[test]
fn an_image_in_use_is_refused() {
    let path = image("used", &filled(1, 8));
    let writer = hard_disk(&path, "").unwrap();
    for options in ["", ",readonly=on", ",snapshot=on"] {
        let error = hard_disk(&path, options).err().unwrap();
        assert!(matches!(error.reason, Reason::InUse(_)), "{error}");
        assert!(error.hint().unwrap().contains("readonly=on"));
    }
    close(writer);
    let _reader = hard_disk(&path, ",readonly=on").unwrap();
    let _another = hard_disk(&path, ",snapshot=on").unwrap();
    assert!(matches!(reason(hard_disk(&path, "")), Reason::InUse(Access::Write)));
}

#[test]
fn bad_files_are_refused_with_a_reason() {
    assert!(matches!(reason(hard_disk(&scratch("absent"), "")), Reason::Open(_)));
    assert!(matches!(reason(hard_disk(&image("empty", &[]), "")), Reason::Empty));
    assert!(matches!(reason(hard_disk(Path::new("/dev/null"), "")), Reason::NoImage));
    assert!(matches!(reason(hard_disk(Path::new("/tmp"), ",readonly=on")), Reason::NoImage));
    let vmdk = hard_disk(&image("disk.vmdk", b"KDMV0123"), "").err().unwrap();
    assert!(matches!(vmdk.reason, Reason::Format(Format::Vmdk)));
    assert!(vmdk.hint().unwrap().contains("qemu-img convert -f vmdk -O raw"));
    assert!(matches!(reason(hard_disk(&image("bad.qcow2", b"QFI\xFB\0\0\0\x03"), "")), Reason::Qcow2(_)));
}

#[test]
fn cds_have_larger_sectors() {
    let path = image("cd.iso", &[5; 5000]);
    let mut disk = open(&DiskOptions::new(path.to_path_buf()).read_only(), CD_SECTOR).unwrap();
    assert_eq!(disk.medium(), Medium { sectors: 3, read_only: true });
    let last = sector(disk.as_mut(), 2);
    assert_eq!((&last[..904], &last[904..]), (&[5; 904][..], &[0; 1144][..]));
}

#[test]
fn a_full_host_is_an_error_and_not_the_end() {
    let Ok(file) = fs::OpenOptions::new().read(true).write(true).open("/dev/full") else {
        return;
    };
    // What the kernel says to a write without room, through the same calls.
    let error = file.write_all_at(&filled(0, 1), 0).map_err(DiskError::Write).unwrap_err();
    assert_eq!(error.failure(), crate::devices::block::Failure::Unwritable);
}

/// Until a new process has begun its program it holds what the tests beside it have open, locks included.
static BEGINNING: RwLock<()> = RwLock::new(());

fn begun(command: &mut Command) -> io::Result<Child> {
    let _alone = BEGINNING.write().unwrap();
    command.spawn()
}

/// Closes an image: who opens it now finds it unlocked.
fn close(disk: Box<dyn Disk>) {
    let _no_beginning = BEGINNING.read().unwrap();
    drop(disk);
}

/// qemu-img, where the host has it.
fn qemu_img(arguments: &[&str]) -> Option<std::process::Output> {
    let mut command = Command::new("qemu-img");
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    begun(&mut command).ok()?.wait_with_output().ok()
}

fn new_qcow2(size: &str, more: &[&str]) -> Option<Scratch> {
    let path = scratch("image.qcow2");
    let arguments = [&["create", "-q", "-f", "qcow2"], more, &[path.to_str().unwrap(), size]].concat();
    let made = qemu_img(&arguments)?;
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Some(path)
}

#[test]
fn qcow2_holds_what_was_written_and_is_sound() {
    let Some(path) = new_qcow2("64M", &[]) else { return };
    let mut disk = hard_disk(&path, "").unwrap();
    assert_eq!(disk.sectors(), 64 << 11);
    let mut expected = std::collections::BTreeMap::new();
    for step in 0..200u64 {
        let lba = step * 7919 % (64 << 11);
        disk.write(lba, &filled(step as u8, 1)).unwrap();
        expected.insert(lba, step as u8);
    }
    disk.flush().unwrap();
    let check = |path: &Path| {
        let checked = qemu_img(&["check", "-q", "-U", path.to_str().unwrap()]).unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    };
    check(&path);
    close(disk);
    check(&path);
    let raw = scratch("back.raw");
    let converted = qemu_img(&["convert", "-O", "raw", path.to_str().unwrap(), raw.to_str().unwrap()]).unwrap();
    assert!(converted.status.success());
    let raw = fs::File::open(&raw).unwrap();
    for (lba, byte) in expected {
        let mut data = filled(0, 1);
        raw.read_exact_at(&mut data, lba * 512).unwrap();
        assert_eq!(data, filled(byte, 1), "sector {lba}");
    }
}

#[test]
fn qcow2_snapshots_and_read_only_leave_the_file() {
    let Some(path) = new_qcow2("1M", &[]) else { return };
    let before = fs::read(&path).unwrap();
    let mut disk = hard_disk(&path, ",snapshot=on").unwrap();
    disk.write(9, &filled(9, 1)).unwrap();
    assert_eq!(sector(disk.as_mut(), 9), filled(9, 1));
    close(disk);
    let mut disk = hard_disk(&path, ",readonly=on").unwrap();
    assert_eq!(sector(disk.as_mut(), 9), filled(0, 1));
    assert!(matches!(disk.write(9, &filled(9, 1)), Err(DiskError::ReadOnly)));
    close(disk);
    assert!(fs::read(&path).unwrap() == before);
}

#[test]
fn qcow2_with_a_backing_file_is_refused() {
    let base = image("base.raw", &filled(1, 2048));
    let Some(path) = new_qcow2("1M", &["-F", "raw", "-b", base.to_str().unwrap()]) else { return };
    let error = hard_disk(&path, "").err().unwrap();
    assert!(matches!(error.reason, Reason::RefersTo(_)), "{error}");
    assert!(error.hint().unwrap().contains("qemu-img convert -f qcow2 -O raw"));
}

/// Names the image for the process that [`what_was_flushed_survives_kill`] kills.
const VICTIM: &str = "RVMM_TEST_VICTIM";

/// Not a test of its own: what the killed process does.
#[test]
fn victim_writes_and_is_killed() {
    let Ok(path) = std::env::var(VICTIM) else { return };
    let mut disk = hard_disk(Path::new(&path), "").unwrap();
    for lba in 0..500 {
        disk.write(lba * 7, &filled(lba as u8 | 1, 1)).unwrap();
    }
    disk.flush().unwrap();
    for lba in 0..500 {
        disk.write(lba * 7 + 1, &filled(0xEE, 1)).unwrap();
    }
    // SAFETY: no memory is involved.
    unsafe { libc::raise(libc::SIGKILL) };
}

fn kill_a_writer_of(path: &Path) {
    let mut victim = Command::new(std::env::current_exe().unwrap());
    victim.args(["--exact", "disk::tests::victim_writes_and_is_killed"]).env(VICTIM, path);
    let ended = begun(victim.stdout(Stdio::null())).unwrap().wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended), Some(libc::SIGKILL));
}

fn check_survivors(path: &Path) {
    let mut disk = hard_disk(path, "").unwrap();
    for lba in 0..500 {
        assert_eq!(sector(disk.as_mut(), lba * 7), filled(lba as u8 | 1, 1));
        // What was not flushed is there or not, as a whole.
        let other = sector(disk.as_mut(), lba * 7 + 1);
        assert!(other == filled(0, 1) || other == filled(0xEE, 1));
    }
}

#[test]
fn what_was_flushed_survives_kill() {
    let path = image("killed", &filled(0, 4000));
    kill_a_writer_of(&path);
    check_survivors(&path);
}

#[test]
fn a_qcow2_image_survives_kill() {
    for more in [&[][..], &["-o", "cluster_size=512"], &["-o", "compat=0.10"]] {
        let Some(path) = new_qcow2("4M", more) else { return };
        kill_a_writer_of(&path);
        let checked = qemu_img(&["check", path.to_str().unwrap()]).unwrap();
        // 3: leaked clusters, nothing worse.
        let (code, text) = (checked.status.code().unwrap(), String::from_utf8_lossy(&checked.stdout).into_owned());
        assert!(matches!(code, 0 | 3), "{text}");
        check_survivors(&path);
    }
}

#[test]
fn qemu_s_tools_and_rvmm_keep_each_other_out() {
    let Some(path) = new_qcow2("1M", &[]) else { return };
    let _writer = hard_disk(&path, "").unwrap();
    let info = qemu_img(&["info", path.to_str().unwrap()]).unwrap();
    assert!(!info.status.success());
    assert!(String::from_utf8_lossy(&info.stderr).contains("lock"));
}

#[test]
fn sparse_files_stay_sparse() {
    let path = image("sparse", &[]);
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1 << 30).unwrap();
    let mut disk = hard_disk(&path, "").unwrap();
    assert_eq!(sector(disk.as_mut(), 1_000_000), filled(0, 1));
    disk.write(2_000_000, &filled(1, 1)).unwrap();
    disk.flush().unwrap();
    assert!(fs::metadata(&path).unwrap().blocks() < 1000);
}
