//! Bochs' display interface for modes beyond the VGA's: ports 1CE (index) and 1CF (data), version B0C5.

/// Registers, by index.
const ID: u16 = 0;
const XRES: u16 = 1;
const YRES: u16 = 2;
const BPP: u16 = 3;
const ENABLE: u16 = 4;
const BANK: u16 = 5;
const VIRT_WIDTH: u16 = 6;
const VIRT_HEIGHT: u16 = 7;
const X_OFFSET: u16 = 8;
const Y_OFFSET: u16 = 9;
const MEMORY_64K: u16 = 10;

/// [`ENABLE`]: the mode is on.
const ENABLED: u16 = 0x01;
/// [`ENABLE`]: the mode registers read as the largest values.
const GET_CAPABILITIES: u16 = 0x02;
/// [`ENABLE`]: the palette has eight bits a part.
const EIGHT_BIT_DAC: u16 = 0x20;
/// [`ENABLE`]: memory is kept when the mode is switched on.
const NO_CLEAR: u16 = 0x80;

const MAX_XRES: u16 = 16000;
const MAX_YRES: u16 = 12000;
const MAX_BPP: u16 = 32;

/// The interface's registers.
#[derive(Clone, Debug)]
pub struct Dispi {
    /// The register that the data port reaches.
    pub index: u16,
    id: u16,
    width: u16,
    height: u16,
    bpp: u16,
    enable: u16,
    bank: u16,
    virtual_width: u16,
    x_offset: u16,
    y_offset: u16,
    vram_size: usize,
}

impl Dispi {
    /// Switched off.
    pub fn new(vram_size: usize) -> Self {
        Dispi {
            index: 0,
            id: 0xB0C5,
            width: 0,
            height: 0,
            bpp: 8,
            enable: 0,
            bank: 0,
            virtual_width: 0,
            x_offset: 0,
            y_offset: 0,
            vram_size,
        }
    }

    /// A mode of this interface is on, and the VGA's registers do not matter.
    pub fn is_enabled(&self) -> bool {
        self.enable & ENABLED != 0
    }

    /// The palette has eight bits a part.
    pub fn has_eight_bit_dac(&self) -> bool {
        self.enable & EIGHT_BIT_DAC != 0
    }

    /// Bits of a pixel: 4 (in planes), 8, 15, 16, 24 or 32.
    pub fn bpp(&self) -> u16 {
        self.bpp
    }

    /// Pixels of a displayed line.
    pub fn width(&self) -> u32 {
        self.width.into()
    }

    /// Displayed lines.
    pub fn height(&self) -> u32 {
        self.height.into()
    }

    /// Where the window at A0000 begins in memory.
    pub fn bank_offset(&self) -> usize {
        usize::from(self.bank) << 16
    }

    /// Bytes of a line in memory; in planes: of all four.
    pub fn stride(&self) -> usize {
        usize::from(self.virtual_width) * self.bits() / 8
    }

    /// The byte of memory where the picture begins; in planes: of all four.
    pub fn start(&self) -> usize {
        usize::from(self.y_offset) * self.stride() + usize::from(self.x_offset) * self.bits() / 8
    }

    /// Pixels to the right of [`Dispi::start`] where the picture begins: in planes a byte is eight pixels.
    pub fn start_pixel(&self) -> u32 {
        if self.bpp == 4 {
            u32::from(self.x_offset) & 7
        } else {
            0
        }
    }

    /// Reads register `index`.
    pub fn read(&self, index: u16) -> u16 {
        let capabilities = self.enable & GET_CAPABILITIES != 0;
        match index {
            ID => self.id,
            XRES if capabilities => MAX_XRES,
            YRES if capabilities => MAX_YRES,
            BPP if capabilities => MAX_BPP,
            XRES => self.width,
            YRES => self.height,
            BPP => self.bpp,
            ENABLE => self.enable,
            BANK => self.bank,
            VIRT_WIDTH => self.virtual_width,
            VIRT_HEIGHT => u16::try_from(self.lines_in_memory()).unwrap_or(u16::MAX),
            X_OFFSET => self.x_offset,
            Y_OFFSET => self.y_offset,
            MEMORY_64K => u16::try_from(self.vram_size >> 16).unwrap_or(u16::MAX),
            _ => 0,
        }
    }

    /// Writes register `index`; returns how many bytes of memory this clears.
    pub fn write(&mut self, index: u16, value: u16) -> usize {
        match index {
            ID if (0xB0C0..=0xB0C5).contains(&value) => self.id = value,
            XRES => self.width = value,
            YRES => self.height = value,
            BPP => self.bpp = value,
            BANK => self.bank = value.min(u16::try_from((self.vram_size >> 16).saturating_sub(1)).unwrap_or(u16::MAX)),
            VIRT_WIDTH => self.virtual_width = value,
            X_OFFSET => self.x_offset = value,
            Y_OFFSET => self.y_offset = value,
            ENABLE => return self.write_enable(value),
            _ => {}
        }
        if self.is_enabled() {
            self.make_valid();
        }
        0
    }

    fn write_enable(&mut self, value: u16) -> usize {
        let was_enabled = self.is_enabled();
        self.enable = value;
        if !self.is_enabled() {
            self.bank = 0;
            return 0;
        }
        if was_enabled {
            return 0;
        }
        (self.virtual_width, self.x_offset, self.y_offset, self.bank) = (0, 0, 0, 0);
        self.make_valid();
        if value & NO_CLEAR != 0 {
            return 0;
        }
        usize::from(self.height) * self.stride()
    }

    fn bits(&self) -> usize {
        match self.bpp {
            15 => 16,
            bpp => bpp.into(),
        }
    }

    fn lines_in_memory(&self) -> usize {
        self.vram_size.checked_div(self.stride()).unwrap_or(0)
    }

    /// Makes a mode of the registers that fits into memory.
    fn make_valid(&mut self) {
        if !matches!(self.bpp, 4 | 8 | 15 | 16 | 24 | 32) {
            self.bpp = 8;
        }
        self.width = (self.width & !7).clamp(8, MAX_XRES);
        self.virtual_width = (self.virtual_width & !7).clamp(self.width, MAX_XRES);
        let lines = u16::try_from(self.lines_in_memory()).unwrap_or(u16::MAX);
        self.height = self.height.clamp(1, MAX_YRES).min(lines);
        self.x_offset = self.x_offset.min(self.virtual_width - self.width);
        self.y_offset = self.y_offset.min(lines - self.height);
    }
}
