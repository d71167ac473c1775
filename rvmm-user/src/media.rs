//! The images that are given on the command line, as drives of the machine.

use std::sync::{Arc, OnceLock, Weak};

use crate::cli::DiskArgs;
use crate::devices::atapi::Cdrom;
use crate::devices::block::{Completion, Request};
use crate::devices::floppy::media::Diskette;
use crate::devices::ide::ata::Ata;
use crate::devices::ide::drive::Drive;
use crate::devices::ide::geometry::{Geometry, Translation};
use crate::devices::ide::Place;
use crate::disk::options::DiskOptions;
use crate::disk::worker::{Notify, Worker};
use crate::disk::{self, Disk};
use crate::error::Error;
use crate::machine::diskettes::{Diskettes, MountedDiskette};
use crate::machine::drives::{Drives, Mounted, Server};
use crate::shared::Shared;

/// Where the CD-ROM drive is.
const CDROM: (usize, usize) = (1, 0);

/// What the disks' threads wake, once it is there. Not kept alive by them.
pub type Wake = Arc<OnceLock<Weak<Shared>>>;

impl Server for Worker {
    fn submit(&self, request: Request) {
        Worker::submit(self, request);
    }

    fn take_completion(&self) -> Option<Completion> {
        Worker::take_completion(self)
    }
}

/// Opens the images of diskettes. `None` if none is given.
pub fn mount_diskettes(args: &DiskArgs, wake: &Wake) -> Result<Option<Diskettes>, Error> {
    if args.floppy.len() > 2 {
        return Err(Error::DisketteDrives(args.floppy.len()));
    }
    let mut drives = [None, None];
    for (options, slot) in args.floppy.iter().zip(&mut drives) {
        let server = serve(options, disk::open(options, disk::SECTOR)?, wake)?;
        let diskette = Diskette::new(server.medium()).ok_or_else(|| Error::TooLargeDiskette(options.path.clone()))?;
        *slot = Some(MountedDiskette { diskette, server: Box::new(server) });
    }
    Ok(drives.iter().any(Option::is_some).then(|| Diskettes::new(drives)))
}

/// Opens the images of disks and starts a thread for each. `None` if none is given.
pub fn mount(args: &DiskArgs, wake: &Wake) -> Result<Option<Drives>, Error> {
    let places = [(0, 0), (0, 1), CDROM, (1, 1)];
    let free = places.into_iter().filter(|place| args.cdrom.is_none() || *place != CDROM);
    if args.disk.len() > free.clone().count() {
        return Err(Error::Drives(args.disk.len()));
    }
    let mut mounted = [[None, None], [None, None]];
    let mut put = |(channel, drive): (usize, usize), what: Mounted| {
        if let Some(slot) = mounted.get_mut(channel).and_then(|pair: &mut [Option<Mounted>; 2]| pair.get_mut(drive)) {
            *slot = Some(what);
        }
    };
    for (options, place) in args.disk.iter().zip(free) {
        put(place, disk(options, place, wake)?);
    }
    if let Some(path) = &args.cdrom {
        put(CDROM, cdrom(&DiskOptions::new(path).read_only(), wake)?);
    }
    let any = mounted.iter().flatten().any(Option::is_some);
    Ok(any.then(|| Drives::new(mounted)))
}

fn at((channel, drive): (usize, usize)) -> Place {
    Place { channel: channel as u8, drive: drive as u8 }
}

fn disk(options: &DiskOptions, place: (usize, usize), wake: &Wake) -> Result<Mounted, Error> {
    let mut image = disk::open(options, disk::SECTOR)?;
    let mut first = [0; disk::SECTOR as usize];
    // An image that cannot be read has the usual geometry; the guest meets the error.
    if image.read(0, &mut first).is_err() {
        first = [0; disk::SECTOR as usize];
    }
    let server = serve(options, image, wake)?;
    let medium = server.medium();
    let geometry = Geometry::guess(medium.sectors, &first);
    let translation = geometry.translation(&first);
    let drive = Drive::Disk(Ata::new(medium, geometry, at(place)));
    Ok(Mounted { drive, server: Some(Box::new(server)), translation })
}

fn cdrom(options: &DiskOptions, wake: &Wake) -> Result<Mounted, Error> {
    let server = serve(options, disk::open(options, disk::CD_SECTOR)?, wake)?;
    let drive = Drive::Cdrom(Cdrom::new(Some(server.medium()), at(CDROM)));
    Ok(Mounted { drive, server: Some(Box::new(server)), translation: Translation::None })
}

fn serve(options: &DiskOptions, image: Box<dyn Disk>, wake: &Wake) -> Result<Worker, Error> {
    let wake = Arc::clone(wake);
    let notify: Notify = Box::new(move || {
        if let Some(shared) = wake.get().and_then(Weak::upgrade) {
            shared.disk_served();
        }
    });
    let name = options.path.display().to_string();
    Worker::start(&name, image, notify).map_err(|source| Error::Host { what: "starting a disk's thread", source })
}
