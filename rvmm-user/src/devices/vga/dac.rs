//! The palette: 256 colours of three times six bits, or eight where Bochs' extension says so (IBM VGA manual, "Video Digital-to-Analog Converter").

/// The converter and its palette.
#[derive(Clone, Debug)]
pub struct Dac {
    palette: [[u8; 3]; 256],
    /// 3C6: which bits of a pixel reach the palette.
    pub mask: u8,
    read_index: u8,
    write_index: u8,
    /// 0 red, 1 green, 2 blue: what the next access of 3C9 is for.
    component: u8,
    reading: bool,
    /// A colour is written whole, with its third part.
    pending: [u8; 3],
}

impl Dac {
    /// All black.
    pub fn new() -> Self {
        Dac {
            palette: [[0; 3]; 256],
            mask: 0xFF,
            read_index: 0,
            write_index: 0,
            component: 0,
            reading: false,
            pending: [0; 3],
        }
    }

    /// Reads 3C7: 3 while the palette is being read, 0 while it is being written.
    pub fn state(&self) -> u8 {
        if self.reading {
            3
        } else {
            0
        }
    }

    /// Reads 3C8.
    pub fn write_index(&self) -> u8 {
        self.write_index
    }

    /// Writes 3C7: the colour to read.
    pub fn start_reading(&mut self, index: u8) {
        self.read_index = index;
        self.component = 0;
        self.reading = true;
    }

    /// Writes 3C8: the colour to write.
    pub fn start_writing(&mut self, index: u8) {
        self.write_index = index;
        self.component = 0;
        self.reading = false;
    }

    /// Reads 3C9.
    pub fn read(&mut self) -> u8 {
        let colour = self.colour(self.read_index);
        let value = colour.get(usize::from(self.component)).copied().unwrap_or(0);
        if self.step() {
            self.read_index = self.read_index.wrapping_add(1);
        }
        value
    }

    /// Writes 3C9.
    pub fn write(&mut self, value: u8) {
        if let Some(part) = self.pending.get_mut(usize::from(self.component)) {
            *part = value;
        }
        if self.step() {
            self.set(self.write_index, self.pending);
            self.write_index = self.write_index.wrapping_add(1);
        }
    }

    /// Sets a colour.
    pub fn set(&mut self, index: u8, colour: [u8; 3]) {
        if let Some(entry) = self.palette.get_mut(usize::from(index)) {
            *entry = colour;
        }
    }

    /// What each pixel value looks like, as RGB of eight bits each; `eight_bits`: the palette's parts have eight, not six.
    pub fn rgb(&self, eight_bits: bool) -> [[u8; 3]; 256] {
        let mut index = 0u8;
        [(); 256].map(|()| {
            let colour = self.colour(index & self.mask);
            index = index.wrapping_add(1);
            if eight_bits {
                colour
            } else {
                colour.map(|part| part << 2 | part >> 4 & 3)
            }
        })
    }

    fn colour(&self, index: u8) -> [u8; 3] {
        self.palette.get(usize::from(index)).copied().unwrap_or_default()
    }

    /// Goes to the next part; `true`: it was the last of a colour.
    fn step(&mut self) -> bool {
        self.component = (self.component + 1) % 3;
        self.component == 0
    }
}
